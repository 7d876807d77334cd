//! Many vendors at once, through the whole bridge: one that is ill or slow is alone with it.

use std::collections::BTreeMap;

use reveille_fakes::vendors::VENDORS;
use reveille_fakes::{FakeVendors, Fault};
use serde_json::{Value, json};

use crate::world::World;

struct Stage {
    world: World,
    fake: FakeVendors,
}

impl Stage {
    /// A device and a credential for each vendor; the device is called like its vendor.
    async fn new() -> Self {
        let (world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
        for vendor in VENDORS {
            let mut credential = fake.credential(vendor);
            credential.as_object_mut().unwrap().remove("vendor");
            world.api.put(&format!("/v1/apps/default/credentials/{vendor}"), credential).await.ok();
            let path = format!("/v1/apps/default/devices/{vendor}/tokens/{vendor}");
            world.api.put(&path, json!({"token": fake.token(vendor, 1)})).await.ok();
        }
        Self { world, fake }
    }

    async fn send(&self, devices: &[&str], title: &str) -> String {
        let body = json!({
            "audience": {"devices": devices}, "notification": {"title": title, "body": "x"},
            "delivery": {"strategy": "vendor_only"},
        });
        self.world.api.send(body).await
    }

    /// How often each vendor accepted a message.
    fn accepted(&self) -> BTreeMap<(&'static str, String), usize> {
        let mut counts = BTreeMap::new();
        for call in self.fake.calls().into_iter().filter(|call| call.is_accepted) {
            *counts.entry((call.vendor, call.mid)).or_default() += 1;
        }
        counts
    }
}

#[tokio::test]
async fn one_message_reaches_a_device_at_every_vendor() {
    let stage = Stage::new().await;
    let id = stage.send(&VENDORS, "到了").await;
    let message = stage.world.api.until_funnel(&id, "vendor_accepted", VENDORS.len() as u64).await;
    let by_vendor = message["funnel"]["by_vendor"].as_object().unwrap();
    assert_eq!(by_vendor.len(), VENDORS.len(), "{message}");
    assert_eq!(stage.fake.broken(), []);
    stage.world.stop().await;
}

#[tokio::test]
async fn ill_vendors_keep_nobody_waiting_and_get_everything_once_when_they_are_well() {
    const MESSAGES: usize = 12;
    const ILL: [(&str, Fault); 2] = [("xiaomi", Fault::Status(500)), ("meizu", Fault::Closes)];
    let stage = Stage::new().await;
    for (vendor, fault) in ILL {
        stage.fake.fault(vendor, Some(fault));
    }
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        ids.push(stage.send(&VENDORS, &format!("消息 {number}")).await);
    }
    let well = (VENDORS.len() - ILL.len()) as u64;
    for id in &ids {
        let message = stage.world.api.until_funnel(id, "vendor_accepted", well).await;
        assert_eq!(message["funnel"]["in_flight"], ILL.len() as u64, "{message}");
    }
    let breakers = |text: &str, vendor: &str, count: u32| {
        let line = format!("reveille_bridge_breakers_open{{vendor=\"{vendor}\"}} {count}");
        text.lines().any(|known| known == line)
    };
    for (vendor, _) in ILL {
        stage.world.api.until_text("/metrics", |text| breakers(text, vendor, 1)).await;
        stage.fake.fault(vendor, None);
    }
    for id in &ids {
        stage.world.api.until_funnel(id, "vendor_accepted", VENDORS.len() as u64).await;
    }
    let accepted = stage.accepted();
    assert!(accepted.iter().all(|((vendor, _), count)| *vendor == "wechat" || *count == 1), "{accepted:?}");
    assert_eq!(stage.fake.broken(), []);
    let are_shut = |text: &str| ILL.iter().all(|(vendor, _)| breakers(text, vendor, 0));
    stage.world.api.until_text("/metrics", are_shut).await;
    stage.world.stop().await;
}

#[tokio::test]
async fn what_a_credential_allows_a_day_is_kept_and_the_rest_waits_for_tomorrow() {
    let mut stage = Stage::new().await;
    let path = "/v1/apps/default/credentials/webhook";
    let mut credential = stage.fake.credential("webhook");
    let fields = credential.as_object_mut().unwrap();
    fields.remove("vendor");
    fields.insert("rates".to_owned(), json!({"per_second": 0}));
    assert_eq!(stage.world.api.put(path, credential.clone()).await.pointers(), ["/rates/per_second"]);
    credential["rates"] = json!({"per_hour": 1});
    assert_eq!(stage.world.api.put(path, credential.clone()).await.pointers(), ["/rates/per_hour"]);
    credential["rates"] = json!({"per_day": 2});
    let shown = stage.world.api.put(path, credential).await.ok();
    assert_eq!(shown["rates"], json!({"per_day": 2}));
    let mut ids = Vec::new();
    for number in 0..2 {
        ids.push(stage.send(&["webhook"], &format!("{number}")).await);
        stage.world.api.until_funnel(&ids[number], "vendor_accepted", 1).await;
    }
    stage.world.kill().await; // the day's count outlives a crash
    stage.world.restart().await;
    let late = stage.send(&["webhook"], "late").await;
    let path = format!("/v1/apps/default/messages/{late}/deliveries/webhook");
    let used_up = |delivery: &Value| delivery["timeline"].to_string().contains("of this day are used up");
    let delivery = stage.world.api.until(&path, "a word about the day", used_up).await;
    assert_eq!(
        (&delivery["counts_as"], &delivery["attempts"]),
        (&json!("in_flight"), &json!(0)),
        "{delivery}"
    );
    assert_eq!(stage.fake.calls().len(), 2);
    stage.world.stop().await;
}
