//! What a data directory of the first format holds is found where it was and goes on, and so is what waits in a lane that
//! its message left.

use std::sync::Arc;

use reveille_proto::ids::AppId;
use serde_json::{Value, json};

use super::*;
use crate::inbox::badge::Badge;
use crate::jobs::{self, Task};
use crate::lane::Class;
use crate::messages::{Content, Notification};
use crate::queues::Size;
use crate::store::{FORMAT, Space, Store};

const NOW_MS: u64 = 1_700_000_000_000;
const ID: [u8; 16] = [7; 16];

fn put(tx: &mut Tx<'_>, space: Space, key: &[u8], record: &Value) {
    tx.put(space, key.to_vec(), record.to_string().into_bytes());
}

/// Byte for byte as the release before lanes wrote it: a push for each of two devices, a credential with two pushes a
/// day, one of which was used.
fn write_first_format(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let credential = json!({"credential": {"vendor": "record"}, "rates": {"per_day": 2}, "updated_at_ms": 1});
    put(tx, Space::Apps, b"cdefault\0record\0", &credential);
    put(tx, Space::Apps, b"udefault\0record\0", &json!({"day": NOW_MS / 86_400_000, "used": 1}));
    let message = json!({
        "id": MessageId(ID).to_string(), "app": "default", "origin": "http",
        "content": {"notification": {"title": "t"}}, "strategy": "vendor_only", "wait_ack_ms": 3000,
        "accepted_at_ms": 1, "expires_at_ms": NOW_MS + 1_000_000_000, "priority": "normal",
        "audience": {"devices": ["d1", "d2"]}, "is_expanded": true,
    });
    put(tx, Space::Messages, &[b"mdefault\0", &ID[..]].concat(), &message);
    let funnel = json!({"targeted": 2, "in_flight": 2});
    put(tx, Space::Messages, &[b"ndefault\0", &ID[..]].concat(), &funnel);
    for device in ["d1", "d2"] {
        let delivery = json!({
            "facts": {"broker": "untold", "push": {"queued": "record"}, "due_since_ms": null, "ended": null},
            "strategy": "vendor_only", "state": "targeted", "bucket": "in_flight", "attempts": 0,
            "first_attempt_at_ms": 0, "is_unknown": false, "due_ms": 500, "timeline": [],
        });
        let name = [device.as_bytes(), b"\0"].concat();
        put(tx, Space::Messages, &[b"vdefault\0", &ID[..], &name].concat(), &delivery);
        let kept = json!({
            "id": device, "created_at_ms": 1, "updated_at_ms": 1, "attributes": {},
            "tokens": [{"vendor": "record", "token": format!("T-{device}"), "registered_at_ms": 1,
                "state": {"state": "active"}}],
        });
        put(tx, Space::Devices, &[b"ddefault\0", name.as_slice()].concat(), &kept);
        let waiting = [b"qdefault\0record\0", &500_u64.to_be_bytes()[..], &ID, &name].concat();
        tx.put(Space::Queues, waiting, Vec::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_data_directory_of_the_first_format_opens_and_its_pushes_go_out_within_their_day() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), Arc::new(|| NOW_MS)).unwrap();
    let store = open();
    store.write(write_first_format).await.unwrap();
    store.close();
    let format = dir.path().join("bridge/format");
    std::fs::write(&format, "1\n").unwrap();

    let store = open();
    assert_eq!(
        std::fs::read_to_string(&format).unwrap(),
        format!("{FORMAT}\n"),
        "an older release must refuse it from now on"
    );
    crate::credentials::seal_all(&store).await.unwrap();
    let lane = store.read(queues::lanes).await.unwrap().pop_first().unwrap();
    assert_eq!((lane.to_string().as_str(), &lane.app), ("default/record/default", &AppId::default()));
    let its_lane = lane.clone();
    let begin_all = move |tx: &mut Tx<'_>| {
        let waiting = queues::pushes_from(tx, &its_lane, Size::Single, 0, 10)?;
        assert_eq!(waiting.len(), 2);
        begin(tx, &crate::config::Config::default().rules(), &its_lane, &waiting)
    };
    let call = store.write(begin_all).await.unwrap().unwrap();
    let push = call.draft.finish();
    assert_eq!((push.token.as_str(), push.token_count()), ("T-d1", 1), "the day had room for one");
    let rest = move |tx: &Tx<'_>| {
        let waiting = queues::pushes_from(tx, &lane, Size::Single, 501, 10)?;
        Ok::<_, StoreError>((waiting.len(), funnel(tx, &lane.app, MessageId(ID))?.is_whole()))
    };
    assert_eq!(store.read(rest).await.unwrap(), (1, true), "the other waits for tomorrow");
}

fn rules() -> Rules {
    crate::config::Config::default().rules()
}

fn message(category: &str) -> Message {
    let category = Some(category.to_owned());
    let notification = Notification { title: Some("t".to_owned()), category, ..Notification::default() };
    let mut message = Message {
        content: Some(Content { notification: Some(notification), ..Content::default() }),
        strategy: reveille_proto::bridge::Strategy::VendorOnly,
        is_expanded: false,
        ..Message::unknown(&AppId::default(), MessageId(ID), NOW_MS)
    };
    message.audience.devices = vec!["d1".to_owned()];
    message
}

/// A message that advertises, with its push in that lane.
fn send(tx: &mut Tx<'_>, message: &Message) -> Result<(), StoreError> {
    let app = AppId::default();
    let record: Credential = serde_json::from_str(r#"{"vendor": "record"}"#).unwrap();
    credentials::save(tx, &app, &Default::default(), &credentials::KeptCredential::new(record, 0))?;
    let mut device = devices::load_or_new(tx, &app, "d1")?;
    let token = DeviceToken::parse("T-d1").unwrap();
    tokens::register(tx, &app, &mut device, VendorName::Record, token, Default::default())?;
    devices::save(tx, &app, &device)?;
    messages::save(tx, message)?;
    jobs::begin(tx, &app, message.id, Task::Expand(Default::default()))?;
    while jobs::step(tx, &rules(), &app, message.id)? {}
    Ok(())
}

/// Where pushes wait: the class of the lane, and when they are due.
fn waiting(tx: &Tx<'_>) -> Result<Vec<(Class, u64)>, StoreError> {
    let mut all = Vec::new();
    for lane in queues::lanes(tx)? {
        let due = queues::pushes_from(tx, &lane, Size::Single, 0, 10)?;
        let paused = queues::paused(tx, &lane, MessageId(ID), 10)?;
        all.extend(due.into_iter().chain(paused).map(|waiting| (lane.class, waiting.due_ms)));
    }
    Ok(all)
}

/// What waits in the lanes has its turn.
fn turn(tx: &mut Tx<'_>) -> Result<Option<Call>, StoreError> {
    for lane in queues::lanes(tx)? {
        let due = queues::pushes_from(tx, &lane, Size::Single, 0, 10)?;
        if let Some(call) = begin(tx, &rules(), &lane, &due)? {
            return Ok(Some(call));
        }
    }
    Ok(None)
}

async fn in_a_store(test: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| NOW_MS)).unwrap();
    store.write(test).await.unwrap();
}

#[tokio::test]
async fn a_push_follows_its_message_into_another_lane() {
    in_a_store(|tx| {
        send(tx, &message("MARKETING"))?;
        assert_eq!(waiting(tx)?, [(Class::Marketing, NOW_MS)]);
        messages::save(tx, &Message { is_expanded: true, ..message("WORK") })?;
        assert!(turn(tx)?.is_none(), "its turn is in the other lane");
        assert_eq!(waiting(tx)?, [(Class::Service, NOW_MS)]);
        assert_eq!(turn(tx)?.unwrap().devices, ["d1"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_new_content_takes_what_waits_with_it_also_what_a_pause_put_aside() {
    in_a_store(|tx| {
        let app = AppId::default();
        let (paused_at_ms, is_expanded) = (Some(NOW_MS), true);
        send(tx, &message("MARKETING"))?;
        messages::save(tx, &Message { paused_at_ms, is_expanded, ..message("MARKETING") })?;
        assert!(turn(tx)?.is_none());
        assert_eq!(waiting(tx)?, [(Class::Marketing, queues::PAUSED_MS)]);
        messages::save(tx, &Message { paused_at_ms, is_expanded, revision: 1, ..message("WORK") })?;
        jobs::replace(tx, &app, MessageId(ID))?;
        while jobs::step(tx, &rules(), &app, MessageId(ID))? {}
        assert_eq!(waiting(tx)?, [(Class::Service, queues::PAUSED_MS)]);
        // And if the pause ended before the job came to it.
        messages::save(tx, &Message { is_expanded, revision: 1, ..message("MARKETING") })?;
        jobs::resume(tx, &app, MessageId(ID))?;
        while jobs::step(tx, &rules(), &app, MessageId(ID))? {}
        assert_eq!(waiting(tx)?, [(Class::Marketing, NOW_MS)]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_new_content_has_all_attempts_of_its_own() {
    in_a_store(|tx| {
        send(tx, &message("WORK"))?;
        let mut case_message = Message { is_expanded: true, ..message("WORK") };
        let answer = |tx: &mut Tx<'_>, verdict: Verdict| {
            let lane = queues::lanes(tx)?.pop_first().unwrap();
            let token = turn(tx)?.unwrap().draft.token;
            let sent = Sent::answered(verdict);
            let called = Called { device: "d1".to_owned(), token, sent, random: 1 };
            let answered = Answered { lane, message: MessageId(ID), is_recall: false, pushes: vec![called] };
            finish(tx, &rules(), &answered, &answered.pushes)
        };
        answer(tx, Verdict::Accepted { vendor_id: None })?;
        case_message.revision = 1;
        messages::save(tx, &case_message)?;
        jobs::replace(tx, &AppId::default(), MessageId(ID))?;
        while jobs::step(tx, &rules(), &AppId::default(), MessageId(ID))? {}
        answer(tx, Verdict::Retry { after: None, reason: String::new() })?;
        let delivery = deliveries::load(tx, &AppId::default(), MessageId(ID), "d1")?.unwrap();
        assert_eq!((delivery.attempts, delivery.attempts_of_content()), (2, 1));
        Ok(())
    })
    .await;
}

#[test]
fn the_name_by_which_anybody_could_take_a_push_back_is_not_in_its_timeline() {
    let accepted = Verdict::Accepted { vendor_id: Some("https://push.example/m/7".to_owned()) };
    assert_eq!(words(VendorName::WebPush, &accepted), "accepted by web_push");
    assert_eq!(words(VendorName::Apns, &accepted), "accepted by apns as https://push.example/m/7");
}

#[tokio::test]
async fn a_withdrawal_does_not_keep_a_message_that_is_being_forgotten() {
    in_a_store(|tx| {
        let app = AppId::default();
        send(tx, &message("WORK"))?;
        jobs::begin(tx, &app, MessageId(ID), Task::Forget)?;
        crate::chores::end_message(tx, &app, MessageId(ID))?;
        while jobs::step(tx, &rules(), &app, MessageId(ID))? {}
        assert!(messages::load(tx, &app, MessageId(ID))?.is_none());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_push_whose_calls_are_all_interrupted_is_given_up() {
    in_a_store(|tx| {
        send(tx, &message("WORK"))?;
        let attempts_max = policy(&rules(), VendorName::Record).attempts_max;
        for attempt in 1..=attempts_max {
            assert!(turn(tx)?.is_some(), "attempt {attempt}");
        }
        assert!(turn(tx)?.is_none());
        let delivery = deliveries::load(tx, &AppId::default(), MessageId(ID), "d1")?.unwrap();
        assert_eq!((delivery.attempts, delivery.facts.push), (attempts_max, PushSide::Lost));
        assert_eq!(waiting(tx)?, []);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_recall_whose_calls_are_all_interrupted_is_given_up() {
    in_a_store(|tx| {
        send(tx, &message("WORK"))?;
        let lane = queues::lanes(tx)?.pop_first().unwrap();
        let token = turn(tx)?.unwrap().draft.token;
        let sent = Sent::answered(Verdict::Accepted { vendor_id: None });
        let called = Called { device: "d1".to_owned(), token, sent, random: 1 };
        let answered = Answered { lane, message: MessageId(ID), is_recall: false, pushes: vec![called] };
        finish(tx, &rules(), &answered, &answered.pushes)?;
        let (recalled_at_ms, recalled) = (Some(NOW_MS), crate::messages::Extent::All);
        messages::save(tx, &Message { recalled_at_ms, recalled, is_expanded: true, ..message("WORK") })?;
        jobs::begin(tx, &AppId::default(), MessageId(ID), Task::End(None))?;
        while jobs::step(tx, &rules(), &AppId::default(), MessageId(ID))? {}
        let attempts_max = policy(&rules(), VendorName::Record).attempts_max;
        for attempt in 1..=attempts_max {
            assert!(turn(tx)?.is_some_and(|call| call.draft.is_recall), "attempt {attempt}");
        }
        assert!(turn(tx)?.is_none());
        let delivery = deliveries::load(tx, &AppId::default(), MessageId(ID), "d1")?.unwrap();
        let recall = delivery.recall.unwrap();
        assert_eq!((recall.calls, recall.outcome), (attempts_max, Outcome::Failed));
        assert_eq!(waiting(tx)?, []);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_push_waits_with_others_that_show_the_same_number() {
    in_a_store(|tx| {
        let app = AppId::default();
        let mut device = devices::load_or_new(tx, &app, "d1")?;
        device.alias.insert(devices::USER.to_owned(), "42".to_owned());
        devices::save(tx, &app, &device)?;
        for (badge, wanted) in [(Badge::Unread, Some(1)), (Badge::Set(1), None)] {
            let mut message = Message { inbox_until_ms: Some(NOW_MS + 1), ..message("WORK") };
            let notification = message.content.as_mut().and_then(|content| content.notification.as_mut());
            notification.unwrap().badge = Some(badge);
            message.id.0[15] = u8::from(wanted.is_some());
            send(tx, &message)?;
            let lane = queues::lanes(tx)?.pop_first().unwrap();
            let all = queues::pushes_from(tx, &lane, Size::Single, 0, 10)?;
            let waiting = all.iter().find(|waiting| waiting.message == message.id).unwrap();
            assert_eq!(waiting.mark, wanted);
        }
        Ok(())
    })
    .await;
}
