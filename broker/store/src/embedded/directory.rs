//! The data directory itself: the file that names its format, names made durable, and how much room is left.

use crate::StoreError;
use crate::error::Damage;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The format that this release writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_FILE_NEW: &str = "FORMAT.new";
const FORMAT_PREFIX: &str = "reveille broker store ";
const ENGINE: &str = "engine";

/// Makes the directory if there is none, checks its format, and gives the place of the engine's files.
pub(super) fn prepare(directory: &Path) -> Result<PathBuf, StoreError> {
    fs::create_dir_all(directory)?;
    let engine = directory.join(ENGINE);
    match fs::read_to_string(directory.join(FORMAT_FILE)) {
        Ok(text) => check_format(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !engine.exists() => write_format(directory)?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Err(StoreError::Corrupt(Damage::FormatFile));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(engine)
}

fn check_format(text: &str) -> Result<(), StoreError> {
    let number = text.trim_end().strip_prefix(FORMAT_PREFIX).and_then(|number| number.parse().ok());
    match number {
        None | Some(0) => Err(StoreError::Corrupt(Damage::FormatFile)),
        Some(found) if found > FORMAT => Err(StoreError::NewerFormat { found, known: FORMAT }),
        Some(_) => Ok(()),
    }
}

/// Appears whole or not at all.
fn write_format(directory: &Path) -> Result<(), StoreError> {
    let fresh = directory.join(FORMAT_FILE_NEW);
    let mut file = File::create(&fresh)?;
    writeln!(file, "{FORMAT_PREFIX}{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join(FORMAT_FILE))?;
    Ok(())
}

/// Makes the names of new files durable: in the directory, in the engine's, and of the directory itself.
pub(super) fn sync_names(directory: &Path) -> Result<(), StoreError> {
    for directory in [Some(directory.join(ENGINE).as_path()), Some(directory), directory.parent()] {
        let directory = directory.filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Bytes that we may still write to the file system of this directory.
pub(super) fn free_space(directory: &Path) -> Result<u64, StoreError> {
    let stat = rustix::fs::statvfs(directory).map_err(io::Error::from)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_file_is_one_of_ours_or_refused() {
        for (text, wanted) in [
            ("reveille broker store 1\n", "ok"),
            ("reveille broker store 2\n", "newer"),
            ("reveille broker store 0\n", "corrupt"),
            ("reveille broker store\n", "corrupt"),
            ("", "corrupt"),
            ("other 1", "corrupt"),
        ] {
            let found = match check_format(text) {
                Ok(()) => "ok",
                Err(StoreError::NewerFormat { found: 2, known: FORMAT }) => "newer",
                Err(StoreError::Corrupt(Damage::FormatFile)) => "corrupt",
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(found, wanted, "{text:?}");
        }
    }

    #[test]
    fn engine_files_without_a_format_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(ENGINE)).unwrap();
        assert!(matches!(prepare(directory.path()), Err(StoreError::Corrupt(Damage::FormatFile))));
    }

    #[test]
    fn a_new_directory_gets_a_format_file_and_opens_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("a/b");
        let engine = prepare(&place).unwrap();
        assert_eq!(engine, place.join(ENGINE));
        assert!(prepare(&place).is_ok());
        assert!(free_space(&place).unwrap() > 0);
    }
}
