//! The broker on real sockets: what a client sees, from the first byte to the restart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod client;
mod connecting;
mod harm;
mod operations;
mod publishing;
mod rumqttc;
mod stopping;
mod storing;

use reveille_broker::{Broker, Config};
use std::path::Path;

/// A configuration on free ports, with two shards.
fn config(text: &str) -> Config {
    let mut config: Config = toml::from_str(text).unwrap();
    config.listen.set_port(0);
    config.shards = 2;
    config
}

/// A broker with a directory of its own, which goes with it.
struct TestBroker {
    broker: Broker,
    _directory: tempfile::TempDir,
}

impl std::ops::Deref for TestBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

fn broker(text: &str) -> TestBroker {
    let directory = tempfile::tempdir().unwrap();
    TestBroker { broker: start(text, directory.path()), _directory: directory }
}

fn start(text: &str, directory: &Path) -> Broker {
    reveille_broker::start(config(text), directory).unwrap()
}
