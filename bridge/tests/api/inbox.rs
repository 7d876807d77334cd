//! The inbox of a user: what is kept, read and deleted, over HTTP and by devices, also after a crash.

use reveille_proto::bridge::from_device::Kind;
use reveille_proto::ids::MessageId;
use serde_json::{Value, json};

use crate::world::World;

const INBOX: &str = "/v1/apps/default/users/42/inbox";
const UNREAD: &str = "/v1/apps/default/users/42/unread-count";

/// A device of user 42, or of another.
async fn device(world: &World, id: &str, user: &str) {
    world.api.put(&format!("/v1/apps/default/devices/{id}"), json!({"alias": {"user": user}})).await.ok();
}

async fn send(world: &World, title: &str) -> String {
    let body = json!({"audience": {"aliases": {"user": ["42"]}}, "notification": {"title": title}, "data": {"n": 1},
        "inbox": true, "delivery": {"strategy": "online_only"}});
    world.api.send(body).await
}

async fn titles(world: &World, query: &str) -> Vec<String> {
    let page = world.api.get(&format!("{INBOX}{query}")).await.ok();
    let title = |item: &Value| item["title"].as_str().unwrap().to_owned();
    page["items"].as_array().unwrap().iter().map(title).collect()
}

async fn unread(world: &World) -> u64 {
    world.api.get(UNREAD).await.ok()["unread"].as_u64().unwrap()
}

#[tokio::test]
async fn a_user_has_one_entry_for_a_message_whatever_devices_it_went_to_and_reads_and_deletes_it() {
    let world = World::start().await;
    for id in ["phone", "tablet"] {
        device(&world, id, "42").await;
    }
    device(&world, "other", "7").await;
    let first = send(&world, "一").await;
    let second = send(&world, "二").await;
    world.api.send(json!({"audience": {"devices": ["phone"]}, "notification": {"title": "gone"}})).await;
    assert_eq!((titles(&world, "").await, unread(&world).await), (vec!["二".to_owned(), "一".to_owned()], 2));
    let page = world.api.get(&format!("{INBOX}?limit=1")).await.ok();
    let item = &page["items"][0];
    assert_eq!(
        (&item["id"], &item["data"], &item["read_at_ms"]),
        (&json!(second), &json!({"n": 1}), &Value::Null)
    );
    let next = page["page"]["next"].as_str().unwrap().to_owned();
    assert_eq!(titles(&world, &format!("?limit=1&after={next}")).await, ["一"]);

    let read = world.api.post(&format!("{INBOX}:read"), json!({"ids": [first]})).await.ok();
    assert_eq!(read, json!({"read": 1, "unread": 1}));
    let again = world.api.post(&format!("{INBOX}:read"), json!({"up_to": first})).await.ok();
    assert_eq!(again, json!({"read": 0, "unread": 1}));
    assert_eq!(titles(&world, "?unread=true").await, ["二"]);
    assert_eq!(world.api.delete(&format!("{INBOX}/{second}")).await.ok()["unread"], 0);
    assert_eq!(world.api.delete(&format!("{INBOX}/{second}")).await.errno(), 3003);
    assert_eq!(titles(&world, "").await, ["一"]);
    assert_eq!(world.api.get("/v1/apps/default/users/nobody/unread-count").await.ok()["unread"], 0);
    world.stop().await;
}

#[tokio::test]
async fn what_an_inbox_is_asked_for_is_checked() {
    let world = World::start().await;
    let audience = json!({"devices": ["d1"]});
    for (inbox, pointer) in
        [(json!(1), "/inbox"), (json!({"expires_s": 59}), "/inbox/expires_s"), (json!({}), "/inbox")]
    {
        let body = json!({"audience": audience, "data": {"n": 1}, "inbox": inbox});
        let answer = world.api.post("/v1/apps/default/messages", body).await;
        assert_eq!((answer.errno(), answer.pointers()), (1002, vec![pointer.to_owned()]), "{inbox}");
    }
    for body in [json!({}), json!({"all": true, "ids": []}), json!({"ids": ["x"]}), json!({"up_to": "x"})] {
        let answer = world.api.post(&format!("{INBOX}:read"), body.clone()).await;
        assert_eq!(answer.errno(), 1002, "{body}");
    }
    for query in ["?after=x", "?limit=0", "?before=1", "?unread=2"] {
        assert_eq!(world.api.get(&format!("{INBOX}{query}")).await.errno(), 1005, "{query}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_withdrawn_message_leaves_the_inbox() {
    let world = World::start().await;
    device(&world, "phone", "42").await;
    let id = send(&world, "一").await;
    send(&world, "二").await;
    world.api.delete(&format!("/v1/apps/default/messages/{id}")).await.ok();
    world.api.until(UNREAD, "withdrawn", |count| count["unread"] == 1).await;
    assert_eq!(titles(&world, "").await, ["二"]);
    world.stop().await;
}

#[tokio::test]
async fn what_a_message_says_outlives_the_message() {
    let world = World::with(|config| config.retention_s = 0).await;
    device(&world, "phone", "42").await;
    let body = json!({"audience": {"devices": ["phone"]}, "notification": {"title": "一"}, "inbox": {"expires_s": 3600},
        "delivery": {"strategy": "online_only", "ttl_s": 1}});
    let id = world.api.send(body).await;
    let path = format!("/v1/apps/default/messages/{id}");
    world.api.until(&path, "forgotten", |answer| answer["errno"] == 3003).await;
    assert_eq!((titles(&world, "").await, unread(&world).await), (vec!["一".to_owned()], 1));
    world.stop().await;
}

/// What devices are told, with the devices, from the n-th send on.
async fn notes(world: &World, count: usize) -> Vec<(Vec<String>, Value)> {
    let is_note = |send: &reveille_proto::bridge::Send| send.message.as_ref().unwrap().topic == "$push/inbox";
    loop {
        let sends = world.broker.sends_now();
        let notes: Vec<_> = sends.iter().filter(|send| is_note(send)).collect();
        if notes.len() < count {
            world.broker.sends(sends.len() + 1).await;
            continue;
        }
        let read = |send: &&reveille_proto::bridge::Send| {
            let message = send.message.clone().unwrap();
            assert!(MessageId::from_bytes(&message.id).unwrap().is_note());
            (send.client_ids.clone(), serde_json::from_slice(&message.payload).unwrap())
        };
        return notes.iter().map(read).collect();
    }
}

#[tokio::test]
async fn a_device_sees_and_changes_its_user_s_inbox_and_the_user_s_other_devices_are_told() {
    let world = World::start().await;
    for (id, user) in [("phone", "42"), ("tablet", "42"), ("other", "7")] {
        device(&world, id, user).await;
    }
    let (first, second) = (send(&world, "一").await, send(&world, "二").await);
    let ask = json!({"request": "a", "get": {"limit": 1}}).to_string();
    world.broker.said(Kind::Inbox, "phone", &ask).await;
    let (devices, answer) = notes(&world, 1).await.remove(0);
    assert_eq!(devices, ["phone"]);
    assert_eq!(
        (&answer["request"], &answer["user"], &answer["unread"]),
        (&json!("a"), &json!("42"), &json!(2))
    );
    assert_eq!((&answer["items"][0]["id"], &answer["next"]), (&json!(second), &json!(second)));

    world.broker.said(Kind::Inbox, "phone", &json!({"request": "b", "read_up_to": first}).to_string()).await;
    let told = notes(&world, 3).await;
    let (others, change) = told.iter().find(|(_, note)| note["request"].is_null()).unwrap();
    assert_eq!(
        (others.as_slice(), &change["read"], &change["unread"]),
        (&["tablet".to_owned()][..], &json!([first]), &json!(1))
    );
    assert!(
        told.iter()
            .any(|(devices, note)| devices == &["phone"] && note["request"] == "b" && note["unread"] == 1)
    );

    world.broker.said(Kind::Inbox, "other", &json!({"request": "c", "delete": [first]}).to_string()).await;
    world.broker.said(Kind::Inbox, "stranger", &json!({"request": "d"}).to_string()).await;
    world.broker.said(Kind::Inbox, "phone", "{").await;
    let told = notes(&world, 6).await;
    assert_eq!(told[3].1["unread"], 0, "another user's inbox is another");
    assert_eq!((&told[4].1["request"], &told[4].1["error"]), (&json!("d"), &json!("no_user")));
    assert_eq!(told[5].1["error"], "malformed");
    assert_eq!(titles(&world, "").await, ["二", "一"]);
    // An acknowledged note leaves no trace.
    let sends = world.broker.sends_now();
    let note = sends.iter().find(|send| send.message.as_ref().unwrap().topic == "$push/inbox").unwrap();
    world.broker.acked(note.message.as_ref().unwrap(), &[("phone", 1)]).await;
    assert_eq!(world.api.get("/v1/apps/default/messages").await.ok()["items"].as_array().unwrap().len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_phone_that_changes_hands_is_told_nothing_of_the_inbox_before() {
    let mut world = World::start().await;
    device(&world, "phone", "42").await;
    world.broker.withhold(true);
    send(&world, "一").await;
    world.kill().await; // what it asks now waits in the queue for the broker
    world.restart().await;
    world.broker.said(Kind::Inbox, "phone", &json!({"request": "a", "get": {}}).to_string()).await;
    device(&world, "phone", "7").await;
    world.kill().await;
    let before = world.broker.sends_now().len();
    world.broker.withhold(false);
    world.restart().await;
    world.broker.sends(before + 2).await;
    let told: Vec<Value> = notes(&world, 1).await.into_iter().map(|(_, note)| note).collect();
    let last = told.last().unwrap();
    assert_eq!((&last["user"], &last["unread"], &last["items"]), (&json!("7"), &json!(0), &Value::Null));
    world.stop().await;
}

#[tokio::test]
async fn crashes_at_any_moment_leave_every_user_one_entry_and_the_right_count() {
    const USERS: usize = 300;
    let mut world = World::start().await;
    let all = (0..USERS).flat_map(|n| {
        ["a", "b"].map(|device| (format!("{device}{n:03}"), json!({"alias": {"user": format!("u{n:03}")}})))
    });
    let devices: serde_json::Map<String, Value> = all.collect();
    world.api.post("/v1/apps/default/devices:import", json!({"devices": devices})).await.ok();
    let body = json!({"audience": {"all": true}, "notification": {"title": "t"}, "inbox": true,
        "delivery": {"strategy": "online_only"}});
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(world.api.send(body.clone()).await);
        world.kill().await;
        world.restart().await;
    }
    let read = |n: usize| format!("/v1/apps/default/users/u{n:03}/inbox:read");
    let mut marked = 0;
    for n in 0..20 {
        let first = json!({"ids": [ids[0]]});
        world
            .api
            .until(&format!("/v1/apps/default/users/u{n:03}/unread-count"), "both", |count| {
                count["unread"] == 2
            })
            .await;
        assert_eq!(world.api.post(&read(n), first).await.ok()["unread"], 1);
        marked += 1;
        if n == 10 {
            world.kill().await;
            world.restart().await;
        }
    }
    for id in &ids {
        world.api.until_funnel(id, "targeted", 2 * USERS as u64).await;
    }
    for n in 0..USERS {
        let page = world.api.get(&format!("/v1/apps/default/users/u{n:03}/inbox")).await.ok();
        let found: Vec<&str> =
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(found, [ids[1].as_str(), ids[0].as_str()], "u{n:03}");
        let count = world.api.get(&format!("/v1/apps/default/users/u{n:03}/unread-count")).await.ok();
        assert_eq!(count["unread"], if n < marked { 1 } else { 2 }, "u{n:03}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_badge_counts_what_the_user_has_not_read() {
    let world = World::start().await;
    for (id, user) in [("phone", "42"), ("tablet", "42"), ("other", "7")] {
        device(&world, id, user).await;
        world.api.register(id, id).await;
    }
    let body = |audience: Value, badge: Value, inbox: bool| {
        json!({"audience": audience, "notification": {"title": "t", "badge": badge}, "inbox": inbox,
            "delivery": {"strategy": "vendor_only"}})
    };
    let everybody = || json!({"devices": ["phone", "tablet", "other"]});
    for (audience, badge, inbox, wanted) in [
        (json!({"devices": ["phone"]}), json!("+1"), true, vec![("phone", 1)]),
        (everybody(), json!("+1"), true, vec![("other", 1), ("phone", 2), ("tablet", 2)]),
        (everybody(), json!("unread"), false, vec![("other", 1), ("phone", 2), ("tablet", 2)]),
        (everybody(), json!("+3"), false, vec![("other", 4), ("phone", 5), ("tablet", 5)]),
        (json!({"devices": ["phone"]}), json!(7), false, vec![("phone", 7)]),
    ] {
        let id = world.api.send(body(audience, badge.clone(), inbox)).await;
        world.api.until_funnel(&id, "vendor_accepted", wanted.len() as u64).await;
        let mut pushed: Vec<(String, u64)> = Vec::new();
        for push in world.api.recorded().await {
            if push["message"] == id.as_str() {
                pushed.push((
                    push["token"].as_str().unwrap().to_owned(),
                    push["push"]["badge"].as_u64().unwrap(),
                ));
            }
        }
        pushed.sort();
        let pushed: Vec<(&str, u64)> = pushed.iter().map(|(token, badge)| (token.as_str(), *badge)).collect();
        assert_eq!(pushed, wanted, "{badge}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_message_is_read_in_the_language_of_whoever_reads_it() {
    let world = World::start().await;
    let path = "/v1/apps/default/devices/phone";
    world.api.put(path, json!({"alias": {"user": "42"}, "language": "pt-BR"})).await.ok();
    let body = json!({"audience": {"devices": ["phone"]}, "inbox": true, "delivery": {"strategy": "online_only"},
        "notification": {"title": "Hello", "i18n": {"pt": {"title": "Olá"}}}});
    world.api.send(body).await;
    assert_eq!(titles(&world, "").await, ["Hello"]);
    assert_eq!(titles(&world, "?language=pt-BR").await, ["Olá"]);
    assert_eq!(titles(&world, "?language=fr").await, ["Hello"]);
    world.broker.said(Kind::Inbox, "phone", &json!({"request": "a", "get": {}}).to_string()).await;
    assert_eq!(notes(&world, 1).await[0].1["items"][0]["title"], "Olá");
    world.stop().await;
}
