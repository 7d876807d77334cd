//! The program, both fake vendors, and the API of the app `default` with credentials for both.

use reveille_fakes::{FakeApns, FakeFcm};
use reveille_tests::api::Api;
use reveille_tests::program::Reveille;
use serde_json::{Value, json};

/// Everything but devices.
pub struct Stage {
    pub reveille: Reveille,
    pub api: Api,
    pub apns: FakeApns,
    pub fcm: FakeFcm,
}

/// The vendors, as rows of a table.
pub const VENDORS: [&str; 2] = ["apns", "fcm"];

impl Stage {
    /// All in one process.
    pub async fn start() -> Self {
        let reveille = Reveille::start();
        let api = Api::new(reveille.http(), reveille.admin_key());
        Self::with(reveille, api).await
    }

    /// The API of another process than the one that is kept as `reveille`.
    pub async fn with(reveille: Reveille, api: Api) -> Self {
        let (apns, fcm) = (FakeApns::start().await.unwrap(), FakeFcm::start_tls().await.unwrap());
        for (vendor, credential) in [("apns", apns.credential()), ("fcm", fcm.credential())] {
            api.put(&format!("/v1/apps/default/credentials/{vendor}"), credential).await;
        }
        Self { reveille, api, apns, fcm }
    }

    /// SIGKILL and start, on the same data and ports.
    pub fn crash(&mut self) {
        self.reveille.kill();
        self.reveille.start_again();
    }

    /// Sends an alert; the message id.
    pub async fn send(&self, devices: &[&str], delivery: Value) -> String {
        let body = json!({
            "audience": {"devices": devices},
            "notification": {"title": "标题", "body": "正文"},
            "delivery": delivery,
        });
        let answer = self.api.post("/v1/apps/default/messages", body).await;
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the bridge has a device's token.
    pub async fn wait_token(&self, device: &str, vendor: &str) {
        let path = "/v1/apps/default/devices?limit=1000"; // the device itself would be a 404 until it is known
        let has_token = |devices: &Value| {
            let devices = devices["items"].as_array().unwrap();
            let device = devices.iter().find(|known| known["id"] == device);
            device.is_some_and(|device| device["tokens"].to_string().contains(&format!("\"{vendor}\"")))
        };
        self.api.get_until(path, has_token).await;
    }

    /// Waits until the bridge knows whether a device is online.
    pub async fn wait_presence(&self, device: &str, online: bool) {
        let path = format!("/v1/apps/default/devices/{device}/presence");
        self.api.get_until(&path, |presence| presence["online"] == online).await;
    }

    /// Waits until a message's funnel is as wanted; its parts must make the whole at any moment.
    ///
    /// # Panics
    /// After the patience of a test, with what became of the message at each device.
    pub async fn wait_funnel(&self, id: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/apps/default/messages/{id}");
        let is_wanted = |message: &Value| {
            check_sum(&message["funnel"]);
            is_wanted(&message["funnel"])
        };
        match self.api.try_get_until(&path, is_wanted).await {
            Ok(message) => message["funnel"].clone(),
            Err(last) => panic!("waited in vain: {last}\n{}", self.timelines(id).await),
        }
    }

    async fn timelines(&self, id: &str) -> String {
        let path = format!("/v1/apps/default/messages/{id}/deliveries");
        let mut text = String::new();
        for row in self.api.get(&format!("{path}?limit=1000")).await["items"].as_array().unwrap() {
            let device = row["device"].as_str().unwrap();
            text += &format!("{}\n", self.api.get(&format!("{path}/{device}")).await);
        }
        text
    }

    /// The message ids that a vendor was called with for a device token, in order, repetitions too.
    pub fn mids(&self, vendor: &str, token: &str) -> Vec<String> {
        match vendor {
            "apns" => {
                let calls = self.apns.calls().into_iter().filter(|call| call.token == token);
                calls.map(|call| call.mid().unwrap().to_owned()).collect()
            }
            _ => {
                let calls = self.fcm.calls().into_iter().filter(|call| call.token == token);
                calls.map(|call| call.mid().unwrap().to_owned()).collect()
            }
        }
    }
}

/// Every delivery is in exactly one part of the funnel.
pub fn check_sum(funnel: &Value) {
    let parts = ["filtered", "suppressed", "failed", "expired", "acked", "vendor_accepted", "in_flight"];
    let sum: u64 = parts.iter().map(|part| funnel[*part].as_u64().unwrap()).sum();
    assert_eq!(Some(sum), funnel["targeted"].as_u64(), "{funnel}");
}
