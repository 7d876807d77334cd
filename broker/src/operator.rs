//! What an operator does to a broker that runs. Signals and HTTP make the same calls.

use crate::auth::bans::{Ban, BanError, Banned};
use crate::config::{Config, TraceConfig, TraceError};
use crate::mailbox::Command;
use crate::reload::{ReloadError, ReloadReport};
use crate::shared::Shared;
use crate::tracer::TraceInfo;
use reveille_broker_core::io::ShardNo;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A handle to a broker that runs; copies are the same broker. Its calls block for a moment at most.
#[derive(Clone)]
pub struct Operator {
    /// What the threads share.
    pub(crate) shared: Shared,
    /// The configuration that the broker follows. Held while a new one is put in force, so that two reloads do not mix.
    pub(crate) in_force: Arc<Mutex<Config>>,
    program: Arc<OnceLock<Program>>,
}

/// Reads the file and calls [`Operator::reload`].
pub type ReloadFile = Box<dyn Fn(&Operator) -> Result<ReloadReport, ReloadError> + Send + Sync>;

/// Takes a filter in the words of `RUST_LOG`.
pub type SetLog = Box<dyn Fn(&str) -> Result<(), LogFilterError> + Send + Sync>;

/// What only the program around the broker can do, because the file and the log are its own.
pub struct Program {
    /// Reads the configuration file again and puts it in force.
    pub reload: ReloadFile,
    /// Replaces the log filter until the next reload or start.
    pub set_log: SetLog,
    /// The log filter in force.
    pub log: Box<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Program")
    }
}

/// Why a log filter is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// It is none.
    #[error("the log filter cannot be read, try `info` or `reveille_broker=debug`: {0}")]
    Unreadable(String),
    /// The broker is embedded in something that keeps its log to itself.
    #[error("the log of this program cannot be changed")]
    NoLog,
}

impl Operator {
    /// Around a broker that serves with this configuration.
    pub(crate) fn new(shared: Shared, config: Config) -> Self {
        Self { shared, in_force: Arc::new(Mutex::new(config)), program: Arc::default() }
    }

    /// Says who reads the file and keeps the log. The first one stays.
    pub fn set_program(&self, program: Program) {
        let _ = self.program.set(program); // a second program around one broker is a defect, and harmless
    }

    /// Reads the configuration file again and puts it in force, as on SIGHUP. Logs what came of it.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing changed then.
    pub fn reload_file(&self) -> Result<ReloadReport, ReloadError> {
        let result = self.program.get().map_or(Err(ReloadError::NoFile), |program| (program.reload)(self));
        match &result {
            Ok(report) => report.log(),
            Err(error) => tracing::error!(%error, "the configuration was not read again, nothing changed"),
        }
        result
    }

    /// The configuration that the broker follows. Waits for a reload that is under way.
    pub fn config(&self) -> Config {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a ban in force, and ends the connections of whom it means. Blocks until it is on disk.
    ///
    /// # Errors
    /// [`BanError`]; nothing changed then.
    pub fn ban(&self, ban: Ban) -> Result<(), BanError> {
        let banned = Arc::new(ban.banned.clone());
        self.shared.bans.add(ban, self.shared.clock.now())?;
        for no in 0..self.shared.mailboxes.count() {
            self.shared.mailboxes.send(ShardNo(no), Command::Banned(Arc::clone(&banned)));
        }
        Ok(())
    }

    /// Lifts a ban; whether there was one. Blocks until that is on disk.
    ///
    /// # Errors
    /// [`BanError`]; nothing changed then.
    pub fn lift_ban(&self, banned: &Banned) -> Result<bool, BanError> {
        self.shared.bans.remove(banned)
    }

    /// Bans in force, in a fixed order, behind `after`, at most `limit`.
    pub fn bans(&self, after: Option<&Banned>, limit: usize) -> Vec<Ban> {
        self.shared.bans.list(after, limit, self.shared.clock.now())
    }

    /// Replaces the log filter until the next reload or start.
    ///
    /// # Errors
    /// [`LogFilterError`]; the old one stays.
    pub fn set_log(&self, filter: &str) -> Result<(), LogFilterError> {
        self.program.get().map_or(Err(LogFilterError::NoLog), |program| (program.set_log)(filter))
    }

    /// Follows a client or a topic for a while, in the log; the number takes it back.
    ///
    /// # Errors
    /// [`TraceError`] says what is wrong with it, or that there are too many.
    pub fn add_trace(&self, asked: &TraceConfig) -> Result<u64, TraceError> {
        self.shared.tracer.add(asked)
    }

    /// Ends a trace early. `false` when there is none with that number.
    pub fn remove_trace(&self, number: u64) -> bool {
        self.shared.tracer.remove(number)
    }

    /// The traces that run.
    pub fn traces(&self) -> Vec<TraceInfo> {
        self.shared.tracer.list()
    }

    /// The log filter in force, where the program tells.
    pub fn log(&self) -> Option<String> {
        self.program.get().map(|program| (program.log)())
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operator")
    }
}
