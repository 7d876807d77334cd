//! What each contender is configured with. Equal where brokers have the same setting: anonymous access, no bound on queues
//! that a load would reach, and their defaults for the rest.

use super::{Addresses, Contender};
use crate::client::LoadError;
use crate::over::{CERTIFICATE, KEY, Over};
use std::path::Path;

/// Writes it into the directory.
pub fn write(
    contender: &Contender,
    directory: &Path,
    addresses: Addresses,
    over: Over,
) -> Result<(), LoadError> {
    let (name, text) = match contender {
        Contender::Reveille(..) => ("reveille.toml", reveille(directory, addresses, over)),
        Contender::Mosquitto => ("mosquitto.conf", mosquitto(directory, addresses, over)),
        Contender::Rumqttd(_) => ("rumqttd.toml", rumqttd(addresses)),
        Contender::Rmqtt(_) | Contender::Peer(..) => return Ok(()),
    };
    std::fs::write(directory.join(name), text)?;
    Ok(())
}

fn reveille(directory: &Path, addresses: Addresses, over: Over) -> String {
    let kind = over.name();
    let mut text = String::from("[broker.limits]\nqueue_messages_max = 1000000\n");
    if over != Over::Tcp {
        text += &format!(
            "[[broker.listeners]]\nname = 'measured'\nkind = '{kind}'\naddress = '{}'\n",
            addresses.over
        );
    }
    if over.has_tls() {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        text += &format!("certificate = '{}'\nkey = '{}'\n", certificate.display(), key.display());
    }
    text
}

fn mosquitto(directory: &Path, addresses: Addresses, over: Over) -> String {
    let directory = directory.display();
    let mut text = format!(
        "user root\nallow_anonymous true\npersistence true\npersistence_location {directory}/\n\
         max_queued_messages 0\nlistener {} 127.0.0.1\n",
        addresses.plain.port()
    );
    if over != Over::Tcp {
        text += &format!("listener {} 127.0.0.1\n", addresses.over.port());
    }
    if matches!(over, Over::Ws | Over::Wss) {
        text += "protocol websockets\n";
    }
    if over.has_tls() {
        text += &format!("certfile {directory}/{CERTIFICATE}\nkeyfile {directory}/{KEY}\n");
    }
    text
}

fn rumqttd(addresses: Addresses) -> String {
    format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 100000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\
         [v4.1]\nname = 'v4-1'\nlisten = '{}'\nnext_connection_delay_ms = 1\n\
         [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\n\
         max_inflight_count = 100\ndynamic_filters = true\n",
        addresses.plain
    )
}
