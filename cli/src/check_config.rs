//! `reveille check-config FILE`: nothing but an exit code when the file can be used, one line when it cannot.

use crate::config::File;
use crate::failure::Failure;
use std::path::PathBuf;

/// What `check-config` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Reads the file as `run` would.
///
/// # Errors
/// [`Failure::Config`] names file, line and key.
pub fn run(args: &Args) -> Result<(), Failure> {
    File::load(Some(&args.file))?;
    Ok(())
}
