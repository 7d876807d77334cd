//! The program `reveille`: one file a subcommand. Here errors become text, and text becomes an exit code.

mod app;
mod bridge;
mod broker;
mod check_config;
mod config;
mod ctl;
mod demo;
mod failure;
mod http;
mod logging;
mod passwd;
mod run;
mod say;
mod serving;
mod signals;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// A million sleeping sessions are a million small pieces that live long among short-lived ones. docs/performance.md
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// MQTT broker that always reaches the device: by socket while it is awake, by its push service while it sleeps.
#[derive(Debug, Parser)]
#[command(name = "reveille", version, max_term_width = 100)]
struct Program {
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Broker, bridge and API in one process (this is what happens without a subcommand)
    Run(run::Args),
    /// The MQTT broker alone
    Broker(broker::Args),
    /// The push server with its HTTP API alone
    Bridge(bridge::Args),
    /// Apps (tenants)
    App {
        /// What to do with them.
        #[command(subcommand)]
        command: app::Command,
    },
    /// Write a user's password into a password file
    Passwd(passwd::Args),
    /// See and do what operators need: sessions, queues, retained messages, log, and more
    Ctl(ctl::Args),
    /// Say whether a configuration file can be used
    CheckConfig(check_config::Args),
    /// Walk one device through sleep, crash and return, on real sockets, with fake APNs and FCM
    Demo(demo::Args),
}

fn main() -> ExitCode {
    match run_command(command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Usage errors end the program here, with code 2.
fn command() -> Command {
    let command = Program::parse().command;
    // `run` reads its environment variables when it is parsed, so it is parsed also when nobody typed it.
    command
        .or_else(|| Program::parse_from(["reveille", "run"]).command)
        .unwrap_or(Command::Run(run::Args::default()))
}

fn run_command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Broker(args) => broker::run(args),
        Command::Bridge(args) => bridge::run(args),
        Command::App { command } => app::run(command),
        Command::Passwd(args) => passwd::run(&args),
        Command::Ctl(args) => ctl::run(args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Demo(args) => demo::run(&args),
    }
}
