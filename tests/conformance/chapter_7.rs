//! Chapter 7 of 3.1.1: what makes a server conform.

use crate::harness::{Stage, VERSIONS};

/// Covers: MQTT3-7.1.1-1, MQTT5-4.2.0-1
#[test]
fn every_listener_carries_bytes_in_their_order_in_both_directions() {
    let payload: Vec<u8> = (0..200_000_u32).map(|no| (no % 251) as u8).collect();
    for stage in Stage::everywhere(&VERSIONS) {
        let mut client = stage.connect("both");
        client.subscribe("echo/#", 0);
        for (at, chunk) in payload.chunks(40_000).enumerate() {
            client.publish_qos_0(format!("echo/{at}"), chunk);
        }
        for (at, chunk) in payload.chunks(40_000).enumerate() {
            client.expect_message(format!("echo/{at}"), chunk);
        }
    }
}
