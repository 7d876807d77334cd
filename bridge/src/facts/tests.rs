//! Devices whose acknowledgement comes after the withdrawal.

use std::sync::Arc;

use super::*;
use crate::chores::end_message;
use crate::config::Config;
use crate::jobs::step;
use crate::messages::{Content, Extent, Notification};
use crate::queues::{self, Out};
use crate::store::Store;

const ID: [u8; 16] = [7; 16];
const NOW_MS: u64 = 1_700_000_000_000;

fn message() -> Message {
    let notification = Notification { title: Some("t".to_owned()), ..Notification::default() };
    Message {
        content: Some(Content { notification: Some(notification), ..Content::default() }),
        ..Message::unknown(&AppId::default(), MessageId(ID), NOW_MS)
    }
}

fn devices(epoch: u64) -> Vec<wire::Device> {
    vec![wire::Device { client_id: "d1".to_owned(), epoch }]
}

fn queued() -> Fact {
    Fact::Queued(wire::Queued {
        message: Some(message().to_wire(Strategy::OnlineFirst)),
        devices: devices(1),
    })
}

fn unacked() -> Fact {
    Fact::Unacked(wire::Unacked {
        message: Some(message().to_wire(Strategy::OnlineFirst)),
        devices: devices(1),
    })
}

fn acked() -> Fact {
    let (app, message_id) = ("default".to_owned(), ID.to_vec().into());
    Fact::Acked(wire::Acked { app, message_id, devices: devices(2), at_ms: NOW_MS })
}

fn withdraw(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let app = AppId::default();
    let recalled = Message { recalled_at_ms: Some(NOW_MS), recalled: Extent::All, ..message() };
    messages::save(tx, &recalled)?;
    end_message(tx, &app, MessageId(ID))?;
    while step(tx, &Config::default().rules(), &app, MessageId(ID))? {}
    Ok(())
}

/// How often the device was told that the message was withdrawn.
fn told(tx: &Tx<'_>) -> Result<usize, StoreError> {
    let outbox = queues::outbox_after(tx, 0, 100)?;
    let is_told = |out: &Out| matches!(out, Out::Recalled { devices, .. } if *devices == ["d1"]);
    Ok(outbox.iter().filter(|(_, out)| is_told(out)).count())
}

async fn in_a_store(test: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| NOW_MS)).unwrap();
    store.write(test).await.unwrap();
}

#[tokio::test]
async fn a_device_whose_acknowledgement_comes_after_the_withdrawal_is_told_of_it_once() {
    in_a_store(|tx| {
        let rules = Config::default().rules();
        messages::save(tx, &message())?;
        take(tx, &rules, queued())?;
        withdraw(tx)?;
        assert_eq!(told(tx)?, 0, "it was offline");
        take(tx, &rules, acked())?;
        take(tx, &rules, acked())?;
        assert_eq!(told(tx)?, 1);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_device_that_was_sent_a_message_and_said_nothing_is_told_of_the_withdrawal() {
    in_a_store(|tx| {
        let rules = Config::default().rules();
        messages::save(tx, &message())?;
        take(tx, &rules, unacked())?;
        take(tx, &rules, queued())?;
        withdraw(tx)?;
        assert_eq!(told(tx)?, 1);
        Ok(())
    })
    .await;
}
