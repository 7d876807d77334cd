//! The resident memory of a process, looked at again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks. Memory that comes and goes within it was not needed for long.
const PAUSE: Duration = Duration::from_millis(20);

pub struct Watch {
    is_over: Arc<AtomicBool>,
    looking: JoinHandle<u64>,
}

impl Watch {
    pub fn start(process: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let looking = thread::spawn(move || {
            let mut peak = 0;
            while !over.load(Ordering::Relaxed) {
                peak = resident(process).max(peak);
                thread::park_timeout(PAUSE);
            }
            peak
        });
        Self { is_over, looking }
    }

    /// The most that was seen, in bytes.
    pub fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.looking.thread().unpark();
        self.looking.join().unwrap()
    }
}

/// Resident bytes now; 0 when it is gone.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

pub fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}
