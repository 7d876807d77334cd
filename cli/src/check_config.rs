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
/// [`Failure::Config`] names file, line and key; [`Failure::Broker`] a file of credentials or rules.
pub fn run(args: &Args) -> Result<(), Failure> {
    let file = File::load(Some(&args.file))?;
    File::check_certificate(&file.bridge, Some(&args.file))?;
    reveille_broker::check_files(&file.broker)?;
    Ok(())
}
