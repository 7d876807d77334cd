//! Hostile clients against the program as a process of its own, while another client is served.
//!
//! Each attack runs against small bounds (see `target.rs`). Meanwhile a witness sends messages to itself, the memory of the
//! process is watched, and afterwards everything must be back to normal. `ATTACK=long` makes ten rounds of each
//! attack, after which memory must not have grown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod aliases;
mod connect_flood;
mod disk;
mod half_open;
mod malformed;
mod properties;
mod qos2;
mod slow_loris;
mod stranger;
mod subscription_bomb;
mod target;
mod together;
mod topic_bomb;
mod unread;
mod watch;
mod witness;

/// Rounds of each attack: one, or ten when `ATTACK=long` asks for it.
fn rounds() -> usize {
    if std::env::var("ATTACK").is_ok_and(|length| length == "long") { 10 } else { 1 }
}
