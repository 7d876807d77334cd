//! The configuration file: top-level keys, the table of the broker, the table of the bridge.
//!
//! A flag wins over its environment variable, that over the file, the file over the default.

use crate::logging::LogFormat;
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where everything is kept when nobody says otherwise.
pub const DATA_DIR: &str = "./reveille-data";

/// A whole configuration file. `docs/configuration.md` explains each key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Where everything is kept.
    pub data_dir: Option<PathBuf>,
    /// What to log, in the words of `RUST_LOG`.
    pub log: Option<String>,
    /// How a line of the log looks.
    pub log_format: Option<LogFormat>,
    /// The broker.
    pub broker: reveille_broker::Config,
    /// The bridge.
    pub bridge: reveille_bridge::Config,
}

/// Why a file cannot be used, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// A key is unknown, or its value is of the wrong kind.
    #[error("{}:{place}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong; names the key.
        message: String,
    },
    /// A value that the broker cannot use.
    #[error("{}: [broker] {error}", path.display())]
    Broker {
        /// Which file.
        path: PathBuf,
        /// What is wrong; names the key.
        #[source]
        error: reveille_broker::ConfigError,
    },
    /// The certificate of the bridge's HTTP listener.
    #[error("{}: [bridge] {error}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong; names key and file.
        #[source]
        error: reveille_bridge::CertificateError,
    },
    /// A value that the bridge cannot use.
    #[error("{}: [bridge] {error}", path.display())]
    Bridge {
        /// Which file.
        path: PathBuf,
        /// What is wrong; names the key.
        #[source]
        error: reveille_bridge::ConfigError,
    },
}

/// Line and column, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Place {
    fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { line: before.matches('\n').count() + 1, column }
    }
}

/// The key whose value begins here: TOML says what is wrong with a value, but not whose value it is.
fn key_before(text: &str, at: usize) -> Option<&str> {
    let (_, line) = text.get(..at)?.rsplit_once('\n').unwrap_or(("", text.get(..at)?));
    line.split_once('=').map(|(key, _)| key.trim())
}

impl File {
    /// Reads a file, or nothing.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line and key.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        let file = Self::parse(path, &text)?;
        file.broker.check().map_err(|error| ConfigError::Broker { path: path.to_owned(), error })?;
        file.bridge.validate().map_err(|error| ConfigError::Bridge { path: path.to_owned(), error })?;
        Ok(file)
    }

    /// Reads the certificate of the bridge's HTTP listener, to see whether it can be used. For programs with a bridge only: a broker that
    /// shares the file need not be able to read the bridge's key.
    ///
    /// # Errors
    /// [`ConfigError`] names the file.
    pub fn check_certificate(
        bridge: &reveille_bridge::Config,
        path: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let path = path.unwrap_or(Path::new("")).to_owned();
        reveille_bridge::Certificates::read(bridge)
            .map(drop)
            .map_err(|error| ConfigError::Certificate { path, error })
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', ", ");
            let message = match key_before(text, at) {
                Some(key) => format!("{key}: {message}"),
                None => message,
            };
            ConfigError::Parse { path: path.to_owned(), place: Place::of(text, at), message }
        })
    }

    /// Where everything is kept.
    pub fn data_dir(&self, asked: Option<PathBuf>) -> PathBuf {
        asked.or_else(|| self.data_dir.clone()).unwrap_or_else(|| PathBuf::from(DATA_DIR))
    }
}

/// What all subcommands that serve are told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Common {
    /// Where everything is kept [default: ./reveille-data]
    #[arg(long, value_name = "DIR", env = "REVEILLE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// A configuration file in TOML, see docs/configuration.md
    #[arg(long, value_name = "FILE", env = "REVEILLE_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to log to standard error, for example `info`; RUST_LOG wins [default: warn]
    #[arg(long, value_name = "FILTER", env = "REVEILLE_LOG")]
    pub log: Option<String>,
    /// How a line of the log looks [default: text]
    #[arg(long, value_name = "FORMAT", env = "REVEILLE_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// The password that broker and bridge share when they run as two processes. Others can see a command line, so it
/// comes by file or by environment.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InternalPassword {
    /// A file with the password that broker and bridge share
    #[arg(long, value_name = "FILE", env = "REVEILLE_INTERNAL_PASSWORD_FILE")]
    internal_password_file: Option<PathBuf>,
}

/// The variable with the shared password.
pub const PASSWORD_VARIABLE: &str = "REVEILLE_INTERNAL_PASSWORD";

/// Why there is no shared password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("{}: the shared password cannot be read: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// Nobody gave one.
    #[error(
        "broker and bridge need a shared password: set {PASSWORD_VARIABLE}, --internal-password-file or the key {key}"
    )]
    Missing {
        /// Where it could stand in the configuration file.
        key: &'static str,
    },
    /// The file has nothing in it.
    #[error("{}: the file with the shared password is empty", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

impl InternalPassword {
    /// The password from the flag's file or the environment, if there is one.
    ///
    /// # Errors
    /// [`PasswordError`] when the file cannot be read or has none.
    pub fn find(&self) -> Result<Option<String>, PasswordError> {
        let Some(path) = &self.internal_password_file else {
            return Ok(std::env::var(PASSWORD_VARIABLE).ok().filter(|text| !text.is_empty()));
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| PasswordError::Read { path: path.clone(), error })?;
        match text.trim() {
            "" => Err(PasswordError::Empty { path: path.clone() }),
            password => Ok(Some(password.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_named_with_its_line() {
        let rows = [
            ("data_dir = 'x'\nprot = 1883\n", "f.toml:2:1", "prot"),
            ("\n[broker]\nlistne = '127.0.0.1:1'\n", "f.toml:3:1", "listne"),
            ("[broker.limits]\nreceive_maximum = 'many'\n", "f.toml:2:19", "receive_maximum"),
            ("[bridge]\nno_such_key = 1\n", "f.toml:2:1", "no_such_key"),
            ("[brigde]\n", "f.toml:1:2", "brigde"),
            ("data_dir = \n", "f.toml:1:", ""),
        ];
        for (text, place, word) in rows {
            let error = File::parse(Path::new("f.toml"), text).expect_err(text).to_string();
            assert!(error.starts_with(place) && error.contains(word), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_is_read_without_the_certificate_of_its_bridge() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reveille.toml");
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let pair = format!("certificate = '{}'\nkey = '{}'\n", certificate.display(), key.display());
        std::fs::write(&path, format!("[bridge]\n{pair}")).unwrap();
        let file = File::load(Some(&path)).expect("a broker does not read it");
        let error = File::check_certificate(&file.bridge, Some(&path)).unwrap_err();
        assert!(matches!(error, ConfigError::Certificate { .. }), "{error}");
    }

    #[test]
    fn places_count_characters_and_lines_from_one() {
        for (text, at, line, column) in
            [("", 0, 1, 1), ("设备\nx", 7, 2, 1), ("设备=1", 6, 1, 3), ("a\n\nbc", 4, 3, 2)]
        {
            assert_eq!(Place::of(text, at), Place { line, column }, "{text:?} {at}");
        }
    }

    #[test]
    fn what_is_asked_for_wins_over_the_file_and_that_over_the_default() {
        let file = File::parse(Path::new("f"), "data_dir = 'in-file'").unwrap();
        assert_eq!(file.data_dir(Some("asked".into())), PathBuf::from("asked"));
        assert_eq!(file.data_dir(None), PathBuf::from("in-file"));
        assert_eq!(File::default().data_dir(None), PathBuf::from(DATA_DIR));
    }

    #[test]
    fn a_shared_password_comes_from_a_file_without_its_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let asked = InternalPassword { internal_password_file: Some(path.clone()) };
        assert!(matches!(asked.find(), Err(PasswordError::Read { .. })));
        for (text, wanted) in [("tulip\n", Some("tulip")), (" \n", None)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(asked.find().ok().flatten().as_deref(), wanted, "{text:?}");
        }
    }
}
