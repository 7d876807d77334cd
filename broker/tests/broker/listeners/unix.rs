//! Unix sockets.

use super::{said_goodbye, speaks_mqtt};
use crate::client::{Client, PATIENCE, connect};
use crate::{broker, config};
use reveille_broker::Broker;
use reveille_proto::mqtt::Version;
use reveille_proto::reason::ReasonCode;
use std::os::unix::net::UnixStream;
use std::path::Path;

fn serving(path: &Path) -> Broker {
    broker(&format!("[[listeners]]\nname = 'l'\nkind = 'unix'\npath = '{}'", path.display()))
}

fn open(path: &Path) -> UnixStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn clients_of_this_machine_connect_through_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mqtt.sock");
    let broker = serving(&path);
    assert_eq!(broker.listeners()[0].place.to_string(), path.display().to_string());
    speaks_mqtt(&broker, || open(&path));
    // Some of these are accepted by the shard that does not own the session.
    for no in 0..16 {
        Client::over(open(&path), connect(Version::V5, &format!("c{no}"), true)).0.ping();
    }
    let (mut client, _) = Client::over(open(&path), connect(Version::V5, "last", true));
    broker.stop();
    said_goodbye(&mut client, ReasonCode::SERVER_SHUTTING_DOWN);
    assert!(!path.exists());
}

#[test]
fn a_path_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mqtt.sock");
    let _broker = serving(&path);
    let second = config(&format!("[[listeners]]\nname = 'l'\nkind = 'unix'\npath = '{}'", path.display()));
    let error = reveille_broker::start(second, directory.path()).err().unwrap().to_string();
    assert!(error.contains("mqtt.sock") && error.contains("listeners.path"), "{error}");
    open(&path);
}
