//! The push server: apps, devices, tokens, messages, vendors, HTTP API.

pub mod login;
pub mod retry;
pub mod sender;
pub mod vendor;
