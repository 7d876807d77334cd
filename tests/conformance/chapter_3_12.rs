//! Chapters 3.12 and 3.13: PINGREQ and PINGRESP.

use crate::harness::{Stage, VERSIONS, hex};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;

/// Covers: MQTT5-3.12.4-1, MQTT3-3.12.4-1
#[test]
fn each_pingreq_has_its_pingresp() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut client = stage.connect("c");
        client.send([0xC0, 0].repeat(100));
        for _ in 0..100 {
            client.expect([0xD0, 0]);
        }
        client.expect_nothing();
    }
}

/// Trap: PINGREQ with a body
#[test]
fn a_pingreq_that_is_none_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        for bytes in ["C0 01 00", "C1 00", "C2 00", "C8 00", "CF 00"] {
            let mut client = stage.connect("c");
            client.send(hex(bytes));
            client.expect_goodbye(MALFORMED);
        }
        let mut client = stage.connect("c");
        client.send(hex("C0 80 00")); // a length that is longer than it has to be, which only 5.0 forbids
        if stage.is_v5() {
            client.expect_goodbye(MALFORMED);
        } else {
            client.expect([0xD0, 0]);
        }
    }
}

/// Trap: a packet that only a server may send
#[test]
fn a_pingresp_from_a_client_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        for (bytes, reason) in [("D0 00", PROTOCOL_ERROR), ("D1 00", MALFORMED), ("D0 01 00", MALFORMED)] {
            let mut client = stage.connect("c");
            client.send(hex(bytes));
            client.expect_goodbye(reason);
        }
    }
}
