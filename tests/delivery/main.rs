//! From a business server to a device: by socket while it is awake, by its vendor while it sleeps, once in any case.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod apps;
mod crash;
mod demo;
mod device;
mod flapping;
mod inbox;
mod publish;
mod recall;
mod socket;
mod stage;
mod vendor;
