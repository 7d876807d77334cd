//! A backlog that drained gives its room back, without anything else being written.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test is a panic")]

use reveille_broker_store::suite::make;
use reveille_broker_store::{Embedded, Options, Store};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const MESSAGES: u64 = 120;

#[test]
fn a_drained_backlog_gives_its_room_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), Options::default()).unwrap();
    store.commit(make::batch([make::put_session(1)])).wait().unwrap();
    for number in 0..MESSAGES {
        store
            .commit(make::batch([make::enqueue(1, number, &make::message(number, noise(number)))]))
            .wait()
            .unwrap();
    }
    let full = bytes(directory.path());
    assert!(full > MESSAGES << 20, "{full}");
    store.commit(make::batch((0..MESSAGES - 1).map(|number| make::forget(1, number)))).wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while bytes(directory.path()) > full / 2 {
        assert!(Instant::now() < deadline, "{} of {full} bytes are still there", bytes(directory.path()));
        std::thread::yield_now();
    }
    assert_eq!(make::recover(&store).session(1).entries.len(), 1);
    let last =
        store.read(&[reveille_broker_core::message::MessageKey(MESSAGES - 1)]).unwrap().remove(0).unwrap();
    assert_eq!(last.payload[..], noise(MESSAGES - 1));
}

/// A mebibyte that does not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..1 << 17).flat_map(|_| next().to_le_bytes()).collect()
}

/// Bytes on disk; a file that vanishes meanwhile counts nothing.
fn bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    metadata.blocks() * 512 + below.map(|entry| bytes(&entry.path())).sum::<u64>()
}
