//! The fake APNs against aioapns and @parse/node-apn.

use reveille_fakes::{ApnsAnswer, FakeApns};
use serde_json::{Value, json};

use crate::installed::{node, python, run};

const SINCE_MS: u64 = 1_700_000_000_000;

async fn fake() -> FakeApns {
    let fake = FakeApns::start().await.unwrap();
    fake.answer("dead", ApnsAnswer::unregistered(SINCE_MS));
    fake
}

/// What both clients sent, with a token key and with a certificate.
fn check_calls(fake: &FakeApns) {
    let calls = fake.calls();
    let certified = calls.iter().filter(|call| !call.headers.contains_key("authorization")).count();
    assert!(certified > 50 && calls.len() - certified > 50, "{certified} of {}", calls.len());
    assert!(
        calls
            .iter()
            .filter_map(|call| call.headers.get("apns-topic"))
            .all(|topic| topic.starts_with("com.example.reveille"))
    );
    assert_eq!(fake.provider_tokens(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioapns_speaks_to_the_fake_with_a_token_key_and_with_a_certificate() {
    let fake = fake().await;
    let directory = tempfile::tempdir().unwrap();
    let certificate = fake.certificate_credential();
    let both =
        ["certificate", "private_key"].map(|field| certificate[field].as_str().unwrap().to_owned()).concat();
    let (file, trusted) = (directory.path().join("app.pem"), directory.path().join("ca.pem"));
    std::fs::write(&file, both).unwrap();
    std::fs::write(&trusted, fake.ca_pem()).unwrap();
    let mut command = python("apns_python.py");
    command.env("SSL_CERT_FILE", &trusted);
    let told = run(command, json!({"token": fake.credential(), "certificate_file": file})).await;
    for way in ["token", "certificate"] {
        let told = &told[way];
        assert_eq!(told["first"], json!(["200", null, null]), "{way} {told}");
        assert!(told["many"].as_array().unwrap().iter().all(|answer| answer[0] == "200"), "{way} {told}");
        assert_eq!(told["dead"], json!(["410", "Unregistered", SINCE_MS]), "{way}");
        assert_eq!(told["large"][1], "PayloadTooLarge", "{way} {told}");
    }
    check_calls(&fake);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_apn_speaks_to_the_fake_with_a_token_key_and_with_a_certificate_and_manages_channels() {
    let fake = fake().await;
    let order = json!({"token": fake.credential(), "certificate": fake.certificate_credential()});
    let told = run(node("apns_node.cjs"), order).await;
    for way in ["token", "certificate"] {
        let told = &told[way];
        assert_eq!(told["first"], json!({"sent": 1, "failed": []}), "{way} {told}");
        assert_eq!(told["many"], json!({"sent": 50, "failed": []}), "{way} {told}");
        assert_eq!(
            (&told["dead"]["failed"][0][0], &told["dead"]["failed"][0][1]),
            (&json!(410), &json!("Unregistered")),
            "{way}"
        );
        assert_eq!(told["loud"]["failed"][0][1], "BadPriority", "{way}: background with priority 10");
        assert_eq!(told["call"], json!({"sent": 1, "failed": []}), "{way}: a call may have 5,120 bytes");
    }
    let channels = &told["channels"];
    assert_eq!(channels["policy"], 1, "{channels}");
    assert!(channels["all"].as_array().unwrap().contains(&channels["channelId"]), "{channels}");
    assert_eq!(channels["cast"], json!([1, Value::Array(Vec::new())]), "{channels}");
    check_calls(&fake);
}
