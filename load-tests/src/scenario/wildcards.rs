//! Many topics, and subscribers with wildcards at different levels: what matching costs.

use super::nothing;
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::traffic::Traffic;

/// Buildings; each has floors, each floor has rooms, each room two sensors.
const BUILDINGS: usize = 10;
const FLOORS: usize = 10;
const ROOMS: usize = 50;
const SENSORS: [&str; 2] = ["temperature", "湿度"];

/// Messages received a second. Each is received by three: who follows its building, its floor, its sensor.
pub fn wildcards(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let mut filters: Vec<String> = (0..BUILDINGS).map(|building| format!("b/{building}/#")).collect();
    filters.extend((0..BUILDINGS * FLOORS).map(|at| format!("b/{}/{}/+/+", at % BUILDINGS, at / BUILDINGS)));
    filters.extend(SENSORS.map(|sensor| format!("b/+/+/+/{sensor}")));
    // Exact filters that match nothing of the load, as every broker has.
    filters.extend((0..1000).map(|at| format!("b/{at}/other")));
    let mut generator = Generator::new()?;
    let wanted = |at: usize| {
        let filter = filters.get(at).cloned().unwrap_or_default();
        Wanted::subscriber(format!("subscriber-{at}"), filter, arguments.qos)
    };
    generator.connect(broker.address(), filters.len(), wanted, nothing)?;
    let topic = |at: usize| {
        let room = at / (BUILDINGS * FLOORS) % ROOMS;
        let sensor = SENSORS.get(at % SENSORS.len()).copied().unwrap_or_default();
        format!("b/{}/{}/{room}/{sensor}", at % BUILDINGS, at / BUILDINGS % FLOORS)
    };
    let each = BUILDINGS * FLOORS * ROOMS / arguments.connections.max(1);
    let topics_of = |publisher: usize| (0..each).map(|at| topic(publisher * each + at)).collect();
    let traffic = Traffic {
        topics: (0..arguments.connections).map(topics_of).collect(),
        copies: 3,
        messages: (arguments.messages / 3).max(1) as u64,
        ..arguments.traffic()
    };
    Ok(traffic.play(&mut generator, broker)?.figures())
}
