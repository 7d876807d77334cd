//! A line a second while a load runs, so that nobody wonders whether it does.

use std::time::{Duration, Instant};

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Of one load.
pub struct Progress {
    total: u64,
    started: Instant,
    told: Instant,
    before: u64,
}

impl Progress {
    /// Begins now.
    pub fn new(total: u64) -> Self {
        Self { total, started: Instant::now(), told: Instant::now(), before: 0 }
    }

    /// So much is done.
    pub fn at(&mut self, done: u64) {
        let since = self.told.elapsed();
        if since >= INTERVAL {
            let rate = (done - self.before) as f64 / since.as_secs_f64();
            eprintln!("  {:4} s: {done} of {}, {rate:.0}/s", self.started.elapsed().as_secs(), self.total);
            (self.told, self.before) = (Instant::now(), done);
        }
    }
}
