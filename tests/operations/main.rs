//! What an operator sees and does: signals, logs, metrics, on the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod ctl;
mod draining;
mod logs;
mod memory;
mod metrics;
mod reloading;
mod tls;
mod topics;
mod tracing;
mod two_processes;
