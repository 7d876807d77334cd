//! What a data directory of the first format holds is found where it was and goes on.

use std::sync::Arc;

use reveille_proto::ids::AppId;
use serde_json::{Value, json};

use super::*;
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
    assert_eq!((call.push.token.as_str(), call.push.token_count()), ("T-d1", 1), "the day had room for one");
    let rest = move |tx: &Tx<'_>| {
        let waiting = queues::pushes_from(tx, &lane, Size::Single, 501, 10)?;
        Ok::<_, StoreError>((waiting.len(), funnel(tx, &lane.app, MessageId(ID))?.is_whole()))
    };
    assert_eq!(store.read(rest).await.unwrap(), (1, true), "the other waits for tomorrow");
}
