//! `reveille demo`: the whole promise on real sockets, processes and disk, in a temporary directory on free ports.
//!
//! ```text
//!   business server --HTTP, MQTT--> reveille (child process) --TLS--> fake APNs, fake FCM (here)
//!                                       ^                                  |
//!                                       +--MQTT-- radio -- two phones <----+  what the system shows
//! ```
//! The radio is a relay that can be switched off, as a phone's is: no DISCONNECT is ever said.

mod child;
mod phone;
mod radio;
mod story;
mod table;

use crate::failure::Failure;
use crate::http::ApiError;
use crate::say::say;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `demo` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the child process logs, for example `info`
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Why the demo stopped.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The world is not as promised.
    #[error("the demo found a broken promise: {what}: wanted {wanted}, found {found}")]
    Promise {
        /// Which.
        what: String,
        /// As promised.
        wanted: String,
        /// As found.
        found: String,
    },
    /// Nothing happened.
    #[error("the demo waited {} s in vain for {what}", PATIENCE.as_secs())]
    Late {
        /// For what.
        what: String,
    },
    /// The system or a part refuses to work.
    #[error("the demo cannot go on: {what}: {why}")]
    Refused {
        /// What was to be done.
        what: &'static str,
        /// Why it was not.
        why: String,
    },
    /// The HTTP API refuses.
    #[error("the demo cannot go on: {0}")]
    Api(#[from] ApiError),
}

/// Tells the story.
///
/// # Errors
/// [`Broken`] with the first expectation that did not hold.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = crate::run::runtime()?;
    Ok(runtime.block_on(story::tell(&args.log))?)
}

/// Prints what happened, with the time since the beginning.
#[derive(Debug)]
struct Narrator(Instant);

impl Narrator {
    fn chapter(&self, title: &str) {
        say(&format!("\n{title}"));
    }

    fn done(&self, what: &str) {
        say(&format!("  ✓ {:5.2} s  {what}", self.0.elapsed().as_secs_f64()));
    }
}

/// Waits for something that must happen.
async fn within<T>(what: &str, happening: impl Future<Output = T>) -> Result<T, Broken> {
    let late = |_| Broken::Late { what: what.to_owned() };
    tokio::time::timeout(PATIENCE, happening).await.map_err(late)
}

/// Asserts that two things are the same.
fn expect_same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), Broken> {
    if found == wanted {
        return Ok(());
    }
    let (wanted, found) = (format!("{wanted:?}"), format!("{found:?}"));
    Err(Broken::Promise { what: what.to_owned(), wanted, found })
}

/// Says of a failed call what was to be done.
fn refused<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Broken {
    move |error| Broken::Refused { what, why: error.to_string() }
}
