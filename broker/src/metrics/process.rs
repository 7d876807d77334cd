//! What the system knows about this process, under the names that Prometheus' own clients use.

use super::text::{Row, counter_f64, gauge};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clock ticks in a second as Linux reports processor time, whatever its own clock does.
const TICKS_PER_S: f64 = 100.0;

/// Reads `/proc` when it is asked.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let rows = [
            ("process_resident_memory_bytes", "Memory in RAM", resident_bytes()),
            ("process_open_fds", "Open files, each connection is one", open_files()),
            ("process_max_fds", "Open files that the system allows", open_files_max()),
            (
                "process_start_time_seconds",
                "When the process started, in seconds since 1970",
                Some(started_s()),
            ),
        ];
        for (name, help, value) in rows {
            if let Some(value) = value {
                gauge(&mut encoder, &Row::plain(name, help, value))?;
            }
        }
        if let Some(seconds) = processor_seconds() {
            counter_f64(&mut encoder, "process_cpu_seconds", "Processor time used", seconds)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Newer kernels say it in the size of the directory; listing a million entries would take half a second.
fn open_files() -> Option<u64> {
    let directory = Path::new("/proc/self/fd");
    match std::fs::metadata(directory).ok()?.len() {
        0 => Some(std::fs::read_dir(directory).ok()?.count() as u64),
        count => Some(count),
    }
}

fn open_files_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// The first call is made at the start.
pub(crate) fn started_s() -> u64 {
    static STARTED: OnceLock<u64> = OnceLock::new();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    *STARTED.get_or_init(now)
}

/// Fields 14 and 15 of `/proc/self/stat`; the second one may hold spaces, and ends with the last parenthesis.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |at: usize| fields.split_whitespace().nth(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_this_process_uses() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(open_files().unwrap() >= 3);
        assert!(open_files_max().unwrap() > 3);
        assert!(processor_seconds().unwrap() >= 0.0);
    }
}
