//! What we ask FCM, against what Google's own library asks for the same message.

use reveille_bridge::vendor::{Credential, DeviceToken, Priority, Push};
use reveille_fakes::FakeFcm;
use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};

use crate::installed::{python, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firebase_admin_makes_the_same_message() {
    let id = MessageId([7; 16]);
    let order = json!({
        "token": "T0", "title": "泵 7", "body": "压力 9.1 bar", "image": "https://i.example/p.png", "ttl_s": 3600,
        "data": {"order": "7", "mid": id.to_string()}, "collapse_key": "pump7", "channel": "alarm", "sound": "alarm",
        "click": "OPEN_ALARM", "badge": 3,
    });
    let text = |name: &str| order[name].as_str().map(str::to_owned);
    let push = Push {
        title: text("title"),
        body: text("body"),
        image: text("image"),
        sound: text("sound"),
        badge: Some(3),
        channel: text("channel"),
        click: text("click"),
        collapse_key: text("collapse_key"),
        data: json!({"order": 7}).as_object().unwrap().clone(),
        expires_at_ms: Some(3_600_000 + 1_000),
        priority: Priority::High,
        ..Push::new(id, AppId::default(), DeviceToken::parse("T0").unwrap())
    };
    let fake = FakeFcm::start().await.unwrap(); // for a credential
    let credential: Credential = serde_json::from_value(fake.credential()).unwrap();
    let request = credential.vendor().request(&push, Some("access"), 1_000).unwrap();
    let mut ours = serde_json::from_slice::<Value>(request.body()).unwrap()["message"].take();
    // Google's page has the names in capitals, its library in small letters; both are taken.
    let priority = ours["android"]["priority"].as_str().unwrap().to_lowercase();
    ours["android"]["priority"] = priority.into();
    let theirs = run(python("fcm_python.py"), order.clone()).await;
    assert_eq!(ours, theirs);
}
