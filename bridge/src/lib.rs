//! The push server: apps, devices, tokens, messages, vendors, HTTP API.

pub mod vendor;
