//! What was acknowledged is there after `kill -9`, and no batch is there by halves.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation of a test is a panic"
)]

use reveille_broker_core::change::{Batch, Change};
use reveille_broker_core::message::{MessageKey, SessionKey};
use reveille_broker_store::suite::make;
use reveille_broker_store::{Commit, Embedded, Options, Store};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Names the directory in the child process.
const CHILD: &str = "REVEILLE_STORE_KILL_TEST_DIRECTORY";

const KILLS: u64 = 16;

/// Messages that stay queued; older ones are forgotten, so that killing meets both.
const KEPT: u64 = 40;

#[test]
fn nothing_acknowledged_is_lost_by_kill_nine_and_batches_stay_whole() {
    if let Some(directory) = std::env::var_os(CHILD) {
        child(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut first, mut acknowledged_in_all) = (0, 0);
    for kill in 0..KILLS {
        // At different moments: after different numbers of acknowledged batches, some of them before the next write.
        let acknowledged = run_and_kill(directory.path(), 1 + kill * kill * 3 % 97);
        let store = Embedded::open(directory.path(), Options::default()).unwrap();
        assert_eq!(store.boot(), 2 * kill + 2, "every opening counts, the killed one too");
        let found = check(&store);
        assert!(found >= acknowledged, "batch {acknowledged} was acknowledged, the last found is {found}");
        acknowledged_in_all += acknowledged + 1 - first;
        first = found + 1;
    }
    eprintln!("{KILLS} kills, {acknowledged_in_all} acknowledged batches, none lost, none torn");
    assert!(acknowledged_in_all >= KILLS);
}

/// The number of the last batch that the child said was acknowledged.
fn run_and_kill(directory: &Path, after: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_acknowledged_is_lost_by_kill_nine_and_batches_stay_whole", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let seen: Vec<_> = lines.by_ref().filter_map(acknowledged).take(after as usize).collect();
    assert_eq!(seen.len() as u64, after, "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still said before it died counts too.
    lines.filter_map(acknowledged).last().unwrap_or(seen[seen.len() - 1])
}

/// The number in a line of the child; none in a line that death cut off.
fn acknowledged(line: String) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.strip_suffix('.')?.parse().ok()
}

/// Commits batch after batch, several on their way, says which are acknowledged, and never ends.
fn child(directory: &Path) -> ! {
    let store = Embedded::open(directory, Options::default()).unwrap();
    let contents = make::recover(&store);
    let mut number = match contents.sessions.first() {
        Some(session) => session.record.epoch.0 + 1,
        None => 0,
    };
    let mut commits: VecDeque<(u64, Commit)> = VecDeque::new();
    loop {
        commits.push_back((number, store.commit(batch(number))));
        number += 1;
        if commits.len() > 3 {
            let (number, commit) = commits.pop_front().unwrap();
            commit.wait().unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {number}.").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Batch n says n at five places: two records, two queues, one of them with a body of its own, a retained message.
fn batch(number: u64) -> Batch {
    let shared = make::message(2 * number, format!("shared {number}"));
    let own = make::message(2 * number + 1, vec![number as u8; (number * 37 % 20_000) as usize]);
    let mut changes = vec![
        put(1, number),
        make::enqueue(1, number, &shared),
        put(2, number),
        make::enqueue(2, 2 * number, &shared),
        make::enqueue(2, 2 * number + 1, &own),
        make::retain(&shared),
    ];
    if let Some(old) = number.checked_sub(KEPT) {
        changes.extend([make::forget(1, old), make::forget(2, 2 * old), make::forget(2, 2 * old + 1)]);
    }
    make::batch(changes)
}

fn put(session: u64, number: u64) -> Change {
    let record = Box::new(make::record(session, number));
    Change::PutSession { session: SessionKey(session), record }
}

/// The last batch of which anything is there; all of it must be, and all before it.
fn check(store: &Embedded) -> u64 {
    let contents = make::recover(store);
    let last = contents.session(1).record.epoch.0;
    assert_eq!(contents.session(2).record.epoch.0, last);
    let first = (last + 1).saturating_sub(KEPT);
    let seqs =
        |session| contents.session(session).entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>();
    assert_eq!(seqs(1), (first..=last).collect::<Vec<_>>());
    assert_eq!(seqs(2), (2 * first..=2 * last + 1).collect::<Vec<_>>());
    assert_eq!(contents.retained[0].payload[..], *format!("shared {last}").as_bytes());
    let keys: Vec<_> = (2 * first..=2 * last + 1).map(MessageKey).collect();
    for (key, body) in keys.iter().zip(store.read(&keys).unwrap()) {
        let (number, body) = (key.0 / 2, body.unwrap());
        match key.0 % 2 {
            0 => assert_eq!(body.payload[..], *format!("shared {number}").as_bytes()),
            _ => assert_eq!(body.payload.len() as u64, number * 37 % 20_000),
        }
    }
    last
}
