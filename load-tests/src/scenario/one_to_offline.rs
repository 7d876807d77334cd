//! One message for everyone who sleeps: its payload is written once, whatever their number.

use super::park;
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::traffic::Traffic;

const TOPIC: &str = "通知/全部";

/// Messages that are published, one after the other.
const MESSAGES: u64 = 3;

/// How long until the message is acknowledged, and what that cost.
pub fn one_to_offline(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let sessions = arguments.connections;
    let wanted = |at| Wanted {
        client_id: format!("asleep-{at}"),
        is_clean: false,
        filters: vec![(TOPIC.to_owned(), 1)],
    };
    park(broker.address(), sessions, wanted)?;
    let (rss, disk) = (broker.rss(), broker.disk_bytes());
    let mut generator = Generator::new()?;
    let traffic = Traffic {
        topics: vec![vec![TOPIC.to_owned()]],
        copies: 0,
        qos: 1,
        messages: MESSAGES,
        window: 1,
        rate: None,
        ..arguments.traffic()
    };
    let outcome = traffic.play(&mut generator, broker)?;
    let receivers = (sessions as u64 * MESSAGES) as f64;
    Ok(vec![
        ("seconds until acknowledged", outcome.elapsed.as_secs_f64() / MESSAGES as f64),
        ("broker CPU seconds per message", outcome.cpu / MESSAGES as f64),
        ("RSS bytes per receiver", (broker.rss() - rss) / receivers),
        ("disk bytes per receiver", broker.disk_bytes().saturating_sub(disk) as f64 / receivers),
    ])
}
