//! One publisher, many subscribers of one topic.

use super::nothing;
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::sources::bounded;
use crate::traffic::Traffic;

/// In ASCII: rumqttd 0.20 ends when a topic begins with another letter.
const TOPIC: &str = "broadcast";

/// Messages received a second by all subscribers, and per second of the broker's processor time.
pub fn fan_out(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let count = bounded(arguments.connections);
    let mut generator = Generator::new()?;
    let wanted = |at| Wanted::subscriber(format!("subscriber-{at}"), TOPIC.to_owned(), arguments.qos);
    generator.connect(broker.address(), count, wanted, nothing)?;
    let traffic = Traffic {
        topics: vec![vec![TOPIC.to_owned()]],
        copies: count as u64,
        messages: (arguments.messages / count.max(1)).max(1) as u64,
        ..arguments.traffic()
    };
    Ok(traffic.play(&mut generator, broker)?.figures())
}
