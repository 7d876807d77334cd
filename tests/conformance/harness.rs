//! What the chapters are written with: a stage with a broker on it, clients made of bytes, and packets to send them.

mod answers;
mod client;
mod packets;
mod received;
mod stage;
mod transport;
mod wire;

#[allow(unused_imports, reason = "each chapter takes what it needs")]
pub use {
    answers::ack_with,
    client::{Client, PATIENCE},
    packets::{
        Connect, Publish, Subscribe, Unsubscribe, Will, ack, disconnect, pingreq, puback, pubcomp, publish,
        pubrec, pubrel, subscribe, unsubscribe,
    },
    received::{Ack, ConnAck, Disconnect, Frame, SubAck},
    stage::{Disk, OLD, SINCE_3_1_1, Stage, VERSIONS, Version},
    wire::{Packet, Property, ToBytes, hex, prop},
};
