//! A plant on a screen: 10,000 topics at a high rate, a few dashboards that see all of it, QoS 0.

use super::{filter, nothing};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::traffic::Traffic;

/// Topics in all.
const TOPICS: usize = 10_000;
/// Gateways that publish them.
const GATEWAYS: usize = 20;
/// Screens.
const DASHBOARDS: usize = 5;

/// Messages shown a second, and how long each took.
pub fn dashboard(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let mut generator = Generator::new()?;
    let wanted = |at| Wanted::subscriber(format!("dashboard-{at}"), "plant/#".to_owned(), 0);
    generator.connect(broker.address(), DASHBOARDS, wanted, nothing)?;
    let topics = |gateway| (gateway..TOPICS).step_by(GATEWAYS).map(|at| filter("plant", at)).collect();
    let traffic = Traffic {
        topics: (0..GATEWAYS).map(topics).collect(),
        copies: DASHBOARDS as u64,
        qos: 0,
        messages: (arguments.messages / DASHBOARDS).max(1) as u64,
        ..arguments.traffic()
    };
    Ok(traffic.play(&mut generator, broker)?.figures())
}
