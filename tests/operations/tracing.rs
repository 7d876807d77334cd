//! Following one client or one topic: "why did it not get that?" is answered by the log.

use reveille_proto::mqtt::QoS;
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::{Reveille, wait_for};
use serde_json::Value;

const CONFIG: &str =
    "log_format = 'json'\n[[broker.traces]]\nfilter = 'alarm/#'\n[[broker.traces]]\nclient_id = '设备'\n";

/// Waits for a line of a trace with these fields.
fn wait_for_line(reveille: &Reveille, message: &str, fields: &[(&str, Value)]) -> Value {
    wait_for(&format!("{message} {fields:?}"), || {
        let errors = reveille.errors();
        let mut lines = errors.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| {
            line["message"] == message && fields.iter().all(|(name, wanted)| line[name] == *wanted)
        })
    })
}

#[test]
fn a_trace_tells_who_got_a_message_and_why_another_did_not() {
    let reveille = Reveille::start_with(&format!("{CONFIG}[[broker.traces]]\nclient_id = 'asleep'\n"));
    let mut online = Client::connect(reveille.mqtt(), &Options::clean("online"));
    online.subscribe("alarm/+", QoS::AtLeastOnce);
    let mut asleep = Client::connect(reveille.mqtt(), &Options::persistent("asleep"));
    asleep.subscribe("alarm/fire", QoS::AtMostOnce);
    asleep.disconnect();
    wait_for_line(&reveille, "disconnected", &[("client_id", "asleep".into())]);
    let mut sender = Client::connect(reveille.mqtt(), &Options::clean("sender"));
    sender.publish("alarm/fire", "!", QoS::AtLeastOnce);
    sender.publish("other", "not followed", QoS::AtLeastOnce);
    sender.publish("alarm/nobody/hears", "!", QoS::AtLeastOnce);
    let published = [("client_id", "sender".into()), ("topic", "alarm/fire".into()), ("bytes", 1.into())];
    wait_for_line(&reveille, "published", &published);
    let queued = [("client_id", "online".into()), ("topic", "alarm/fire".into()), ("qos", 1.into())];
    wait_for_line(&reveille, "queued", &queued);
    let sent = [("client_id", "online".into()), ("packet", "PUBLISH".into()), ("packet_id", 1.into())];
    wait_for_line(&reveille, "sent", &sent);
    let dropped = [("client_id", "asleep".into()), ("reason", "offline_qos0".into())];
    wait_for_line(&reveille, "dropped", &dropped);
    wait_for_line(&reveille, "nobody subscribes", &[("topic", "alarm/nobody/hears".into())]);
    assert!(!reveille.errors().contains("\"other\""), "{}", reveille.errors());
}

#[test]
fn a_trace_of_a_client_tells_each_packet_with_its_reason_until_it_stands_in_the_file_no_more() {
    let reveille = Reveille::start_with(CONFIG);
    let mut device = Client::connect(reveille.mqtt(), &Options::persistent("设备"));
    device.subscribe("d/#", QoS::AtLeastOnce);
    device.publish("$SYS/forged", "x", QoS::AtLeastOnce);
    device.disconnect();
    let device = ("client_id", Value::from("设备"));
    wait_for_line(&reveille, "connected", &[device.clone(), ("network", "127.0.0.1".into())]);
    let subscribe = ("detail", "d/# qos 1".into());
    wait_for_line(&reveille, "received", &[device.clone(), ("packet", "SUBSCRIBE".into()), subscribe]);
    let granted = ("detail", "0x01".into());
    wait_for_line(&reveille, "sent", &[device.clone(), ("packet", "SUBACK".into()), granted]);
    let refused = ("reason", "0x87 not authorized".into());
    wait_for_line(&reveille, "sent", &[device.clone(), ("packet", "PUBACK".into()), refused]);
    wait_for_line(&reveille, "disconnected", &[device.clone(), ("reason", "0x00 success".into())]);

    reveille.rewrite_config("log_format = 'json'\nlog = 'info'\n");
    reveille.signal("HUP");
    wait_for_line(&reveille, "the configuration was read again", &[]);
    let before = reveille.errors();
    Client::connect(reveille.mqtt(), &Options::persistent("设备")).ping();
    assert!(!reveille.errors()[before.len()..].contains("设备"), "nobody is followed any more");
}
