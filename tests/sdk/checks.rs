//! What every binding must do, against the real program.

use crate::phone::{Phone, Platform, Shown, storage};
use hyper::Method;
use reveille_tests::api::Api;
use reveille_tests::program::{Reveille, wait_for};
use serde_json::{Value, json};
use std::path::Path;
use tokio::runtime::Runtime;

const DEVICE: &str = "手机-1";
const DEVICE_PATH: &str = "%E6%89%8B%E6%9C%BA-1";
const WEBSOCKET: &str = "[[broker.listeners]]\nname = \"ws\"\nkind = \"ws\"\naddress = ";

/// The program, a business server beside it, and one phone after the other.
struct Stage<'a> {
    platform: &'a Platform,
    reveille: Reveille,
    runtime: Runtime,
}

impl<'a> Stage<'a> {
    fn set(platform: &'a Platform) -> Self {
        let reveille = Reveille::start_with(&format!("{WEBSOCKET}\"127.0.0.1:0\"\n"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if platform.is_web {
            // The same port after a restart, as the phone knows no other.
            let address = reveille.listener("ws");
            reveille.rewrite_config(&format!("{WEBSOCKET}\"{address}\"\n"));
        }
        Self { platform, reveille, runtime }
    }

    fn phone(&self, directory: &Path) -> Phone {
        let endpoint = if self.platform.is_web {
            format!("ws://{}/mqtt", self.reveille.listener("ws"))
        } else {
            self.reveille.mqtt().to_string()
        };
        Phone::start(self.platform, &endpoint, DEVICE, directory)
    }

    fn api(&self) -> Api {
        Api::new(self.reveille.http(), self.reveille.admin_key())
    }

    /// A business server sends a message to the phone; its id.
    fn send(&self, title: &str) -> String {
        let message = json!({
            "audience": {"devices": [DEVICE]},
            "notification": {"title": title, "body": "正文"},
            "delivery": {"strategy": "online_only"},
        });
        let path = "/v1/apps/default/messages";
        let answer = self.runtime.block_on(self.api().post(path, message));
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a delivery is in this state.
    fn wait_delivery(&self, id: &str, state: &str) {
        let path = format!("/v1/apps/default/messages/{id}/deliveries/{DEVICE_PATH}");
        self.runtime.block_on(self.api().get_until(&path, |answer| answer["state"] == state));
    }

    fn wait_device(&self, is_wanted: impl Fn(&Value) -> bool) {
        let path = format!("/v1/apps/default/devices/{DEVICE_PATH}");
        let asked = async {
            loop {
                let (status, device) = self.api().ask(Method::GET, &path, None).await;
                if status == 200 && is_wanted(&device) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let asked = async { tokio::time::timeout(reveille_tests::PATIENCE, asked).await };
        self.runtime.block_on(asked).expect("the device is as wanted");
    }
}

/// A life of a phone: online, registered, reached; the broker dies and comes back; the app dies and comes back.
pub fn check(platform: &Platform) {
    let mut stage = Stage::set(platform);
    let (_kept, directory) = storage();
    let mut phone = stage.phone(&directory);
    phone.network("online");

    phone.order("register record token-of-this-phone");
    stage.wait_device(|device| device.to_string().contains("\"record\""));
    let first = stage.send("第一");
    assert_eq!(phone.message(), shown(&first, "$push/message", "第一"));
    stage.wait_delivery(&first, "shown");
    assert_eq!(phone.order(&format!("vendor-push {first}")), "duplicate");

    phone.order("subscribe 新闻/+");
    phone.order("publish 新闻/1 今天");
    assert_eq!(phone.message(), shown("-", "新闻/1", "今天"));

    phone.order("network-changed 46000");
    phone.network("online");
    // Nobody looks: as seldom as the network allows. The user looks: a beat a minute.
    wait_for("a long wait", || interval_s(&phone.order("heartbeat")).filter(|interval_s| *interval_s > 60));
    phone.order("foreground");
    wait_for("a beat a minute", || (interval_s(&phone.order("heartbeat")) == Some(60)).then_some(()));
    phone.order("background");

    // The broker dies. What is posted meanwhile arrives once it is back, once.
    stage.reveille.kill();
    phone.network("waiting");
    let posted = phone.order("post 新闻/2 离线时写的");
    assert_eq!(phone.order("outbox"), "1 0 0");
    stage.reveille.start_again();
    phone.network("online");
    assert_eq!(phone.message(), shown(&posted, "新闻/2", "离线时写的"));
    let second = stage.send("第二");
    assert_eq!(phone.message(), shown(&second, "$push/message", "第二"));
    stage.wait_delivery(&second, "shown");
    wait_for("an empty outbox", || (phone.order("outbox") == "0 0 0").then_some(()));

    // The app dies. What came meanwhile waits; what it had is not shown again.
    phone.kill();
    let third = stage.send("第三");
    let mut phone = stage.phone(&directory);
    assert_eq!(phone.message(), shown(&third, "$push/message", "第三"));
    stage.wait_delivery(&third, "shown");
    for id in [&first, &second, &third] {
        assert_eq!(phone.order(&format!("vendor-push {id}")), "duplicate", "handled before the app died");
    }
    // By vendor first: shown there, so not again.
    assert_eq!(phone.order("vendor-push 0199b2c0-7c3e-7a41-9c55-0242ac120002"), "show");
    assert_eq!(phone.order("vendor-push 0199b2c0-7c3e-7a41-9c55-0242ac120002"), "duplicate");

    // The app dies with a message in its outbox, and the next one sends it.
    stage.reveille.kill();
    phone.network("waiting");
    let posted = phone.order("post 新闻/3 遗言");
    phone.kill();
    stage.reveille.start_again();
    let mut phone = stage.phone(&directory);
    assert_eq!(phone.message(), shown(&posted, "新闻/3", "遗言"));
    assert_eq!(phone.unseen(), 0, "and nothing else");
    phone.close();
}

/// Out of the phone's words about its heartbeat on that network.
fn interval_s(heartbeat: &str) -> Option<u64> {
    heartbeat.strip_prefix("4g,46000 ")?.parse().ok()
}

fn shown(id: &str, topic: &str, text: &str) -> Shown {
    Shown { id: id.to_owned(), topic: topic.to_owned(), text: text.to_owned() }
}
