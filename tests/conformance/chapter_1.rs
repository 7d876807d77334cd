//! Chapter 1: how numbers and text are written.

use crate::harness::{Stage, VERSIONS, publish};

/// Covers: MQTT3-1.5.3-3, MQTT5-1.5.4-3
#[test]
fn a_byte_order_mark_is_a_character_and_stays_where_it_is() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("\u{FEFF}a/\u{FEFF}", 0);
        for topic in ["a/", "\u{FEFF}a/", "a/\u{FEFF}"] {
            sender.publish(topic, "another topic");
        }
        sender.publish_with(publish("\u{FEFF}a/\u{FEFF}", "\u{FEFF}").qos(1, 2));
        receiver.expect_message("\u{FEFF}a/\u{FEFF}", "\u{FEFF}");
        receiver.expect_nothing();
    }
}
