//! Measures the embedded store on this machine's disk: commits a second, filling and draining a queue, the room that
//! comes back, how long opening lasts.
//!
//! `cargo run --release -p reveille-broker-store --example store_bench -- [DIRECTORY]`
#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to report")]

use reveille_broker_core::change::Batch;
use reveille_broker_core::message::MessageKey;
use reveille_broker_store::suite::make;
use reveille_broker_store::{Commit, Embedded, Options, Store};
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PAYLOAD: usize = 256;
const MESSAGES: u64 = 200_000;
const BATCH: u64 = 1_024;
const READ: u64 = 64;

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = std::env::args().nth(1).map_or_else(|| scratch.path().join("store"), PathBuf::from);
    let store = timed("open a new store", || Embedded::open(&directory, Options::default()).unwrap());
    store.commit(make::batch([make::put_session(1)])).wait().unwrap();

    for (batch, outstanding, count) in
        [(1, 1, 500), (1, 2, 500), (1, 64, 20_000), (BATCH, 1, MESSAGES), (BATCH, 4, MESSAGES)]
    {
        let started = Instant::now();
        in_flight(
            outstanding,
            (0..count).step_by(batch as usize).map(|first| enqueue(first, batch.min(count - first))),
            &store,
        );
        report(
            &format!("enqueue {PAYLOAD} B, batches of {batch}, {outstanding} on their way"),
            count,
            started.elapsed(),
        );
        if count == MESSAGES {
            println!("{:60} {:>12}", "  on disk, full", mebibytes(&directory));
            println!("{:60} {:>12}", "  resident memory", resident());
        }
        let started = Instant::now();
        in_flight(
            outstanding,
            (0..count).step_by(batch as usize).map(|first| drain(&store, first, batch.min(count - first))),
            &store,
        );
        report(
            &format!("read and forget, batches of {batch}, {outstanding} on their way"),
            count,
            started.elapsed(),
        );
    }

    println!("{:60} {:>12}", "on disk, drained", mebibytes(&directory));
    for round in 1..=8 {
        fill(&store);
        in_flight(4, steps().map(|(first, count)| drain(&store, first, count)), &store);
        println!(
            "{:60} {:>12}",
            format!("  after filling and draining {round} more times"),
            mebibytes(&directory)
        );
    }
    in_flight(4, steps().map(|(_, count)| make::batch((0..count).map(|_| make::put_session(1)))), &store);
    println!("{:60} {:>12}", "  after 200,000 changes of one session", mebibytes(&directory));
    drop(store);
    let store = timed("open the drained store", || Embedded::open(&directory, Options::default()).unwrap());
    fill(&store);
    drop(store);
    let store = timed("open with 200,000 queued messages", || {
        Embedded::open(&directory, Options::default()).unwrap()
    });
    timed("recover 200,000 queued messages", || make::recover(&store));
    println!("{:60} {:>12}", "resident memory", resident());
}

fn steps() -> impl Iterator<Item = (u64, u64)> {
    (0..MESSAGES).step_by(BATCH as usize).map(|first| (first, BATCH.min(MESSAGES - first)))
}

fn fill(store: &Embedded) {
    in_flight(4, steps().map(|(first, count)| enqueue(first, count)), store);
}

fn enqueue(first: u64, count: u64) -> Batch {
    let change = |at: u64| make::enqueue(1, at, &make::message(at, payload(at)));
    make::batch((first..first + count).map(change))
}

/// Half text, half noise, as payloads are: neither all zeros nor incompressible.
fn payload(at: u64) -> Vec<u8> {
    let mut noise = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = |place: usize| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        if place.is_multiple_of(2) { b'x' } else { (noise >> 32) as u8 }
    };
    (0..PAYLOAD).map(&mut byte).collect()
}

/// What a session does that drains: reads bodies ahead, forgets what was acknowledged.
fn drain(store: &Embedded, first: u64, count: u64) -> Batch {
    for chunk in (first..first + count).step_by(READ as usize) {
        let keys: Vec<_> = (chunk..(chunk + READ).min(first + count)).map(MessageKey).collect();
        assert!(store.read(&keys).unwrap().iter().all(Option::is_some));
    }
    make::batch((first..first + count).map(|at| make::forget(1, at)))
}

fn in_flight(outstanding: usize, batches: impl Iterator<Item = Batch>, store: &Embedded) {
    let mut commits: VecDeque<Commit> = VecDeque::new();
    for batch in batches {
        if commits.len() == outstanding {
            commits.pop_front().unwrap().wait().unwrap();
        }
        commits.push_back(store.commit(batch));
    }
    commits.into_iter().for_each(|commit| commit.wait().unwrap());
}

fn timed<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    println!("{name:60} {:>9} ms", started.elapsed().as_millis());
    result
}

fn report(name: &str, count: u64, time: Duration) {
    println!("{name:60} {:>10.0}/s", count as f64 / time.as_secs_f64());
}

fn mebibytes(directory: &Path) -> String {
    format!("{} MiB", blocks(directory) / 2_048)
}

fn blocks(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    let below = if metadata.is_dir() {
        fs::read_dir(path).unwrap().map(|entry| blocks(&entry.unwrap().path())).sum()
    } else {
        0
    };
    metadata.blocks() + below
}

fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("unknown");
    line.trim().to_owned()
}
