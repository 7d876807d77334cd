//! SIGKILL of the push server while it calls thirteen vendors, two of them ill: nothing accepted is lost, and a push is
//! doubled only where its answer was lost, which is counted.

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
use std::time::{Duration, Instant};
use tokio::sync::watch;

const KILLS: usize = 20;
/// Accepted before each kill, at least.
const MESSAGES_A_ROUND: usize = 3;
/// What is wrong during the middle rounds.
const ILL: [(&str, Fault); 2] = [("xiaomi", Fault::Status(500)), ("meizu", Fault::Closes)];

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

/// Sends one message after the other, each until it is accepted; returns their ids.
async fn send_all(api: Api, is_over: Arc<AtomicBool>, accepted_count: watch::Sender<usize>) -> Vec<String> {
    let mut ids = Vec::new();
    let devices: Vec<_> = Fakes::vendors().collect();
    while !is_over.load(Ordering::SeqCst) {
        let body = json!({
            "audience": {"devices": devices}, "notification": {"title": "标题", "body": "正文"},
            "delivery": {"strategy": "vendor_only", "ttl_s": 86_400},
        });
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
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_server_killed_while_it_calls_every_vendor_loses_nothing_and_counts_what_it_doubles() {
    let mut random = super::seeded("vendors");
    let fakes = Fakes::start().await;
    let mut reveille = Reveille::start();
    let api = Api::new(reveille.http(), reveille.admin_key());
    fakes.register(&api).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (count, mut counted_on) = watch::channel(0);
    let sending = tokio::spawn(send_all(api.clone(), Arc::clone(&is_over), count));
    for round in 0..KILLS {
        fakes.cure((KILLS / 4..KILLS / 2).contains(&round));
        let wanted = *counted_on.borrow() + MESSAGES_A_ROUND;
        tokio::time::timeout(PATIENCE, counted_on.wait_for(|count| *count >= wanted)).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await; // the moment is what is tested
        tokio::task::block_in_place(|| {
            reveille.kill();
            reveille.start_again();
        });
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
    assert_eq!(fakes.others.broken(), []);
    println!(
        "{KILLS} kills, {} messages to {all} vendors: 0 lost, {} doubled, {} repeated because the answer was lost",
        ids.len(),
        doubled.values().sum::<u64>(),
        counted.values().sum::<u64>()
    );
}
