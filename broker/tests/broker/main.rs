//! The broker on real sockets: what a client sees, from the first byte to the restart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod admin;
mod client;
mod connecting;
mod harm;
mod heartbeats;
mod http;
mod listeners;
mod operations;
mod permitting;
mod publishing;
mod rumqttc;
mod stopping;
mod storing;
mod topics;
mod totals;

use reveille_broker::{Broker, Config};
use reveille_broker_store::Memory;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A configuration on free ports, with two shards.
fn config(text: &str) -> Config {
    let mut config: Config = toml::from_str(text).unwrap();
    config.listen = config.listen.map(|address| SocketAddr::new(address.ip(), 0));
    config.shards = 2;
    config
}

/// A broker that keeps everything in memory: for what has nothing to do with the disk.
fn broker(text: &str) -> Broker {
    reveille_broker::start_on(config(text), Arc::new(Memory::new())).unwrap()
}

/// A broker with its data in a directory.
fn start(text: &str, directory: &Path) -> Broker {
    reveille_broker::start(config(text), directory).unwrap()
}
