//! SIGKILL of the push server while a hundred callers repeat one POST with one key: whatever is answered, and whenever it is
//! killed, there is one message.

use rand::RngExt as _;
use reveille_tests::api::Api;
use reveille_tests::program::Reveille;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const ROUNDS: usize = 6;
const CALLERS: usize = 100;
const MESSAGES: &str = "/v1/apps/default/messages";

/// The ids that the callers were told.
async fn call_all(api: &Api, key: &str, body: &Value) -> Vec<String> {
    let calls = (0..CALLERS).map(|_| {
        let (api, key, body) = (api.clone(), key.to_owned(), body.clone());
        tokio::spawn(async move { api.try_post(MESSAGES, &key, &body).await })
    });
    let mut told = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Some((202, answer)) => told.push(answer["id"].as_str().unwrap().to_owned()),
            Some((status, answer)) if status < 500 => panic!("{status} {answer}"),
            Some(_) | None => {}
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_identical_calls_make_one_message_when_the_push_server_is_killed_between_them() {
    let mut random = super::seeded("idempotency");
    let mut reveille = Reveille::start();
    let mut cut_off = 0;
    for round in 0..ROUNDS {
        let api = Api::new(reveille.http(), reveille.admin_key());
        let key = format!("order-{round}");
        let body = json!({"audience": {"all": true}, "notification": {"title": &key}, "reference": &key});
        let (for_task, key_of, body_of) = (api.clone(), key.clone(), body.clone());
        let calling = tokio::spawn(async move { call_all(&for_task, &key_of, &body_of).await });
        tokio::time::sleep(Duration::from_millis(random.random_range(1..60))).await; // the moment is what is tested
        tokio::task::block_in_place(|| reveille.kill());
        let mut told = calling.await.unwrap();
        cut_off += CALLERS - told.len();
        tokio::task::block_in_place(|| reveille.start_again());
        let api = Api::new(reveille.http(), reveille.admin_key());
        let again = call_all(&api, &key, &body).await;
        assert_eq!(again.len(), CALLERS);
        told.extend(again);
        let ids: BTreeSet<_> = told.into_iter().collect();
        let page = api.get(&format!("{MESSAGES}?limit=1000")).await;
        let messages = page["items"].as_array().unwrap().iter();
        let made: BTreeSet<_> = messages
            .filter(|message| message["reference"] == json!(key))
            .map(|message| message["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((made.len(), &made), (1, &ids), "round {round}");
    }
    println!("{ROUNDS} kills, {cut_off} of {} calls without an answer", ROUNDS * CALLERS);
}
