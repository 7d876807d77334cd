//! Chapter 4.2: network connections. The stream has no boundaries but those of the packets in it.

use crate::harness::{Connect, Stage, ToBytes, VERSIONS, Will, pingreq, publish, subscribe};

/// Covers: MQTT5-4.2.0-1, MQTT3-7.1.1-1
#[test]
fn packets_may_come_in_any_pieces() {
    for stage in Stage::everywhere(&VERSIONS) {
        let packets = [
            Connect::new("c").to_bytes(stage.version),
            subscribe(1, "t", 0).to_bytes(stage.version),
            publish("t", "x".repeat(200)).to_bytes(stage.version),
            pingreq().bytes(),
        ];
        let all = packets.concat();
        for size in [1, 2, 3, 7, all.len() - 1, all.len()] {
            let mut client = stage.socket();
            for piece in all.chunks(size) {
                client.send(piece);
            }
            assert_eq!(client.expect_connack().code, 0, "pieces of {size}");
            client.expect_suback(1, &[0]);
            client.expect_message("t", "x".repeat(200));
            client.expect([0xD0, 0]);
            client.leave();
        }
    }
}

/// Covers: MQTT5-4.2.0-1
#[test]
fn large_packets_pass_whole_in_both_directions() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut client = stage.connect("c");
        client.subscribe("t", 1);
        for size in [127 - 3, 128, 16_383, 16_384, 70_000, 1_000_000] {
            let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            client.send(publish("t", &payload).qos(1, 1));
            let (one, two) = (client.next(), client.next());
            let came = if one.first == 0x40 { two } else { one };
            assert!(came.publish(stage.version).payload == payload, "{size} bytes");
        }
    }
}

/// Trap: half packets at the end of a connection
#[test]
fn a_packet_that_never_gets_whole_is_no_packet() {
    for stage in Stage::each(&VERSIONS) {
        let mut watcher = stage.connect("watcher");
        watcher.subscribe("#", 0);
        let whole = publish("t", "x").to_bytes(stage.version);
        for size in 1..whole.len() {
            let mut client = stage.accepted(Connect::new("c").will(Will::new("will", "c")));
            client.send(&whole[..size]);
            client.cut();
            watcher.expect_message("will", "c");
        }
    }
}
