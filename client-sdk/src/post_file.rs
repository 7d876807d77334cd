//! Posted messages on disk until the broker has them: an append-only file, shortened by an atomic rename.
//!
//! ```text
//! header  "RVLPOST\x01"                                                         8 bytes
//! record  length of the rest (4)  CRC-32 of the rest (4)  kind (1)  body         big endian
//!   kind 1, posted:  id (16)  posted at, ms since 1970 (8)  topic  title  body  collapse key  strategy  ttl  payload
//!   kind 2, done:    id (16)
//! ```
//! Texts and payload have their length (4 bytes) before them, an absent one the length `0xFFFF_FFFF`; an absent ttl is
//! `0xFFFF_FFFF` too. The first record that is cut or damaged ends the file: it was being written when the power
//! went, so nobody was told that it is kept. A file that is no such file is set aside as `<name>.unreadable`.

use crate::disk::{FileError, crc32, open_locked, replaced, start_anew, sync_directory};
use crate::inbox::UnixMillis;
use crate::publisher::{PushHints, Strategy};
use bytes::Bytes;
use reveille_proto::ids::MessageId;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HEADER: &[u8; 8] = b"RVLPOST\x01";
const POSTED: u8 = 1;
const DONE: u8 = 2;
/// Length of a text that is absent, and a ttl that is absent.
const ABSENT: u32 = u32::MAX;
/// Done messages may fill so much of the file before it is shortened.
const GARBAGE_MAX: u64 = 256 * 1_024;

/// A message that the app has posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    pub id: MessageId,
    pub at: UnixMillis,
    pub topic: String,
    pub payload: Bytes,
    pub hints: PushHints,
}

impl Posted {
    /// What it takes of the outbox, roughly.
    pub fn size(&self) -> usize {
        let texts = [&self.hints.title, &self.hints.body, &self.hints.collapse];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        64 + self.topic.len() + self.payload.len() + texts
    }
}

/// The open file. It is locked against other clients while it lives.
#[derive(Debug)]
pub(crate) struct PostFile {
    path: PathBuf,
    file: File,
    /// Where the next record goes; what a failed append left behind lies beyond and is overwritten.
    end: u64,
    /// Bytes of records that no longer count.
    garbage: u64,
}

impl PostFile {
    /// Opens or creates the file and reads what is still to be sent, oldest first.
    pub fn open(path: &Path) -> Result<(Self, Vec<Posted>), FileError> {
        let mut file = open_locked(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let Some(records) = content.strip_prefix(HEADER) else {
            start_anew(path, &mut file, &content, HEADER)?;
            let end = HEADER.len() as u64;
            return Ok((Self { path: path.to_owned(), file, end, garbage: 0 }, Vec::new()));
        };
        let (waiting, whole) = read_records(records);
        let kept: usize = waiting.iter().map(|posted| encode_posted(posted).len()).sum();
        let end = (HEADER.len() + whole) as u64;
        file.set_len(end)?; // cuts a torn tail
        Ok((Self { path: path.to_owned(), file, end, garbage: (whole - kept) as u64 }, waiting))
    }

    /// Appends messages and returns when they are on disk.
    pub fn append(&mut self, messages: &[Posted]) -> io::Result<()> {
        let bytes: Vec<u8> = messages.iter().flat_map(encode_posted).collect();
        self.write(&bytes)?;
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Notes that a message needs no sending any more. Not synced: a note that is lost costs a repetition, which its
    /// id makes harmless.
    pub fn done(&mut self, message: &Posted) -> io::Result<()> {
        let bytes = record(DONE, &message.id.0);
        self.write(&bytes)?;
        self.end += bytes.len() as u64;
        self.garbage += (bytes.len() + encode_posted(message).len()) as u64;
        Ok(())
    }

    /// Whether [`Self::replace`] is worth its while.
    pub fn is_mostly_garbage(&self) -> bool {
        self.garbage > GARBAGE_MAX && self.garbage > self.end / 2
    }

    /// Replaces the file by one with only these messages. After a crash either the old or the new file is there.
    pub fn replace<'a>(&mut self, waiting: impl Iterator<Item = &'a Posted>) -> Result<(), FileError> {
        let mut bytes = HEADER.to_vec();
        bytes.extend(waiting.flat_map(encode_posted));
        self.file = replaced(&self.path, &bytes)?; // from here on the old file has no name
        self.end = bytes.len() as u64;
        self.garbage = 0;
        Ok(sync_directory(&self.path)?)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(bytes)
    }
}

/// What is still to be sent, and how many bytes of whole records there are.
fn read_records(mut bytes: &[u8]) -> (Vec<Posted>, usize) {
    let all = bytes.len();
    let mut waiting: Vec<Posted> = Vec::new();
    while let Some((rest, kind, body)) = next_record(bytes) {
        match kind {
            POSTED => match decode_posted(body) {
                Some(posted) => waiting.push(posted),
                None => break,
            },
            DONE => waiting.retain(|posted| posted.id.0 != *body),
            _ => break,
        }
        bytes = rest;
    }
    if !bytes.is_empty() {
        tracing::warn!(bytes = bytes.len(), "the end of the outbox file is damaged and left out");
    }
    (waiting, all - bytes.len())
}

/// The next whole record: what follows it, its kind and its body.
fn next_record(bytes: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (content, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    if crc32(content).to_be_bytes() != *sum {
        return None;
    }
    let (kind, body) = content.split_first()?;
    Some((rest, *kind, body))
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(1 + body.len());
    content.push(kind);
    content.extend_from_slice(body);
    let length = u32::try_from(content.len()).unwrap_or(ABSENT); // payloads end far below, at the packet size
    let mut bytes = Vec::with_capacity(8 + content.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&crc32(&content).to_be_bytes());
    bytes.extend_from_slice(&content);
    bytes
}

fn encode_posted(posted: &Posted) -> Vec<u8> {
    let mut body = posted.id.0.to_vec();
    body.extend_from_slice(&posted.at.0.to_be_bytes());
    let hints = &posted.hints;
    let texts = [
        Some(posted.topic.as_str()),
        hints.title.as_deref(),
        hints.body.as_deref(),
        hints.collapse.as_deref(),
        hints.strategy.map(Strategy::as_str),
    ];
    texts.into_iter().for_each(|text| put_bytes(&mut body, text.map(str::as_bytes)));
    let ttl_s = hints.ttl.map_or(ABSENT, |ttl| u32::try_from(ttl.as_secs()).unwrap_or(ABSENT - 1));
    body.extend_from_slice(&ttl_s.to_be_bytes());
    put_bytes(&mut body, Some(&posted.payload));
    record(POSTED, &body)
}

fn decode_posted(body: &[u8]) -> Option<Posted> {
    let (id, body) = body.split_first_chunk::<16>()?;
    let (at, mut body) = body.split_first_chunk::<8>()?;
    let mut text =
        || take_bytes(&mut body).map(|bytes| bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()));
    let (topic, title, alert, collapse, strategy) = (text()??, text()?, text()?, text()?, text()?);
    let (ttl_s, mut body) = body.split_first_chunk::<4>()?;
    let ttl_s = Some(u32::from_be_bytes(*ttl_s)).filter(|ttl_s| *ttl_s != ABSENT);
    let payload = Bytes::copy_from_slice(take_bytes(&mut body)??);
    let hints = PushHints {
        title,
        body: alert,
        strategy: strategy.as_deref().and_then(Strategy::parse),
        collapse,
        ttl: ttl_s.map(|ttl_s| Duration::from_secs(ttl_s.into())),
    };
    Some(Posted { id: MessageId(*id), at: UnixMillis(u64::from_be_bytes(*at)), topic, payload, hints })
}

fn put_bytes(body: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(ABSENT, |bytes| u32::try_from(bytes.len()).unwrap_or(ABSENT - 1));
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(bytes.unwrap_or_default());
}

/// `None` when the body ends too early, `Some(None)` for what is absent.
fn take_bytes<'a>(body: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length);
    if length == ABSENT {
        *body = rest;
        return Some(None);
    }
    let (bytes, rest) = rest.split_at_checked(length as usize)?;
    *body = rest;
    Some(Some(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot prepare its files must fail")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn posted(n: u8) -> Posted {
        Posted {
            id: MessageId([n; 16]),
            at: UnixMillis(u64::from(n)),
            topic: format!("设备/{n}"),
            payload: Bytes::from(vec![n; 3]),
            hints: PushHints::default(),
        }
    }

    fn opened(path: &Path) -> Vec<Posted> {
        PostFile::open(path).unwrap().1
    }

    #[test]
    fn what_is_not_done_is_read_again_in_order_with_everything_that_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox");
        let hints = PushHints {
            title: Some("标题".into()),
            body: Some(String::new()),
            strategy: Some(crate::publisher::Strategy::VendorFirst),
            collapse: Some("c".into()),
            ttl: Some(Duration::from_secs(60)),
        };
        let full = Posted { hints, ..posted(3) };
        let (mut file, _) = PostFile::open(&path).unwrap();
        file.append(&[posted(1), posted(2)]).unwrap();
        file.append(std::slice::from_ref(&full)).unwrap();
        file.done(&posted(1)).unwrap();
        drop(file);
        assert_eq!(opened(&path), [posted(2), full]);
    }

    #[test]
    fn the_file_is_shortened_once_most_of_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox");
        let (mut file, _) = PostFile::open(&path).unwrap();
        let large = Posted { payload: vec![0; 200_000].into(), ..posted(1) };
        file.append(&[large.clone(), large.clone()]).unwrap();
        file.append(&[posted(2)]).unwrap();
        file.done(&large).unwrap();
        assert!(!file.is_mostly_garbage(), "the half is worth nothing yet");
        file.done(&large).unwrap();
        assert!(file.is_mostly_garbage());
        file.replace([posted(2)].iter()).unwrap();
        file.append(&[posted(3)]).unwrap();
        drop(file);
        assert_eq!(opened(&path), [posted(2), posted(3)]);
        assert!(fs::metadata(&path).unwrap().len() < 1_000);
    }

    #[test]
    fn a_second_client_is_refused_and_a_foreign_file_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox");
        fs::write(&path, b"something else").unwrap();
        let first = PostFile::open(&path).unwrap();
        assert!(matches!(PostFile::open(&path), Err(FileError::InUse)));
        drop(first);
        assert_eq!(fs::read(dir.path().join("outbox.unreadable")).unwrap(), b"something else");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_file_cut_or_damaged_anywhere_keeps_what_stood_before_and_takes_more(at: prop::sample::Index, flip: bool) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("outbox");
            let all: Vec<Posted> = (1..5).map(posted).collect();
            let (mut file, _) = PostFile::open(&path).unwrap();
            file.append(&all).unwrap();
            drop(file);
            let mut content = fs::read(&path).unwrap();
            let at = HEADER.len() + at.index(content.len() - HEADER.len());
            if flip {
                *content.get_mut(at).unwrap() ^= 4;
            } else {
                content.truncate(at);
            }
            fs::write(&path, content).unwrap();
            let whole = (at - HEADER.len()) / encode_posted(&posted(1)).len();
            let (mut file, kept) = PostFile::open(&path).unwrap();
            prop_assert_eq!(&kept, all.get(..whole).unwrap());
            file.append(&[posted(9)]).unwrap();
            drop(file);
            let again = opened(&path);
            prop_assert_eq!(again.len(), whole + 1);
            prop_assert_eq!(again.last(), Some(&posted(9)));
        }
    }
}
