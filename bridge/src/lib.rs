//! The push server: apps, devices, tokens, messages, vendors, HTTP API.

pub mod apps;
pub mod devices;
pub mod login;
pub mod plan;
pub mod retry;
pub mod sender;
pub mod store;
pub mod tokens;
pub mod vendor;
