//! Persistent sessions whose clients are away, with one subscription each: what a sleeping phone costs.

use super::{filter, park};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::Wanted;
use crate::report::Figures;
use std::time::{Duration, Instant};

/// What is on its way to the disk has arrived by then, and caches have their size.
const SETTLE: Duration = Duration::from_secs(2);

/// Resident bytes per parked session, and how many are parked in a second.
pub fn parked(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let count = arguments.connections;
    let wanted = |at| Wanted {
        client_id: format!("parked-{at:08}"),
        is_clean: false,
        filters: vec![(filter("parked", at), 1)],
    };
    let (rss, started) = (broker.rss(), Instant::now());
    park(broker.address(), count, wanted)?;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    Ok(vec![
        ("RSS bytes per parked session", (broker.rss() - rss) / count as f64),
        ("sessions made and parked/s", rate),
        ("disk bytes per parked session", broker.disk_bytes() as f64 / count as f64),
    ])
}
