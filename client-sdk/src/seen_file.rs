//! The handled ids on disk: an append-only file of checked records, shortened now and then by an atomic rename.
//!
//! ```text
//! header  "RVLSEEN\x01"                                       8 bytes
//! record  id (16)  handled at, ms since 1970 (8)  CRC-32 (4)  28 bytes, big endian
//! ```
//! A record whose checksum is wrong and a cut last record are what power loss leaves: they are skipped, the file goes
//! on. A file that is no such file at all is set aside as `<name>.unreadable`, and a new one begins.

use crate::disk::{FileError, crc32, open_locked, replaced, start_anew, sync_directory};
use crate::inbox::UnixMillis;
use reveille_proto::ids::MessageId;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const HEADER: &[u8; 8] = b"RVLSEEN\x01";
const RECORD_LEN: usize = 28;

/// One handled id.
pub type Record = (MessageId, UnixMillis);

/// The open file. It is locked against other clients while it lives.
#[derive(Debug)]
pub struct SeenFile {
    path: PathBuf,
    file: File,
    /// Where the next record goes; what a failed append left behind lies beyond and is overwritten.
    end: u64,
    records: usize,
}

impl SeenFile {
    /// Opens or creates the file and reads its valid records, oldest first.
    ///
    /// # Errors
    /// [`FileError`] when another client holds it or the disk refuses; never because of its contents.
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), FileError> {
        let mut file = open_locked(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let Some(body) = content.strip_prefix(HEADER) else {
            start_anew(path, &mut file, &content, HEADER)?;
            let end = HEADER.len() as u64;
            return Ok((Self { path: path.to_owned(), file, end, records: 0 }, Vec::new()));
        };
        let whole = body.len() / RECORD_LEN;
        let records: Vec<Record> = body.chunks_exact(RECORD_LEN).filter_map(decode).collect();
        if records.len() < whole {
            tracing::warn!(skipped = whole - records.len(), "damaged records in the inbox file are skipped");
        }
        let end = (HEADER.len() + whole * RECORD_LEN) as u64;
        file.set_len(end)?; // cuts a torn tail
        Ok((Self { path: path.to_owned(), file, end, records: whole }, records))
    }

    /// Appends and returns when the records are on disk.
    ///
    /// # Errors
    /// The disk's answer; the records then count as not written.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let bytes: Vec<u8> = records.iter().flat_map(|record| encode(*record)).collect();
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        self.records += records.len();
        Ok(())
    }

    /// How many records the file holds, forgotten ones included.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Replaces the file by one with only these records. After a crash either the old or the new file is there.
    ///
    /// # Errors
    /// The disk's answer; the old file then stays in use.
    pub fn replace(&mut self, records: &[Record]) -> Result<(), FileError> {
        let mut bytes = HEADER.to_vec();
        bytes.extend(records.iter().flat_map(|record| encode(*record)));
        self.file = replaced(&self.path, &bytes)?; // from here on the old file has no name
        self.end = bytes.len() as u64;
        self.records = records.len();
        Ok(sync_directory(&self.path)?)
    }
}

fn encode((id, at): Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_LEN);
    bytes.extend_from_slice(&id.0);
    bytes.extend_from_slice(&at.0.to_be_bytes());
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let (rest, sum) = bytes.split_last_chunk::<4>()?;
    if crc32(rest).to_be_bytes() != *sum {
        return None;
    }
    let (id, at) = rest.split_last_chunk::<8>()?;
    Some((MessageId::from_bytes(id).ok()?, UnixMillis(u64::from_be_bytes(*at))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot prepare its files must fail")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn record(n: u8) -> Record {
        (MessageId([n; 16]), UnixMillis(u64::from(n)))
    }

    fn written(path: &Path, records: &[Record]) {
        let (mut file, _) = SeenFile::open(path).unwrap();
        file.append(records).unwrap();
    }

    #[test]
    fn what_was_appended_is_read_again_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        written(&path, &[record(1)]);
        written(&path, &[record(2), record(3)]);
        assert_eq!(SeenFile::open(&path).unwrap().1, [record(1), record(2), record(3)]);
    }

    #[test]
    fn a_second_client_on_the_same_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        let first = SeenFile::open(&path).unwrap();
        assert!(matches!(SeenFile::open(&path), Err(FileError::InUse)));
        drop(first);
        assert!(SeenFile::open(&path).is_ok());
    }

    #[test]
    fn a_replaced_file_holds_only_the_new_records_and_takes_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        let (mut file, _) = SeenFile::open(&path).unwrap();
        file.append(&[record(1), record(2)]).unwrap();
        file.replace(&[record(2)]).unwrap();
        file.append(&[record(3)]).unwrap();
        assert_eq!(file.records(), 2);
        drop(file);
        assert_eq!(SeenFile::open(&path).unwrap().1, [record(2), record(3)]);
    }

    #[test]
    fn a_left_over_of_an_interrupted_replacement_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        fs::write(dir.path().join("seen.new"), [7; 1_000]).unwrap();
        written(&path, &[record(1)]);
        let (mut file, _) = SeenFile::open(&path).unwrap();
        file.replace(&[record(1)]).unwrap();
        drop(file);
        assert_eq!(SeenFile::open(&path).unwrap().1, [record(1)]);
    }

    #[test]
    fn a_foreign_file_is_set_aside_not_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        fs::write(&path, b"something else entirely").unwrap();
        assert_eq!(SeenFile::open(&path).unwrap().1, []);
        assert_eq!(fs::read(dir.path().join("seen.unreadable")).unwrap(), b"something else entirely");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_file_cut_anywhere_keeps_every_whole_record_and_takes_more(cut in 0_usize..(8 + 4 * RECORD_LEN + 1)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("seen");
            let all: Vec<Record> = (1..5).map(record).collect();
            written(&path, &all);
            let content = fs::read(&path).unwrap();
            fs::write(&path, content.get(..cut).unwrap()).unwrap();
            let (mut file, kept) = SeenFile::open(&path).unwrap();
            let whole = cut.saturating_sub(8) / RECORD_LEN;
            prop_assert_eq!(&kept, all.get(..whole).unwrap());
            file.append(&[record(9)]).unwrap();
            drop(file);
            let (_, again) = SeenFile::open(&path).unwrap();
            prop_assert_eq!(again.last(), Some(&record(9)));
            prop_assert_eq!(again.len(), whole + 1);
        }

        #[test]
        fn a_flipped_bit_costs_one_record_and_never_yields_a_wrong_one(bit in 64_usize..(8 * (8 + 4 * RECORD_LEN))) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("seen");
            let all: Vec<Record> = (1..5).map(record).collect();
            written(&path, &all);
            let mut content = fs::read(&path).unwrap();
            *content.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            fs::write(&path, content).unwrap();
            let (_, kept) = SeenFile::open(&path).unwrap();
            prop_assert_eq!(kept.len(), 3);
            prop_assert!(kept.iter().all(|record| all.contains(record)));
        }
    }
}
