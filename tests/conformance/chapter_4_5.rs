//! Chapter 4.5: a message that the broker took belongs to everybody who subscribed.

use crate::harness::{Connect, Stage, VERSIONS, publish};

/// Covers: MQTT5-4.5.0-1, MQTT3-4.5.0-1
/// Trap: acknowledged messages for offline sessions are lost in a crash
#[test]
fn every_matching_session_gets_the_message_connected_or_not() {
    const FILTERS: [&str; 4] = ["t/1", "t/+", "#", "+/1"];
    for mut stage in Stage::each(&VERSIONS) {
        // Enough of them to live on both threads of the broker.
        let names: Vec<String> = (0..8).map(|at| format!("receiver {at}")).collect();
        for (at, name) in names.iter().enumerate() {
            let mut receiver = stage.accepted(Connect::new(name).durable());
            receiver.subscribe(FILTERS[at % 4], 2);
            receiver.leave();
        }
        let mut online = stage.connect("online");
        online.subscribe("t/#", 2);
        let mut sender = stage.connect("sender");
        sender.publish("t/1", "one");
        sender.publish_with(publish("t/1", "two").qos(2, 2));
        sender.publish("other/2", "not for all");
        online.take_payloads(&["one", "two"]);
        online.expect_nothing();
        stage.crash();
        for (at, name) in names.iter().enumerate() {
            let mut receiver = stage.accepted(Connect::new(name).durable());
            let wanted =
                if FILTERS[at % 4] == "#" { &["one", "two", "not for all"][..] } else { &["one", "two"] };
            receiver.take_payloads(wanted);
            receiver.expect_nothing();
        }
    }
}

/// Also: MQTT 5.0 section 4.5, a message for nobody is taken and forgotten
#[test]
fn a_message_for_nobody_is_for_nobody() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        sender.publish("t", "early");
        let mut receiver = stage.connect("receiver");
        receiver.subscribe("t", 1);
        receiver.expect_nothing();
        sender.publish("t", "now");
        receiver.expect_message("t", "now");
    }
}
