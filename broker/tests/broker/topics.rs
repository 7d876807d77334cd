//! What topics say, over HTTP.

use crate::client::{Client, PATIENCE, connect};
use crate::http::{Http, KEY, with_keys};
use reveille_broker::Broker;
use reveille_proto::mqtt::Version;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

const TOPICS: &str = "/v1/broker/apps/default/topics";

const RULES: &str =
    "[[history]]\nfilter = '厂/+/temp'\nvalue = 'json:/temp'\npoints = 3\n[[history]]\nfilter = 'level'\n";

fn start(rules: &str) -> (Broker, Http, Client<TcpStream>) {
    // Tables come behind the keys of the file's root.
    let text = with_keys("").replacen("[[admin", &format!("{rules}[[admin"), 1);
    let broker = crate::broker(&text);
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    let client = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sensor", true));
    (broker, http, client)
}

fn values(answer: &Value) -> Vec<f64> {
    answer["points"].as_array().unwrap().iter().map(|point| point["value"].as_f64().unwrap()).collect()
}

#[test]
fn a_topic_that_a_rule_names_has_its_last_values_and_others_have_none() {
    let (_broker, http, mut sensor) = start(RULES);
    for (at, (topic, payload)) in [
        ("厂/7/temp", r#"{"temp":1}"#),
        ("厂/7/temp", r#"{"temp":2}"#),
        ("厂/7/temp", "no number"),
        ("厂/7/temp", r#"{"temp":6}"#),
        ("厂/7/temp", r#"{"temp":4}"#),
        ("level", "12.5"),
        ("other", "1"),
    ]
    .into_iter()
    .enumerate()
    {
        sensor.publish(topic, payload.as_bytes(), u16::try_from(at).unwrap() + 1);
    }
    let of = |topic: &str| format!("{TOPICS}/{topic}");
    let temp = of("%E5%8E%82%2F7%2Ftemp");
    assert_eq!(values(&http.get(&format!("{temp}/history"))), [2.0, 6.0, 4.0], "three are kept");
    for (agg, wanted) in [("last", 4.0), ("avg", 4.0), ("min", 2.0), ("max", 6.0)] {
        let answer = http.get(&format!("{temp}/history?step=300d&agg={agg}"));
        assert_eq!(
            (values(&answer), &answer["step_ms"]),
            (vec![wanted], &json!(25_920_000_000_u64)),
            "{agg}"
        );
    }
    let last = http.get(&format!("{temp}/last"));
    assert_eq!(
        (&last["topic"], &last["value"]["value"], &last["retained"]),
        (&json!("厂/7/temp"), &json!(4.0), &Value::Null)
    );
    let points = http.get(&format!("{temp}/history"))["points"].clone();
    let last_ms = points[2]["at_ms"].as_u64().unwrap();
    assert_eq!(values(&http.get(&format!("{temp}/history?to={}", points[0]["at_ms"]))), [0.0; 0]);
    assert_eq!(values(&http.get(&format!("{temp}/history?from={}", last_ms + 1))), [0.0; 0]);
    assert_eq!(values(&http.get(&format!("{}/history", of("level")))), [12.5]);

    let retained = json!({"payload": "on", "qos": 1});
    http.ask("PUT", "/v1/broker/apps/default/retained/lamp", Some(&retained));
    let last = http.get(&format!("{}/last", of("lamp")));
    assert_eq!((&last["value"], &last["retained"]["payload"]["text"]), (&Value::Null, &json!("on")));
    for (path, status, code) in [
        (format!("{}/last", of("other")), 404, "topic_unknown"),
        (format!("{}/history", of("other")), 404, "no_history"),
        (format!("{}/history?step=5", of("level")), 400, "invalid_query"),
        (format!("{}/history?agg=sum", of("level")), 400, "invalid_query"),
        (format!("{}/history?until=1", of("level")), 400, "invalid_query"),
        (format!("{}/last", of("a%2F%23")), 400, "invalid_path"),
        (format!("{TOPICS}/stream?filter=a%23"), 400, "invalid_query"),
        (format!("{TOPICS}/stream"), 400, "invalid_query"),
    ] {
        let answer = http.ask("GET", &path, None);
        assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{path}: {answer:?}");
    }
}

/// A stream of server-sent events, read line by line.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(http: &Http, filter: &str) -> Self {
        let mut socket = TcpStream::connect(http.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let path = format!("{TOPICS}/stream?filter={filter}");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n").unwrap();
        let mut events = Self(BufReader::new(socket));
        assert!(events.until("HTTP/1.1").contains("200"));
        assert!(events.until("content-type").contains("text/event-stream"));
        events.until(": open"); // from now on nothing is missed
        events
    }

    /// The next line that begins so.
    fn until(&mut self, begin: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended before {begin}");
            if line.starts_with(begin) {
                return line.trim_end().to_owned();
            }
        }
    }

    fn message(&mut self) -> (String, String) {
        let line = self.until("data: ");
        let data: Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&data["topic"]), text(&data["payload"]["text"]))
    }
}

#[test]
fn a_stream_tells_messages_under_its_filter_as_they_come() {
    let (_broker, http, mut sensor) = start("");
    let mut events = Events::open(&http, "%E5%8E%82%2F%23");
    for (id, (topic, payload)) in [(1, ("other", "0")), (2, ("厂/1", "a")), (3, ("厂/2", "b"))] {
        sensor.publish(topic, payload.as_bytes(), id);
    }
    assert_eq!(events.message(), ("厂/1".to_owned(), "a".to_owned()));
    assert_eq!(events.message(), ("厂/2".to_owned(), "b".to_owned()));
}
