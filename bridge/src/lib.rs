//! The push server: apps, devices, tokens, messages, vendors, HTTP API.

pub mod apps;
pub mod audience;
pub mod deliveries;
pub mod devices;
mod facts;
mod jobs;
pub mod login;
pub mod messages;
pub mod plan;
mod pushes;
mod queues;
pub mod retry;
mod rules;
pub mod sender;
pub mod store;
pub mod tokens;
pub mod vendor;
