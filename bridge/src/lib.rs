//! The push server: apps, devices, tokens, messages, vendors, HTTP API.

pub mod apps;
pub mod audience;
pub mod deliveries;
pub mod devices;
mod chores;
mod facts;
mod feed;
mod jobs;
pub mod login;
pub mod messages;
mod metrics;
pub mod plan;
mod pushes;
mod queues;
pub mod retry;
mod rules;
pub mod sender;
mod shared;
pub mod store;
pub mod tokens;
pub mod vendor;
mod worker;
