//! Wrong input of every kind: each gets a clear message or reason code, and nothing stops working for others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod clients;
mod passwd;
mod starting;
