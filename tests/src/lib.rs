//! The harness of the end-to-end tests: the program as a child process, a strict MQTT client, foreign clients, HTTP.
//!
//! Nothing here sleeps: whoever waits, waits for an event, and has a deadline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness fails a test by panicking"
)]

pub mod api;
pub mod certificates;
pub mod foreign;
pub mod mqtt;
pub mod program;

use std::time::Duration;

/// The samples of the page for Rust, which `cargo test --doc` compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/sdk/rust.md")]
mod page_for_rust {}

/// How long a test waits for something that must happen, however slow the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
