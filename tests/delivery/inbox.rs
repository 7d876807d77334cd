//! The inbox of a user on two devices, with the library, through the broker and the bridge.

use crate::stage::Stage;
use reveille_client::{Backoff, Client, InboxError, InboxQuery, InboxState, Messages, Options};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Nothing here takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A device that shows every message at once.
struct Phone {
    client: Client,
    state: watch::Receiver<Option<InboxState>>,
}

impl Phone {
    async fn connect(stage: &Stage, name: &str) -> Self {
        let broker = stage.reveille.mqtt();
        let quick = Backoff { cap: Duration::from_millis(50), ..Backoff::default() };
        let options = Options::new(name, broker.ip().to_string(), broker.port()).backoff(quick);
        let (client, messages) = Client::connect(options).unwrap();
        tokio::spawn(show_all(messages));
        client.online().await.unwrap();
        let state = client.inbox().state();
        Self { client, state }
    }

    /// Waits until the device knows so many unread messages of the user.
    async fn knows(&mut self, user: &str, unread: u64) {
        let is_it = |state: &Option<InboxState>| {
            state.as_ref().is_some_and(|state| state.user.as_deref() == Some(user) && state.unread == unread)
        };
        let known = timeout(PATIENCE, self.state.wait_for(is_it)).await.is_ok();
        assert!(known, "wanted {unread} of {user}, knows {:?}", self.state.borrow());
    }

    async fn titles(&self) -> Vec<String> {
        let page = self.client.inbox().page(InboxQuery::default()).await.unwrap();
        page.messages.into_iter().map(|message| message.title.unwrap()).collect()
    }
}

async fn show_all(mut messages: Messages) {
    while let Some(message) = messages.recv().await {
        let _ = message.handled().await; // a closed client asks for nothing more
    }
}

async fn belongs_to(stage: &Stage, device: &str, user: &str) {
    stage.api.put(&format!("/v1/apps/default/devices/{device}"), json!({"alias": {"user": user}})).await;
}

async fn send(stage: &Stage, title: &str) -> String {
    let body =
        json!({"audience": {"aliases": {"user": ["42"]}}, "notification": {"title": title}, "inbox": true});
    stage.api.post("/v1/apps/default/messages", body).await["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_device_reads_is_read_on_the_others_also_after_a_crash() {
    let mut stage = Stage::start().await;
    for device in ["phone", "tablet"] {
        belongs_to(&stage, device, "42").await;
    }
    let (mut phone, mut tablet) =
        (Phone::connect(&stage, "phone").await, Phone::connect(&stage, "tablet").await);
    let first = send(&stage, "一").await;
    send(&stage, "二").await;
    for device in [&mut phone, &mut tablet] {
        device.knows("42", 2).await;
        assert_eq!(device.titles().await, ["二", "一"]);
    }

    let first = reveille_client::MessageId::parse(&first).unwrap();
    assert_eq!(phone.client.inbox().read(&[first]).await, Ok(1));
    tablet.knows("42", 1).await; // told, it did not ask

    // What was read and kept is on disk, and the device that was away hears it when it comes back.
    tablet.client.close().await;
    let page = phone.client.inbox().page(InboxQuery { unread: true, ..InboxQuery::default() }).await.unwrap();
    assert_eq!(phone.client.inbox().read_up_to(page.messages[0].id).await, Ok(0));
    stage.crash();
    let unread = |answer: &Value| answer["unread"] == 0;
    stage.api.get_until("/v1/apps/default/users/42/unread-count", unread).await;
    let mut tablet = Phone::connect(&stage, "tablet").await;
    tablet.knows("42", 0).await;
    assert_eq!(tablet.titles().await, ["二", "一"]);
    assert_eq!(tablet.client.inbox().delete(&[first]).await, Ok(0));
    assert_eq!(phone.titles().await, ["二"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_sees_its_own_users_inbox_only() {
    let stage = Stage::start().await;
    belongs_to(&stage, "mine", "42").await;
    belongs_to(&stage, "shared", "7").await;
    let message = send(&stage, "private").await;
    let mut shared = Phone::connect(&stage, "shared").await;
    shared.knows("7", 0).await;
    assert_eq!(shared.titles().await, Vec::<String>::new());
    let message = reveille_client::MessageId::parse(&message).unwrap();
    assert_eq!(shared.client.inbox().delete(&[message]).await, Ok(0));
    let stranger = Phone::connect(&stage, "stranger").await;
    assert_eq!(stranger.client.inbox().unread().await, Err(InboxError::NoUser));

    // The phone changes hands while it is connected.
    belongs_to(&stage, "shared", "42").await;
    shared.knows("42", 1).await;
    assert_eq!(shared.titles().await, ["private"]);
    belongs_to(&stage, "shared", "7").await;
    shared.knows("7", 0).await;
    assert_eq!(shared.titles().await, Vec::<String>::new());
}
