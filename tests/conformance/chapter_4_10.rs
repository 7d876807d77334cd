//! Chapter 4.10: requests and responses. It has no numbered statement; the properties are those of chapter 3.3.

use crate::harness::{Connect, Stage, VERSIONS, Version, prop, publish};

/// Also: MQTT 5.0 section 4.10, a response finds its way by response topic and correlation data
#[test]
fn a_response_comes_to_whoever_asked() {
    let stage = Stage::new(Version::V5);
    let (mut asking, mut answering) = (stage.connect("asking"), stage.connect("answering"));
    asking.subscribe("response/asking", 1);
    answering.subscribe("request/#", 1);
    for number in ["\u{0}one", "two"] {
        let properties =
            [prop::text(prop::RESPONSE_TOPIC, "response/asking"), prop::text(prop::CORRELATION_DATA, number)];
        asking.publish_properties("request/time", "?", &properties);
        let request = answering.take();
        let topic = request.find(prop::RESPONSE_TOPIC).unwrap().text().to_owned();
        let number = request.find(prop::CORRELATION_DATA).unwrap().clone();
        answering.publish_properties(&topic, "noon", std::slice::from_ref(&number));
        let response = asking.take();
        assert_eq!((response.text(), &response.properties[..]), ("noon", &[number][..]));
    }
}

/// Also: MQTT 5.0 section 4.10, who speaks an older version gets the request without its properties
#[test]
fn older_versions_get_the_request_alone() {
    let stage = Stage::new(Version::V5);
    let mut asking = stage.connect("asking");
    for version in VERSIONS.into_iter().filter(|version| *version != Version::V5) {
        let mut answering = stage.accepted_as(version, Connect::new("answering"));
        answering.subscribe("request", 0);
        asking.publish_properties("request", "?", &[prop::text(prop::RESPONSE_TOPIC, "response")]);
        assert_eq!(answering.expect_publish(), publish("request", "?"));
    }
}
