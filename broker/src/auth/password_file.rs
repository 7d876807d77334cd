//! A file of passwords, one `user:hash[:app]` a line. Read by the broker, written by `reveille passwd`.

use crate::auth::credential::{Credential, CredentialError};
use reveille_proto::ids::{AppId, IdError};
use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Only the owner reads it.
const MODE: u32 = 0o600;

/// Bytes of a file: some hundred thousand users.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why a password file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PasswordFileError {
    /// The system does not let us.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Too large.
    #[error("{}: larger than 64 MiB", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// A line that is none.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: LineError,
    },
}

/// Why a line says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not of the form.
    #[error("a line is user:hash or user:hash:app")]
    Form,
    /// The name stands on an earlier line too.
    #[error("the user stands twice in the file")]
    Twice,
    /// The hash.
    #[error(transparent)]
    Hash(#[from] CredentialError),
    /// The app.
    #[error(transparent)]
    App(#[from] IdError),
}

/// What a file says about one user.
#[derive(Clone, Debug)]
pub struct Entry {
    /// How the password is kept.
    pub credential: Credential,
    /// The tenant.
    pub app: AppId,
}

/// Reads a file for the broker.
///
/// # Errors
/// [`PasswordFileError`] names file and line.
pub(crate) fn load(path: &Path) -> Result<HashMap<String, Entry>, PasswordFileError> {
    let text = read(path)?;
    let mut entries = HashMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let wrong = |what| PasswordFileError::Line { path: path.to_owned(), line, what };
        if let Some((name, entry)) = parse_line(text).map_err(wrong)?
            && entries.insert(name.to_owned(), entry).is_some()
        {
            return Err(wrong(LineError::Twice));
        }
    }
    Ok(entries)
}

fn read(path: &Path) -> Result<String, PasswordFileError> {
    let failed = |error| PasswordFileError::Io { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(PasswordFileError::TooLarge { path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// `None` for an empty line and a comment.
fn parse_line(text: &str) -> Result<Option<(&str, Entry)>, LineError> {
    let text = text.trim_end_matches('\r');
    if text.trim().is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(hash)) = (parts.next(), parts.next()) else { return Err(LineError::Form) };
    if name.is_empty() {
        return Err(LineError::Form);
    }
    let credential = Credential::parse(hash)?;
    let app = parts.next().map_or(Ok(AppId::default()), AppId::parse)?;
    Ok(Some((name, Entry { credential, app })))
}

/// Whether a text can stand as a user name in a file.
pub fn is_user_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('#') && !name.contains([':', '\n', '\r', '\0'])
}

/// Writes a user into a file, which is made when it does not exist; other lines stay as they are. A user that is there
/// keeps its app when none is given. The file is replaced as a whole, so that nobody reads half of it.
///
/// # Errors
/// [`PasswordFileError`] when the file is there and cannot be used.
pub fn set_user(
    path: &Path,
    name: &str,
    credential: &Credential,
    app: Option<&AppId>,
) -> Result<(), PasswordFileError> {
    let known = if path.exists() { load(path)? } else { HashMap::new() };
    let app = app.or_else(|| known.get(name).map(|entry| &entry.app)).cloned().unwrap_or_default();
    let hash = credential.to_text().unwrap_or_default();
    let line = match app == AppId::default() {
        true => format!("{name}:{hash}"),
        false => format!("{name}:{hash}:{app}"),
    };
    rewrite(path, name, Some(&line)).map(drop)
}

/// Takes a user out of a file; says whether it was there.
///
/// # Errors
/// [`PasswordFileError`] when the file cannot be used.
pub fn delete_user(path: &Path, name: &str) -> Result<bool, PasswordFileError> {
    rewrite(path, name, None)
}

fn rewrite(path: &Path, name: &str, line: Option<&str>) -> Result<bool, PasswordFileError> {
    let old = if path.exists() || line.is_none() { read(path)? } else { String::new() };
    let mut new = String::with_capacity(old.len() + line.map_or(0, str::len) + 1);
    let (mut was_there, mut pending) = (false, line);
    for known in old.lines() {
        let is_it = !known.starts_with('#') && known.split(':').next() == Some(name);
        was_there |= is_it;
        let kept = if is_it { pending.take() } else { Some(known) };
        if let Some(kept) = kept {
            new.push_str(kept);
            new.push('\n');
        }
    }
    if let Some(line) = pending {
        new.push_str(line);
        new.push('\n');
    }
    replace(path, &new).map_err(|error| PasswordFileError::Io { path: path.to_owned(), error })?;
    Ok(was_there)
}

/// Puts a text in the place of a file, all of it or nothing, for its owner only.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written =
        write_new(&new, text, std::fs::metadata(path).ok()).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&new); // what cannot be written is not left behind either
    }
    written?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all() // the new name is on disk too
}

fn write_new(path: &Path, text: &str, old: Option<Metadata>) -> io::Result<()> {
    let _ = std::fs::remove_file(path); // of a process that was killed and had our number
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    if let Some(old) = old {
        // Root changes the password file of a service: the service still has to read it.
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_user_is_made_changed_and_deleted_and_the_other_lines_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwords");
        let shop = AppId::parse("shop").unwrap();
        let one = Credential::scram("one").unwrap();
        set_user(&path, "ann", &one, Some(&shop)).unwrap();
        std::fs::write(&path, format!("# ours\n\n{}", std::fs::read_to_string(&path).unwrap())).unwrap();
        set_user(&path, "bob", &Credential::argon2(b"two").unwrap(), None).unwrap();
        set_user(&path, "ann", &Credential::scram("three").unwrap(), None).unwrap();
        let entries = load(&path).unwrap();
        assert!(entries["ann"].credential.is(b"three") && !entries["ann"].credential.is(b"one"));
        assert!(entries["bob"].credential.is(b"two"));
        assert_eq!((entries["ann"].app.as_str(), entries["bob"].app.as_str()), ("shop", "default"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\n\nann:") && text.lines().count() == 4, "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(delete_user(&path, "ann").unwrap());
        assert!(!delete_user(&path, "ann").unwrap());
        assert_eq!(load(&path).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        let hash = Credential::scram("x").unwrap().to_text().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwords");
        let rows = [
            ("ann".to_owned(), 1, LineError::Form),
            (format!(":{hash}"), 1, LineError::Form),
            (format!("ann:{hash}\nbob:plain"), 2, LineError::Hash(CredentialError::Form)),
            (format!("# c\nann:{hash}:No App"), 2, LineError::App(IdError::App)),
            (format!("ann:{hash}\nann:{hash}"), 2, LineError::Twice),
        ];
        for (text, wanted_line, wanted) in rows {
            std::fs::write(&path, &text).unwrap();
            match load(&path) {
                Err(PasswordFileError::Line { line, what, .. }) => {
                    assert_eq!((line, what), (wanted_line, wanted), "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(load(&directory.path().join("none")), Err(PasswordFileError::Io { .. })));
        for (name, wanted) in [("ann", true), ("设备", true), ("", false), ("a:b", false), ("#a", false)] {
            assert_eq!(is_user_name(name), wanted, "{name}");
        }
    }
}
