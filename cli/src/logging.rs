//! The log: to standard error, as much of it as `RUST_LOG`, `--log` or the configuration asks for.

use crate::failure::Failure;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Quiet as long as all is well.
const DEFAULT: &str = "warn";

/// Starts the log. `asked` is what the command line or the file wants; `RUST_LOG` wins over it.
///
/// # Errors
/// [`Failure::Log`] when a filter cannot be read.
pub fn start(asked: Option<&str>) -> Result<(), Failure> {
    let from_env = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let text = from_env.as_deref().or(asked).unwrap_or(DEFAULT);
    let filter = EnvFilter::try_new(text).map_err(|error| Failure::Log { text: text.to_owned(), error })?;
    let is_read_by_people = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_read_by_people)
        .with_writer(std::io::stderr);
    let _ = log.try_init(); // fails only when a log exists already, which is as good
    Ok(())
}
