//! The log: to standard error, as much of it as `RUST_LOG`, `--log` or the configuration asks for, as text or JSON.

use crate::failure::Failure;
use reveille_broker::TRACE_TARGET;
use serde::Deserialize;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

/// Quiet as long as all is well.
const DEFAULT: &str = "warn";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people: time, level, part, message, fields.
    #[default]
    Text,
    /// For machines: one JSON object a line, the fields at its top.
    Json,
}

/// The log that runs. Its filter can be replaced.
#[derive(Clone, Debug)]
pub struct Log {
    handle: reload::Handle<EnvFilter, Registry>,
    text: Arc<Mutex<String>>,
}

/// Starts the log. `asked` is what the command line or the file wants; `RUST_LOG` wins over it.
///
/// # Errors
/// [`Failure::Log`] when a filter cannot be read.
pub fn start(asked: Option<&str>, format: LogFormat) -> Result<Log, Failure> {
    let text = wanted(asked);
    let (filter, handle) = reload::Layer::new(parse(&text)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init(); // fails when there is a log already
    Ok(Log { handle, text: Arc::new(Mutex::new(text)) })
}

impl Log {
    /// Replaces the filter by what the command line or the file wants now; `RUST_LOG` wins over it.
    ///
    /// # Errors
    /// [`Failure::Log`] when it cannot be read. The old one stays.
    pub fn follow(&self, asked: Option<&str>) -> Result<(), Failure> {
        self.set(&wanted(asked))
    }

    /// Replaces the filter.
    ///
    /// # Errors
    /// [`Failure::Log`] when it cannot be read. The old one stays.
    pub fn set(&self, filter: &str) -> Result<(), Failure> {
        let parsed = parse(filter)?;
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.handle.reload(parsed); // fails only when there was a log before ours, which keeps its own
        filter.clone_into(&mut text);
        Ok(())
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn wanted(asked: Option<&str>) -> String {
    let from_env = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    from_env.unwrap_or_else(|| asked.unwrap_or(DEFAULT).to_owned())
}

fn parse(text: &str) -> Result<EnvFilter, Failure> {
    // A trace is asked for by name and for a while: no filter has to be changed for it.
    EnvFilter::try_new(format!("{TRACE_TARGET}=info,{text}"))
        .map_err(|error| Failure::Log { text: text.to_owned(), error })
}
