//! SIGKILL of the push server around the moments of schedules: each moment has exactly one message, and it goes out.

use rand::RngExt as _;
use reveille_tests::api::Api;
use reveille_tests::program::Reveille;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Schedules of each second.
const AT_ONCE: u64 = 6;
/// Seconds with schedules.
const SECONDS: u64 = 6;
/// How far ahead the first is, in seconds: all of them are made by then, on a busy machine too.
const AHEAD: u64 = 15;
const APP: &str = "/v1/apps/default";

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A local time of UTC.
fn local(at_s: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(at_s).unwrap()).unwrap().to_string().replace('Z', "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_has_exactly_one_message_when_the_push_server_is_killed_around_it() {
    let mut random = super::seeded("schedules");
    let mut reveille = Reveille::start();
    let api = Api::new(reveille.http(), reveille.admin_key());
    let first_s = now_s() + AHEAD;
    for n in 0..SECONDS * AT_ONCE {
        let message = json!({"audience": {"devices": [format!("设备-{n}")]}, "notification": {"title": "t"}});
        let body =
            json!({"name": n.to_string(), "when": {"at": local(first_s + n / AT_ONCE)}, "message": message});
        let made = api.post(&format!("{APP}/schedules"), body).await;
        assert!(made["id"].is_string(), "{made}");
    }
    let mut kills = 0;
    while now_s() <= first_s + SECONDS {
        let moment = Duration::from_millis(random.random_range(100..900));
        tokio::time::sleep(moment).await; // the moment is what is tested
        tokio::task::block_in_place(|| {
            reveille.kill();
            reveille.start_again();
        });
        kills += 1;
    }
    let is_over = |page: &Value| page["items"].as_array().unwrap().iter().all(|one| one["state"] == "ended");
    api.get_until(&format!("{APP}/schedules?limit=1000"), is_over).await;
    let page = api.get(&format!("{APP}/messages?limit=1000")).await;
    let mut by_schedule: BTreeMap<String, usize> = BTreeMap::new();
    for message in page["items"].as_array().unwrap() {
        *by_schedule.entry(message["schedule"].as_str().unwrap().to_owned()).or_default() += 1;
        let path = format!("{APP}/messages/{}", message["id"].as_str().unwrap());
        api.get_until(&path, |message| message["funnel"]["targeted"] == 1).await;
    }
    assert!(by_schedule.values().all(|count| *count == 1), "{by_schedule:?}");
    assert_eq!(by_schedule.len() as u64, SECONDS * AT_ONCE, "after {kills} kills");
    println!("{kills} kills, {} moments", by_schedule.len());
}
