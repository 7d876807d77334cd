//! Devices about which a policy is to be asked again while their message has no room for more pushes, or is paused. They
//! are written once, in the chunks in which they came; what comes round is one short check for the message.

use reveille_proto::ids::{AppId, MessageId};

use crate::jobs;
use crate::messages::{self, Message};
use crate::queues::{self, Check};
use crate::rules::Rules;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};

/// Until it is looked again whether there is room, and whether the message is paused still, in milliseconds.
const CROWD_MS: u64 = 1_000;
const PAUSE_MS: u64 = 30_000;
/// Chunks of a message that was forgotten that one transaction removes.
const CHUNKS: usize = 100;

/// For how long a message's policy need not be asked; `None`: it can be asked now.
pub(crate) fn wait_ms(tx: &Tx<'_>, message: &Message) -> Result<Option<u64>, StoreError> {
    let is_over = message.expires_at_ms.is_some_and(|end_ms| end_ms <= tx.now_ms());
    if is_over || message.recalled_at_ms.is_some() {
        return Ok(None); // they end
    }
    if message.is_paused() {
        return Ok(Some(PAUSE_MS));
    }
    Ok(jobs::is_crowded(tx, message)?.then_some(CROWD_MS))
}

/// Puts devices aside until there is room. Where some stand there already, their check finds these too.
pub(crate) fn put_aside(
    tx: &mut Tx<'_>,
    message: &Message,
    devices: &[String],
    wait_ms: u64,
) -> Result<(), StoreError> {
    let all = keys::crowd(&message.app, message.id);
    if tx.count(Space::Queues, &all, 1)? == 0 {
        look_in(tx, &message.app, message.id, wait_ms)?;
    }
    let number = queues::next_number(tx)?;
    tx.save(Space::Queues, keys::numbered(all, number), &devices)
}

fn look_in(tx: &mut Tx<'_>, app: &AppId, message: MessageId, wait_ms: u64) -> Result<(), StoreError> {
    let check = Check::Crowd { app: app.clone(), message };
    queues::check_at(tx, tx.now_ms().saturating_add(wait_ms), &check)
}

/// Asks about the next chunk of a message's devices, where there is room.
pub(crate) fn look(tx: &mut Tx<'_>, rules: &Rules, app: &AppId, id: MessageId) -> Result<(), StoreError> {
    let all = keys::crowd(app, id);
    let message = messages::load(tx, app, id)?;
    if let Some(message) = &message
        && let Some(wait_ms) = wait_ms(tx, message)?
    {
        return look_in(tx, app, id, wait_ms);
    }
    let limit = if message.is_some() { 1 } else { CHUNKS };
    for (key, devices) in tx.scan(Space::Queues, &all, None, Order::Forward, limit)? {
        tx.remove(Space::Queues, key);
        if let Some(message) = &message {
            jobs::ask_about(tx, rules, message, decode(&devices)?)?;
        }
    }
    if tx.count(Space::Queues, &all, 1)? > 0 { look_in(tx, app, id, 0) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliveries::{self, Funnel};
    use crate::jobs::Task;
    use crate::policies::{self, Cap, Policy};
    use crate::store::Store;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const NOW_MS: u64 = 1_700_000_000_000;
    const WINDOW_MS: u64 = 60_000;
    const ID: MessageId = MessageId([7; 16]);

    fn message() -> Message {
        let mut message = Message {
            policy: Some("p".to_owned()),
            is_bulk: true,
            is_expanded: false,
            expires_at_ms: Some(NOW_MS + 86_400_000),
            ..Message::unknown(&AppId::default(), ID, NOW_MS)
        };
        message.audience.devices = (0..30).map(|n| format!("d{n:02}")).collect();
        message
    }

    /// A message of which every device is held by a cap, as another one was let through before.
    fn hold(tx: &mut Tx<'_>, rules: &Rules) -> Result<(), StoreError> {
        let cap = Cap { max: 1, window_s: 60, ..Cap::default() };
        let policy = Policy { name: "p".to_owned(), caps: vec![cap], ..Policy::default() };
        policies::save(tx, &AppId::default(), &policy)?;
        for message in [Message { id: MessageId([6; 16]), ..message() }, message()] {
            messages::save(tx, &message)?;
            jobs::begin(tx, &message.app, message.id, Task::Expand(Default::default()))?;
            while jobs::step(tx, rules, &message.app, message.id)? {}
        }
        Ok(())
    }

    fn crowded(tx: &mut Tx<'_>, vendor_queued: u64) -> Result<(), StoreError> {
        let app = AppId::default();
        let funnel = Funnel { vendor_queued, ..deliveries::funnel(tx, &app, ID)? };
        deliveries::save_funnel(tx, &app, ID, &funnel)
    }

    /// Looks at what is due of the held message; what its checks hold in all.
    fn turn(tx: &mut Tx<'_>, rules: &Rules) -> Result<Vec<Check>, StoreError> {
        for (due_ms, key, check) in queues::checks(tx, 100, usize::MAX)? {
            if due_ms <= tx.now_ms() {
                tx.remove(Space::Queues, key);
                crate::chores::look(tx, rules, check)?;
            }
        }
        let is_own = |check: &Check| matches!(check, Check::Admission { .. } | Check::Crowd { .. });
        Ok(queues::checks(tx, 100, usize::MAX)?.into_iter().map(|(.., check)| check).filter(is_own).collect())
    }

    #[tokio::test]
    async fn while_a_message_has_no_room_its_devices_are_written_once_and_asked_about_when_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(NOW_MS));
        let for_store = Arc::clone(&clock);
        let store = Store::open(dir.path(), Arc::new(move || for_store.load(Ordering::SeqCst))).unwrap();
        let rules = crate::config::Config::default().rules();
        store.write(move |tx| hold(tx, &rules)).await.unwrap();
        store.write(|tx| crowded(tx, 1_000_000)).await.unwrap();
        clock.fetch_add(WINDOW_MS, Ordering::SeqCst);
        let crowd = Check::Crowd { app: AppId::default(), message: ID };
        for _ in 0..3 {
            let checks = store.write(move |tx| turn(tx, &rules)).await.unwrap();
            assert_eq!(checks, std::slice::from_ref(&crowd), "no check carries the devices");
            clock.fetch_add(CROWD_MS, Ordering::SeqCst);
        }
        let told = |tx: &Tx<'_>| {
            let all = deliveries::list(tx, &AppId::default(), ID, None, 100)?;
            let queued = all.iter().filter(|(_, delivery)| delivery.state == deliveries::State::Queued);
            Ok::<_, StoreError>(queued.count())
        };
        assert_eq!(store.read(told).await.unwrap(), 0);
        store.write(|tx| crowded(tx, 0)).await.unwrap();
        assert_eq!(store.write(move |tx| turn(tx, &rules)).await.unwrap(), []);
        assert_eq!(store.read(told).await.unwrap(), 30);
    }

    #[tokio::test]
    async fn devices_of_a_message_that_was_forgotten_are_too() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| NOW_MS)).unwrap();
        let rules = crate::config::Config::default().rules();
        let test = move |tx: &mut Tx<'_>| {
            for n in 0..250 {
                put_aside(tx, &message(), &[format!("d{n}")], 0)?;
            }
            for left in [150, 50, 0] {
                let checks = turn(tx, &rules)?;
                assert_eq!(checks.len(), usize::from(left > 0));
                assert_eq!(tx.count(Space::Queues, &keys::crowd(&AppId::default(), ID), 1000)?, left);
            }
            Ok::<_, StoreError>(())
        };
        store.write(test).await.unwrap();
    }
}
