//! The bridge over real HTTP, with a scripted broker on the other side and the record vendor.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod apns;
mod apps;
mod audience;
mod audit;
mod batch;
mod broker;
mod compat;
mod console;
mod credentials;
mod dead_feed;
mod delivery;
mod events;
mod files;
mod inbox;
mod lanes;
mod once;
mod openapi;
mod policies;
mod publish;
mod recall;
mod receipts;
mod requests;
mod resources;
mod restart;
mod schedules;
mod schema;
mod statistics;
mod templates;
mod vendors;
mod webhooks;
mod world;
