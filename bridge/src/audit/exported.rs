//! The audit log as the file that `/v1/audit/export` gives, looked at without the server that wrote it.

use std::io::{self, BufRead, Read as _};

use super::{Broken, Kept, Link, fault};
use crate::apps::hex;

/// Longest line that is read, in bytes; records are far shorter.
const LINE_MAX: u64 = 64 * 1024;

/// A file whose records are what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many records it has.
    pub records: u64,
    /// The number of the first.
    pub first_seq: u64,
    /// The number of the newest.
    pub head_seq: u64,
    /// The newest record's hash.
    pub head_hash: String,
}

/// Why a file is no whole audit log.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// The system cannot read it.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
    /// There is nothing in it.
    #[error("the file has no record")]
    Empty,
    /// A line is none of an export.
    #[error("line {line} is no record of an audit log")]
    Line {
        /// Its number; the first is 1.
        line: u64,
    },
    /// The chain is broken.
    #[error("record {seq}: {why}")]
    Broken {
        /// The number of the first record that is not what it was.
        seq: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The chain is whole, and another one than it was.
    #[error("no record has the hash that was noted: the log was written anew, or ends before it")]
    OtherChain,
}

/// Looks at every record of a file and at its chain. Whoever noted the hash of a newest record earlier learns whether the log still
/// goes through it: a chain that was written anew from some record on is whole in itself.
///
/// # Errors
/// [`NotWhole`] with the first place that is not what it was.
pub fn verify_export(mut file: impl BufRead, noted: Option<&str>) -> Result<Whole, NotWhole> {
    let (mut last, mut whole): (Option<Link>, Option<Whole>) = (None, None);
    let (mut line, mut has_noted) = (0, noted.is_none());
    loop {
        let mut text = Vec::new();
        line += 1;
        if file.by_ref().take(LINE_MAX).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let kept = read(&text).ok_or(NotWhole::Line { line })?;
        // What the first is chained to was removed for its age, or never was.
        let before = last.unwrap_or(Link { seq: kept.seq.saturating_sub(1), hash: kept.prev });
        if let Some(Broken { seq, why }) = fault(before, &kept) {
            return Err(NotWhole::Broken { seq, why });
        }
        let head_hash = hex(&kept.hash);
        has_noted |= noted.is_some_and(|noted| noted.eq_ignore_ascii_case(&head_hash));
        let (records, first_seq) =
            whole.map_or((1, kept.seq), |so_far| (so_far.records + 1, so_far.first_seq));
        whole = Some(Whole { records, first_seq, head_seq: kept.seq, head_hash });
        last = Some(Link { seq: kept.seq, hash: kept.hash });
    }
    let whole = whole.ok_or(NotWhole::Empty)?;
    if has_noted { Ok(whole) } else { Err(NotWhole::OtherChain) }
}

/// `{"prev":"…","hash":"…","record":{…}}`: the record's bytes are those that were hashed, so they are not read and written anew.
fn read(line: &[u8]) -> Option<Kept> {
    let rest = line.strip_suffix(b"\n").unwrap_or(line).strip_prefix(b"{\"prev\":\"")?;
    let (prev, rest) = rest.split_at_checked(64)?;
    let (hash, rest) = rest.strip_prefix(b"\",\"hash\":\"")?.split_at_checked(64)?;
    let json = rest.strip_prefix(b"\",\"record\":")?.strip_suffix(b"}")?;
    let seq = serde_json::from_slice::<super::Record>(json).ok()?.seq;
    Some(Kept { seq, prev: unhex(prev)?, hash: unhex(hash)?, json: json.to_vec() })
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Record, chained};

    /// A log as the server writes it.
    fn log(records: u64) -> Vec<String> {
        let mut prev = [7; 32];
        let line = |seq| {
            let record = Record { seq, method: "PUT".to_owned(), ..Record::default() };
            let json = serde_json::to_string(&record).unwrap();
            let hash = chained(prev, json.as_bytes());
            let line =
                format!("{{\"prev\":\"{}\",\"hash\":\"{}\",\"record\":{json}}}\n", hex(&prev), hex(&hash));
            prev = hash;
            line
        };
        (41..41 + records).map(line).collect()
    }

    fn verify(lines: &[String], noted: Option<&str>) -> Result<Whole, String> {
        verify_export(lines.concat().as_bytes(), noted).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_whole_and_goes_through_what_was_noted_before() {
        let lines = log(5);
        let whole = verify(&lines, None).unwrap();
        assert_eq!((whole.records, whole.first_seq, whole.head_seq), (5, 41, 45));
        let earlier = verify(&lines[..3], None).unwrap().head_hash;
        assert_eq!(verify(&lines, Some(&earlier.to_uppercase())).unwrap(), whole);
        assert!(verify(&lines[..2], Some(&earlier)).unwrap_err().contains("noted"), "cut off before it");
    }

    #[test]
    fn the_first_place_that_is_not_what_it_was_is_named() {
        let lines = log(5);
        let changed = |at: usize, from: &str, to: &str| {
            let mut lines = lines.clone();
            lines[at] = lines[at].replace(from, to);
            lines
        };
        let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat();
        for (lines, wanted) in [
            (changed(2, "PUT", "GET"), "record 43: its text was changed"),
            (changed(2, "\"seq\":43", "\"seq\":44"), "record 43: it is missing"),
            (changed(3, "\"prev\":\"", "\"prev\":\"0"), "line 4 is no record of an audit log"),
            (without(1), "record 42: it is missing"),
            (changed(0, "}}", "}"), "line 1 is no record of an audit log"),
            (Vec::new(), "the file has no record"),
        ] {
            assert_eq!(verify(&lines, None).unwrap_err(), wanted);
        }
    }
}
