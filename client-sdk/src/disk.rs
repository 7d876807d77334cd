//! What the library's files have in common: a lock against a second client, checksums, durable names.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Why a file of this library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another client has the file open; two clients would undo each other's notes.
    #[error("the file is in use by another client")]
    InUse,
    /// The disk refused.
    #[error("the file cannot be read or written")]
    Io(#[from] io::Error),
}

impl FileError {
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io(error) => error.kind(),
            Self::InUse => io::ErrorKind::ResourceBusy,
        }
    }
}

/// Opens or creates a file that this process alone uses.
pub(crate) fn open_locked(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FileError::InUse),
        // A file system without locks is no reason to stop an app.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Makes an empty file with this header out of one that holds no records. What is no such file is set aside as
/// `<name>.unreadable`.
pub(crate) fn start_anew(
    path: &Path,
    file: &mut File,
    content: &[u8],
    header: &[u8],
) -> Result<(), FileError> {
    // A new file whose header was cut by power loss holds nothing worth keeping.
    if !header.starts_with(content) {
        tracing::warn!(file = %path.display(), "a file is unreadable; it is set aside and a new one begins");
        fs::write(with_suffix(path, ".unreadable"), content)?;
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header)?;
    file.sync_all()?;
    Ok(sync_directory(path)?)
}

/// Puts a file with this content in the place of another. After a crash either the old or the new one is there.
pub(crate) fn replaced(path: &Path, content: &[u8]) -> Result<File, FileError> {
    let beside = with_suffix(path, ".new");
    let mut file = open_locked(&beside)?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(file)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a created or renamed name durable; needed on Unix, not possible elsewhere.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// CRC-32 as in IEEE 802.3, four bits at a time: a small table, and quick enough for a message of a megabyte.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32| (0..4).fold(sum, |sum, _| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)));
    let table: [u32; 16] = std::array::from_fn(|nibble| step(u32::try_from(nibble).unwrap_or_default()));
    let of = |sum: u32| table.get((sum & 15) as usize).copied().unwrap_or_default();
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        let sum = sum ^ u32::from(*byte);
        let sum = (sum >> 4) ^ of(sum);
        (sum >> 4) ^ of(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
