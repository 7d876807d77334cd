//! Torn and flipped bytes, foreign files, other processes, a full disk: an error or the durable part, never a panic,
//! never wrong data.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation of a test is a panic"
)]

use reveille_broker_core::message::MessageKey;
use reveille_broker_store::suite::make;
use reveille_broker_store::{Embedded, Options, Store, StoreError};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const BATCHES: u64 = 200;

fn open(directory: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(directory, Options::default())
}

/// Batch n puts message n into the queue; its payload is n, many times.
fn fill(directory: &Path) {
    let store = open(directory).unwrap();
    store.commit(make::batch([make::put_session(1)])).wait().unwrap();
    for number in 0..BATCHES {
        store
            .commit(make::batch([make::enqueue(1, number, &make::message(number, vec![number as u8; 100]))]))
            .wait()
            .unwrap();
    }
}

/// How many of the first messages are there. There is no gap, and each says what was written.
fn prefix(store: &Embedded) -> u64 {
    let contents = make::recover(store);
    let Some(session) = contents.sessions.first() else {
        return 0;
    };
    let keys: Vec<_> = session.entries.iter().map(|entry| entry.message).collect();
    assert_eq!(keys, (0..keys.len() as u64).map(MessageKey).collect::<Vec<_>>());
    for (key, body) in keys.iter().zip(store.read(&keys).unwrap()) {
        assert_eq!(body.unwrap().payload[..], [key.0 as u8; 100]);
    }
    keys.len() as u64
}

fn journal(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("engine")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max().unwrap()
}

/// Bytes of the journal that hold something.
fn written_length(journal: &Path) -> u64 {
    let bytes = fs::read(journal).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_torn_journal_gives_back_a_prefix_and_takes_new_batches() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    fill(&whole);
    let length = written_length(&journal(&whole));
    let mut seen = Vec::new();
    for part in [0, 1, 3, 7, 11, 13, 15] {
        let torn = scratch.path().join(format!("torn-{part}"));
        copy(&whole, &torn);
        File::options().write(true).open(journal(&torn)).unwrap().set_len(length * part / 16 + part).unwrap();
        let store = open(&torn).unwrap();
        let found = prefix(&store);
        store.commit(make::batch([make::put_session(1), make::forget(1, 0)])).wait().unwrap();
        drop(store);
        let entries = make::recover(&open(&torn).unwrap()).session(1).entries.len() as u64;
        assert_eq!(entries, found.saturating_sub(1), "cut to {part} of 16");
        seen.push(found);
    }
    assert!(seen.is_sorted() && seen.first() < seen.last(), "{seen:?}");
}

#[test]
fn a_flipped_byte_of_the_journal_is_an_error_or_gives_back_a_prefix() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    fill(&whole);
    let length = written_length(&journal(&whole));
    let (mut refused, mut opened) = (0, 0);
    for flip in 0..24_u64 {
        let damaged = scratch.path().join("damaged");
        copy(&whole, &damaged);
        let file = File::options().read(true).write(true).open(journal(&damaged)).unwrap();
        let (at, mut byte) = (length * (2 * flip + 1) / 48 + flip % 7, [0]);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << (flip % 8)], at).unwrap();
        match open(&damaged) {
            Ok(store) => {
                assert!(prefix(&store) <= BATCHES);
                opened += 1;
            }
            Err(StoreError::Corrupt(_) | StoreError::NewerFormat { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
    assert_eq!(refused + opened, 24);
    assert!(refused > 0, "a flip inside a value is found by its checksum");
}

#[test]
fn a_directory_of_a_newer_release_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    let format = directory.path().join("FORMAT");
    fs::write(&format, "reveille broker store 2\n").unwrap();
    let error = open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::NewerFormat { found: 2, known: 1 }), "{error}");
    assert!(error.to_string().contains("newer release"), "{error}");
    fs::write(&format, "reveille broker store 1\n").unwrap();
    assert_eq!(prefix(&open(directory.path()).unwrap()), BATCHES);
}

#[test]
fn a_directory_opens_once_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(StoreError::Locked)));
    drop(store);
    assert!(open(directory.path()).is_ok());
}

#[test]
fn a_place_that_cannot_hold_a_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(open(&file), Err(StoreError::Io(_))));
}

#[test]
fn below_the_reserve_new_messages_are_refused_and_queues_still_drain() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    let free = free_space(directory.path());
    // Between the reserve and half of it, whatever others write meanwhile.
    let scarce = Options { free_space_min: free + free / 2, ..Options::default() };
    let store = Embedded::open(directory.path(), scarce).unwrap();
    let enqueue = || make::batch([make::enqueue(1, BATCHES, &make::message(BATCHES, "x"))]);
    assert!(matches!(store.commit(enqueue()).wait(), Err(StoreError::Full)));
    assert!(matches!(
        store.commit(make::batch([make::retain(&make::message(1, "x"))])).wait(),
        Err(StoreError::Full)
    ));
    store.commit(make::batch([make::forget(1, BATCHES - 1), make::announce(1, "acked")])).wait().unwrap();
    assert_eq!(prefix(&store), BATCHES - 1);
    drop(store);
    let none = Options { free_space_min: free * 4, ..Options::default() };
    let store = Embedded::open(directory.path(), none).unwrap();
    assert!(matches!(store.commit(make::batch([make::forget(1, 0)])).wait(), Err(StoreError::Full)));
    assert_eq!(prefix(&store), BATCHES - 1);
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!(prefix(&store), BATCHES - 1);
    assert!(store.commit(enqueue()).wait().is_ok());
}

fn free_space(directory: &Path) -> u64 {
    let stat = rustix::fs::statvfs(directory).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// A file system of its own, small enough to be filled; unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"]).arg(place.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_acknowledged_and_writing_goes_on_when_room_is_back() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: the full-disk test needs the right to mount a tmpfs");
        return;
    };
    let directory = disk.0.path().join("store");
    let ballast = [1, 2].map(|number| disk.0.path().join(format!("ballast-{number}")));
    ballast.iter().for_each(|file| fs::write(file, vec![1; 24 << 20]).unwrap());
    // Without a reserve, so that the engine itself meets the end of the disk.
    let options = || Options { free_space_min: 0, ..Options::default() };
    let store = Embedded::open(&directory, options()).unwrap();
    store.commit(make::batch([make::put_session(1)])).wait().unwrap();

    let acknowledged = fill_until_refused(&store, 0);
    assert!(acknowledged > 50, "{acknowledged}");
    assert_whole(&store, acknowledged);
    assert!(matches!(commit_one(&store, acknowledged), Err(StoreError::Full)), "still full");
    assert_whole(&store, acknowledged);

    fs::remove_file(&ballast[0]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = commit_one(&store, acknowledged) {
        assert!(matches!(error, StoreError::Full), "{error}");
        assert!(Instant::now() < deadline, "room is back, but the store is not");
        std::thread::yield_now();
    }
    assert_whole(&store, acknowledged + 1);

    let acknowledged = fill_until_refused(&store, acknowledged + 1);
    assert_whole(&store, acknowledged);
    drop(store);
    fs::remove_file(&ballast[1]).unwrap();
    assert_whole(&Embedded::open(&directory, options()).unwrap(), acknowledged);
}

fn commit_one(store: &Embedded, number: u64) -> Result<(), StoreError> {
    let body = make::message(number, noise(number));
    store.commit(make::batch([make::enqueue(1, number, &body)])).wait()
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..64 << 10).map(|_| next()).collect()
}

/// The number of the first message that was refused.
fn fill_until_refused(store: &Embedded, mut number: u64) -> u64 {
    loop {
        match commit_one(store, number) {
            Ok(()) => number += 1,
            Err(StoreError::Full) => return number,
            Err(other) => panic!("message {number}: {other}"),
        }
    }
}

fn assert_whole(store: &Embedded, acknowledged: u64) {
    let entries = make::recover(store).session(1).entries.len() as u64;
    assert_eq!(entries, acknowledged);
    for number in [0, acknowledged / 2, acknowledged - 1] {
        let body = store.read(&[MessageKey(number)]).unwrap().remove(0).unwrap();
        assert_eq!(body.payload[..], noise(number), "message {number}");
    }
}
