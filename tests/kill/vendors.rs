//! SIGKILL of the push server while it calls thirteen vendors, two of them ill, and while messages for many devices go
//! out in batches, are paused and go on: nothing accepted is lost, and a push is doubled only where its answer was lost,
//! which is counted.

use crate::sender::send_all;
use rand::RngExt as _;
use reveille_fakes::vendors::VENDORS;
use reveille_fakes::{FakeApns, FakeFcm, FakeVendors, Fault};
use reveille_tests::PATIENCE;
use reveille_tests::api::Api;
use reveille_tests::program::Reveille;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const KILLS: usize = 20;
/// Accepted before each kill, at least.
const MESSAGES_A_ROUND: usize = 3;
/// What is wrong during the middle rounds.
const ILL: [(&str, Fault); 2] = [("xiaomi", Fault::Status(500)), ("meizu", Fault::Closes)];

/// Vendors with batches at which a crowd of devices is registered, and devices at each: together more than a small
/// message has.
const CROWD: [&str; 4] = ["honor", "vivo", "meizu", "oppo"];
const CROWD_AT_EACH: usize = 40;
/// Every so many rounds a message goes to the crowd, is paused before the kill and goes on after it.
const ROUNDS_FOR_THE_CROWD: usize = 4;

struct Fakes {
    apns: FakeApns,
    fcm: FakeFcm,
    others: FakeVendors,
}

impl Fakes {
    async fn start() -> Self {
        let (apns, fcm) = (FakeApns::start().await.unwrap(), FakeFcm::start().await.unwrap());
        Self { apns, fcm, others: FakeVendors::start().await.unwrap() }
    }

    fn vendors() -> impl Iterator<Item = &'static str> {
        ["apns", "fcm"].into_iter().chain(VENDORS)
    }

    /// A device and a credential for each vendor; the device is called like its vendor.
    async fn register(&self, api: &Api) {
        for vendor in Self::vendors() {
            let (mut credential, token) = match vendor {
                "apns" => (self.apns.credential(), "aa01".to_owned()),
                "fcm" => (self.fcm.credential(), "T0".to_owned()),
                other => (self.others.credential(other), self.others.token(other, 1)),
            };
            credential.as_object_mut().unwrap().remove("vendor");
            api.put(&format!("/v1/apps/default/credentials/{vendor}"), credential).await;
            let path = format!("/v1/apps/default/devices/{vendor}/tokens/{vendor}");
            api.put(&path, json!({ "token": token })).await;
        }
    }

    /// Many devices with the tag `crowd`, at vendors that are paced so that a pause comes in the midst of it.
    async fn register_crowd(&self, api: &Api) {
        for vendor in CROWD {
            let mut credential = self.others.credential(vendor);
            let fields = credential.as_object_mut().unwrap();
            fields.remove("vendor");
            fields.insert("rates".to_owned(), json!({"per_second": 200}));
            api.put(&format!("/v1/apps/default/credentials/{vendor}"), credential).await;
            for number in 0..CROWD_AT_EACH {
                let path = format!("/v1/apps/default/devices/{vendor}-{number}");
                api.put(&path, json!({"tags": ["crowd"]})).await;
                let token = json!({"token": self.others.token(vendor, 100 + number)});
                api.put(&format!("{path}/tokens/{vendor}"), token).await;
            }
        }
    }

    /// How often each device token of the crowd got a message.
    fn crowd(&self, id: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for call in self.others.calls().into_iter().filter(|call| call.mid == id) {
            *counts.entry(call.token).or_default() += 1;
        }
        counts
    }

    fn cure(&self, is_ill: bool) {
        for (vendor, fault) in ILL {
            self.others.fault(vendor, is_ill.then_some(fault));
        }
    }

    /// How often each vendor took each message. WeChat carries no id of ours: its messages count as one.
    fn taken(&self) -> BTreeMap<(String, String), usize> {
        let apns =
            self.apns.calls().into_iter().map(|call| ("apns".to_owned(), call.mid().unwrap().to_owned()));
        let fcm = self.fcm.calls().into_iter().map(|call| ("fcm".to_owned(), call.mid().unwrap().to_owned()));
        let others = self.others.calls().into_iter().map(|call| (call.vendor.to_owned(), call.mid));
        let mut counts = BTreeMap::new();
        for call in apns.chain(fcm).chain(others) {
            *counts.entry(call).or_default() += 1;
        }
        counts
    }
}

async fn send_to_crowd(api: &Api) -> String {
    let body = json!({
        "audience": {"tags": ["crowd"]}, "notification": {"title": "标题", "body": "正文"},
        "delivery": {"strategy": "vendor_only"},
    });
    let answer = api.post("/v1/apps/default/messages", body).await;
    answer["id"].as_str().unwrap().to_owned()
}

/// Everybody of the crowd got the message, and more than once only as often as is counted; how often that was.
async fn check_crowd(api: &Api, fakes: &Fakes, id: &str) -> u64 {
    let all = CROWD.len() * CROWD_AT_EACH;
    let is_done = |message: &Value| message["funnel"]["vendor_accepted"] == all;
    let message = api.get_until(&format!("/v1/apps/default/messages/{id}"), is_done).await;
    let by_vendor = message["funnel"]["by_vendor"].as_object().unwrap();
    let counted: u64 = by_vendor.values().map(|counts| counts["repeated_unknown"].as_u64().unwrap()).sum();
    let taken = fakes.crowd(id);
    assert_eq!(taken.len(), all, "a device of the crowd never got {id}");
    let doubled = taken.values().sum::<u64>() - all as u64;
    assert!(doubled <= counted, "{doubled} doubled, {counted} counted: {message}");
    doubled
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_server_killed_while_it_calls_every_vendor_loses_nothing_and_counts_what_it_doubles() {
    let mut random = super::seeded("vendors");
    let fakes = Fakes::start().await;
    let mut reveille = Reveille::start();
    let api = Api::new(reveille.http(), reveille.admin_key());
    fakes.register(&api).await;
    fakes.register_crowd(&api).await;
    let mut for_crowd: Vec<String> = Vec::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let (count, mut counted_on) = watch::channel(0);
    let devices: Vec<_> = Fakes::vendors().collect();
    let body = json!({
        "audience": {"devices": devices}, "notification": {"title": "标题", "body": "正文"},
        "delivery": {"strategy": "vendor_only", "ttl_s": 86_400},
    });
    let sending = tokio::spawn(send_all(api.clone(), body, Duration::ZERO, Arc::clone(&is_over), count));
    for round in 0..KILLS {
        fakes.cure((KILLS / 4..KILLS / 2).contains(&round));
        let wanted = *counted_on.borrow() + MESSAGES_A_ROUND;
        tokio::time::timeout(PATIENCE, counted_on.wait_for(|count| *count >= wanted)).await.unwrap().unwrap();
        let is_for_crowd = round % ROUNDS_FOR_THE_CROWD == 1;
        if is_for_crowd {
            for_crowd.push(send_to_crowd(&api).await);
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await; // the moment is what is tested
        if let (true, Some(id)) = (is_for_crowd, for_crowd.last()) {
            api.post(&format!("/v1/apps/default/messages/{id}:pause"), json!({})).await;
        }
        tokio::task::block_in_place(|| {
            reveille.kill();
            reveille.start_again();
        });
        if let (true, Some(id)) = (is_for_crowd, for_crowd.last()) {
            let path = format!("/v1/apps/default/messages/{id}");
            let message = api.get(&path).await;
            let is_through = message["funnel"]["in_flight"] == 0;
            assert!(is_through || message["state"] == "paused", "{message}");
            api.post(&format!("{path}:resume"), json!({})).await;
        }
    }
    is_over.store(true, Ordering::SeqCst);
    let ids = tokio::time::timeout(PATIENCE, sending).await.unwrap().unwrap();

    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    let all = Fakes::vendors().count();
    for id in &ids {
        let is_done = |message: &Value| message["funnel"]["vendor_accepted"] == all;
        let message = api.get_until(&format!("/v1/apps/default/messages/{id}"), is_done).await;
        for (vendor, counts) in message["funnel"]["by_vendor"].as_object().unwrap() {
            *counted.entry(vendor.clone()).or_default() += counts["repeated_unknown"].as_u64().unwrap();
        }
    }
    let taken = fakes.taken();
    let mut doubled: BTreeMap<String, u64> = BTreeMap::new();
    for vendor in Fakes::vendors().filter(|vendor| *vendor != "wechat") {
        for id in &ids {
            let times = taken.get(&(vendor.to_owned(), id.clone())).copied().unwrap_or_default();
            assert!(times > 0, "{vendor} never got {id}");
            *doubled.entry(vendor.to_owned()).or_default() += times as u64 - 1;
        }
        assert!(
            doubled[vendor] <= counted[vendor],
            "{vendor}: {} doubled, {} counted",
            doubled[vendor],
            counted[vendor]
        );
    }
    for id in &for_crowd {
        let of_crowd = check_crowd(&api, &fakes, id).await;
        *doubled.entry("crowd".to_owned()).or_default() += of_crowd;
    }
    assert!(fakes.others.calls().iter().any(|call| call.batch > 1), "no batch was sent");
    assert_eq!(fakes.others.broken(), []);
    println!(
        "{KILLS} kills, {} messages to {all} vendors: 0 lost, {} doubled, {} repeated because the answer was lost",
        ids.len(),
        doubled.values().sum::<u64>(),
        counted.values().sum::<u64>()
    );
}
