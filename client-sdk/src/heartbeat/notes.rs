//! What was learned, on disk: a line of text for each network, replaced as a whole by an atomic rename.
//!
//! ```text
//! reveille heartbeat 1
//! late 61 9 2 0 0 0
//! net=4g,46000;lo=300;hi=480;deaths=2;used=20783;died=20780
//! ```
//! It may be lost or damaged without harm: then it is learned again. So nothing is synced, and lines that do not parse
//! are skipped.

use super::{Day, Gap, Learner, Network, Record};
use crate::disk::replaced;
use reveille_proto::heartbeat::{Bracket, Lateness};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};
use tokio::task::{JoinHandle, spawn_blocking};

const HEADER: &str = "reveille heartbeat 1";
/// A larger file is none of ours.
const FILE_MAX: u64 = 65_536;

/// The file and the writing of it. Ends what it has begun when it is dropped: a write on a blocking thread runs to its end.
#[derive(Debug)]
pub(crate) struct Notes {
    path: PathBuf,
    written: String,
    writing: Option<JoinHandle<()>>,
}

impl Notes {
    /// Reads what is there into the learner.
    pub fn open(path: &Path, learner: &mut Learner) -> Self {
        let text = read(path).unwrap_or_default();
        let (records, lateness) = parse(&text);
        learner.remember(records, lateness);
        Self { path: path.to_owned(), written: text, writing: None }
    }

    /// Writes what has changed, unless the last writing still runs: then the next call does.
    pub fn keep(&mut self, learner: &Learner) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let text = print(learner);
        if text == self.written {
            return;
        }
        self.written.clone_from(&text);
        let path = self.path.clone();
        self.writing = Some(spawn_blocking(move || write(&path, &text)));
    }

    /// Writes what has changed and returns when it is done.
    pub async fn close(mut self, learner: &Learner) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await; // a panic in it is reported by the runtime
        }
        self.keep(learner);
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_MAX {
        return Ok(String::new());
    }
    fs::read_to_string(path)
}

fn write(path: &Path, text: &str) {
    if let Err(error) = replaced(path, text.as_bytes()) {
        tracing::warn!(%error, "what was learned about networks could not be kept");
    }
}

fn print(learner: &Learner) -> String {
    let (records, lateness) = learner.memory();
    let counts: Vec<String> = lateness.counts().iter().map(u16::to_string).collect();
    let mut text = format!("{HEADER}\nlate {}\n", counts.join(" "));
    for (network, Record { bracket, used, died }) in records {
        let _ = write!(text, "net={network};lo={};used={};died={}", bracket.lo.0, used.0, died.0); // a String takes it
        if let Some(hi) = bracket.hi {
            let _ = write!(text, ";hi={};deaths={}", hi.0, bracket.deaths);
        }
        text.push('\n');
    }
    text
}

fn parse(text: &str) -> (BTreeMap<Network, Record>, Lateness) {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Default::default();
    }
    let (mut records, mut lateness) = (BTreeMap::new(), Lateness::default());
    for line in lines {
        if let Some(counts) = line.strip_prefix("late ").and_then(counts) {
            lateness = Lateness::from_counts(counts);
        } else if let Some((network, record)) = record(line) {
            records.insert(network, record);
        }
    }
    (records, lateness)
}

fn counts(text: &str) -> Option<[u16; 6]> {
    let counts: Option<Vec<u16>> = text.split(' ').map(|count| count.parse().ok()).collect();
    counts?.try_into().ok()
}

fn record(line: &str) -> Option<(Network, Record)> {
    let mut network = None;
    let (mut record, mut hi) = (Record::default(), None);
    for field in line.split(';') {
        let (name, value) = field.split_once('=')?;
        match name {
            "net" => network = Some(Network::parse(value)?),
            "lo" => record.bracket.lo = Gap(value.parse().ok()?),
            "hi" => hi = Some(Gap(value.parse().ok()?)),
            "deaths" => record.bracket.deaths = value.parse().ok()?,
            "used" => record.used = Day(value.parse().ok()?),
            "died" => record.died = Day(value.parse().ok()?),
            _ => {}
        }
    }
    let Bracket { lo, deaths, .. } = record.bracket;
    record.bracket.hi = hi.filter(|hi| *hi > lo && deaths > 0);
    record.bracket.deaths = if record.bracket.hi.is_some() { deaths } else { 0 };
    Some((network?, record))
}

#[cfg(test)]
mod tests {
    use super::super::{Heartbeat, Label, Radio};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn learned(events: &[(u8, bool, u16)]) -> Learner {
        let mut learner = Heartbeat::beginner();
        for (at, lived, gap) in events {
            let label = Label::parse(&format!("{}", at % 40)).unwrap_or_default();
            learner.arrive(&Network { radio: Radio::G4, label }, Day(u32::from(*at)));
            learner.late(Duration::from_secs(u64::from(*at)));
            if *lived {
                learner.survived(Gap(*gap));
            } else {
                learner.died(Gap(*gap));
            }
        }
        learner
    }

    proptest! {
        #[test]
        fn what_is_kept_is_remembered_doubts_aside(events: Vec<(u8, bool, u16)>) {
            let learner = learned(&events);
            let (records, lateness) = parse(&print(&learner));
            let (mut kept, kept_lateness) = (learner.memory().0.clone(), learner.memory().1);
            kept.values_mut().for_each(|record| record.bracket.doubt = None);
            prop_assert_eq!(records, kept);
            prop_assert_eq!(lateness, kept_lateness);
        }

        #[test]
        fn no_file_stops_a_client(text: String, line in "net=[a-z0-9,;=]{0,60}") {
            let _ = parse(&text);
            let (records, _) = parse(&format!("{HEADER}\nlate x\n{line}\n"));
            prop_assert!(records.values().all(|record| record.bracket.hi.is_none_or(|hi| hi > record.bracket.lo)));
        }
    }

    #[tokio::test]
    #[allow(clippy::unwrap_used, reason = "a test that cannot prepare its files must fail")]
    async fn a_client_that_comes_back_knows_its_networks_and_a_foreign_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heartbeat");
        let learner = learned(&[(1, true, 300), (1, false, 480), (2, true, 900)]);
        let mut nobody = Heartbeat::beginner();
        Notes::open(&path, &mut nobody).close(&learner).await;
        let mut again = Heartbeat::beginner();
        Notes::open(&path, &mut again);
        assert_eq!(again.memory(), learner.memory());
        fs::write(&path, "reveille heartbeat 9\nnet=4g;lo=900;used=1;died=0\n").unwrap();
        Notes::open(&path, &mut again);
        assert!(again.memory().0.is_empty());
    }
}
