//! Prints the tables of `docs/heartbeat.md` and draws its plots.

use clap::Parser;
use reveille_heartbeat_sim::{Scenario, report};
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares heartbeat rules over weeks of phones behind networks that forget silent connections.
#[derive(Debug, Parser)]
struct Arguments {
    /// Phones in each world.
    #[arg(long, default_value_t = 120)]
    phones: usize,
    /// Days.
    #[arg(long, default_value_t = 21)]
    days: usize,
    /// The seed of the world.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Where to put the plots.
    #[arg(long)]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for scenario in Scenario::ALL {
        let (table, plots) = report(scenario, arguments.phones, arguments.days, arguments.seed);
        println!("{}\n\n{table}", scenario.name());
        let Some(directory) = &arguments.plots else { continue };
        for (name, svg) in plots {
            if let Err(error) = std::fs::write(directory.join(&name), svg) {
                eprintln!("{name} cannot be written: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
