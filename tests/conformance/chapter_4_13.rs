//! Chapter 4.13: errors. Which of them end the connection, which do not, and that nobody else notices.

use crate::harness::{Connect, Packet, Stage, VERSIONS, Version, hex, prop, publish, pubrel, subscribe};

/// Covers: MQTT5-4.13.1-1, MQTT5-4.13.2-1
/// Trap: a malformed packet harms another client; packets that only a server may send
#[test]
fn an_error_ends_the_connection_on_which_it_came_and_no_other() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut bystander, mut sender) = (stage.connect("bystander"), stage.connect("sender"));
        bystander.subscribe("t", 1);
        let mut rows = vec![
            (0x81, hex("00 00")),               // no such type
            (0x81, hex("C0 FF FF FF FF 01")),   // a length of five bytes
            (0x81, hex("36 05 0001 't' 0001")), // QoS 3
            (0x81, hex("38 03 0001 't'")),      // QoS 0 with DUP
            (0x81, hex("30 02 0009")),          // a topic that is cut
            (0x81, hex("30 05 0003 FFFFFF")),   // a topic that is no UTF-8
            (0x82, hex("D0 00")),               // PINGRESP
            (0x95, hex("30 FF FF FF 7F")),      // a length that nobody may claim
        ];
        rows.extend(if stage.is_v5() {
            vec![
                (0x82, hex("20 03 00 00 00")),    // CONNACK
                (0x82, hex("90 04 0001 00 00")),  // SUBACK
                (0x82, hex("B0 04 0001 00 00")),  // UNSUBACK
                (0x82, hex("F0 00")),             // AUTH without a method in CONNECT
                (0x82, hex("30 04 0000 00 'x'")), // neither topic nor alias
            ]
        } else {
            vec![
                (0, hex("20 02 00 00")),
                (0, hex("90 03 0001 00")),
                (0, hex("B0 02 0001")),
                (0, hex("F0 00")),
                (0, hex("30 03 0000 'x'")),
            ]
        });
        for (reason, bytes) in rows {
            let mut client = stage.connect("c");
            client.send(bytes);
            client.expect_goodbye(reason);
            sender.publish("t", "still");
            assert_eq!(bystander.take().text(), "still");
        }
    }
}

/// Covers: MQTT5-4.13.2-1
#[test]
fn a_refused_connect_ends_the_connection() {
    let stage = Stage::new(Version::V5);
    let unknown = Connect::new("c").property(prop::text(prop::AUTHENTICATION_METHOD, "unheard of"));
    stage.expect_refusal(unknown, 0x8C, None);
    stage.expect_refusal(Connect::new("c").flip(1), 0x81, None);
}

/// Covers: MQTT5-4.13.2-1
#[test]
fn a_client_that_ends_with_an_error_is_closed() {
    let stage = Stage::new(Version::V5);
    for code in [0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        stage.connect("c").leave_with(code);
    }
}

/// Also: MQTT 5.0 section 4.13.2, an error in one request costs that request only
#[test]
fn an_error_that_an_acknowledgement_can_tell_ends_nothing() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    client.send(subscribe(1, "a#", 0));
    client.expect_suback(1, &[0x8F]);
    client.send(publish("a/".repeat(128), "x").qos(1, 2));
    client.expect_ack(0x40, 2, 0x90);
    client.send(publish("$SYS/of/the/broker", "x").qos(1, 3));
    client.expect_ack(0x40, 3, 0x87);
    client.send(pubrel(4));
    client.expect_ack(0x70, 4, 0x92);
    client.expect_nothing();
}

/// Trap: a claimed length that makes the broker allocate or wait
#[test]
fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
    let stage = Stage::with(Version::V5, "limits.packet_size_max_bytes = 1024");
    for (length, is_taken) in [(1021, true), (1022, false), (100_000, false)] {
        let mut client = stage.connect("c");
        let packet = Packet::new(0x30).text("t").u8(0).raw(vec![b'x'; length - 4]); // the packet has 3 bytes more
        let bytes = packet.bytes();
        if is_taken {
            client.send(bytes);
            client.expect_nothing();
        } else {
            client.send(&bytes[..5]);
            client.expect_goodbye(0x95);
        }
    }
}
