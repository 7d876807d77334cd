//! Who sends messages through the push server while it is killed.

use reveille_tests::PATIENCE;
use reveille_tests::api::Api;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Sends the same message again and again, with a pause behind each, each until it is accepted; their ids.
pub async fn send_all(
    api: Api,
    body: Value,
    pause: Duration,
    is_over: Arc<AtomicBool>,
    accepted_count: watch::Sender<usize>,
) -> Vec<String> {
    let mut ids = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let key = format!("key-{}", ids.len());
        let end = Instant::now() + PATIENCE;
        let accepted = loop {
            match api.try_post("/v1/apps/default/messages", &key, &body).await {
                Some((202, answer)) => break answer,
                Some((status, answer)) if status < 500 && status != 409 => panic!("{status} {answer}"),
                Some(_) | None => assert!(Instant::now() < end, "no answer in time"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // the process is being started again
        };
        ids.push(accepted["id"].as_str().unwrap().to_owned());
        accepted_count.send_replace(ids.len());
        tokio::time::sleep(pause).await;
    }
    ids
}
