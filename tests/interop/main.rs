//! Clients that we did not write, against the program on real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod agent;
mod installed;
mod matrix;
mod mosquitto;
mod rumqtt;
mod rumqtt_agent;
mod run;
