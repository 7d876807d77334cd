//! `reveille passwd FILE USER`: makes, changes or deletes a user of a password file. The password comes from a prompt, or
//! from standard input when that is no terminal; never from the command line, which others can read.

use crate::failure::Failure;
use reveille_broker::{Credential, CredentialError, PasswordFileError, delete_user, is_user_name, set_user};
use reveille_proto::ids::{AppId, IdError};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};
use std::path::PathBuf;

/// Bytes of a password: MQTT carries no more.
const PASSWORD_MAX: u64 = 65_535;

/// What `passwd` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The password file; made when it does not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The user's name
    #[arg(value_name = "USER")]
    user: String,
    /// The app that the user belongs to [default: as before, or `default`]
    #[arg(long, value_name = "APP", conflicts_with = "delete")]
    app: Option<String>,
    /// Keep the keys of SCRAM-SHA-256 instead of an argon2id hash
    #[arg(long, conflicts_with = "delete")]
    scram: bool,
    /// Take the user out of the file
    #[arg(long)]
    delete: bool,
}

/// Why the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    /// The name cannot stand in a file.
    #[error(
        "{0:?} cannot be a user name here: it is empty, begins with # or has a colon or a line break in it"
    )]
    Name(String),
    /// The app is none.
    #[error("--app: {0}")]
    App(#[from] IdError),
    /// There is no such user.
    #[error("{}: there is no user {user:?}", path.display())]
    NoUser {
        /// Which file.
        path: PathBuf,
        /// Who is not in it.
        user: String,
    },
    /// Nothing was typed.
    #[error("the password is empty")]
    Empty,
    /// The two were not the same.
    #[error("the two passwords differ, nothing was changed")]
    Differ,
    /// It is no text, or too long.
    #[error("a password here is one line of UTF-8 of at most 65,535 bytes")]
    NoText,
    /// It cannot be hashed.
    #[error(transparent)]
    Hash(#[from] CredentialError),
    /// The file.
    #[error(transparent)]
    File(#[from] PasswordFileError),
    /// The terminal, or standard input.
    #[error("the password cannot be read: {0}")]
    Input(#[from] io::Error),
}

/// Does it, and says nothing when it is done.
///
/// # Errors
/// [`Failure::Passwd`]; the file is as it was.
pub fn run(args: &Args) -> Result<(), Failure> {
    Ok(change(args)?)
}

fn change(args: &Args) -> Result<(), PasswdError> {
    if !is_user_name(&args.user) {
        return Err(PasswdError::Name(args.user.clone()));
    }
    if args.delete {
        return match delete_user(&args.file, &args.user)? {
            true => Ok(()),
            false => Err(PasswdError::NoUser { path: args.file.clone(), user: args.user.clone() }),
        };
    }
    let app = args.app.as_deref().map(AppId::parse).transpose()?;
    let password = read_password()?;
    let credential = match args.scram {
        true => Credential::scram(&password)?,
        false => Credential::argon2(password.as_bytes())?,
    };
    Ok(set_user(&args.file, &args.user, &credential, app.as_ref())?)
}

fn read_password() -> Result<String, PasswdError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&stdin);
    }
    let first = ask(&stdin, "Password: ")?;
    match ask(&stdin, "Again: ")? == first {
        true => Ok(first),
        false => Err(PasswdError::Differ),
    }
}

fn ask(stdin: &Stdin, prompt: &str) -> Result<String, PasswdError> {
    let mut terminal = io::stderr();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let answer = Quiet::new(stdin).map(|_quiet| line(stdin));
    writeln!(terminal)?; // the line break was not shown either
    answer?
}

fn line(stdin: &Stdin) -> Result<String, PasswdError> {
    let mut bytes = Vec::new();
    stdin.lock().take(PASSWORD_MAX + 2).read_until(b'\n', &mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| PasswdError::NoText)?;
    let text = text.trim_end_matches(['\n', '\r']);
    match u64::try_from(text.len()) {
        Ok(0) => Err(PasswdError::Empty),
        Ok(length) if length <= PASSWORD_MAX => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(PasswdError::NoText),
    }
}

/// A terminal that does not show what is typed, until it is dropped.
struct Quiet<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(stdin: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Flush, &quiet)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.stdin, OptionalActions::Flush, &self.before); // there is nobody to tell
    }
}
