//! What vendors tell later about pushes that they took: written into the deliveries and the device tokens.
//!
//! A receipt may come twice, late, before the answer that it is about, or for a device that has moved; each changes
//! only what it is about, and a repeated one changes nothing.

use reveille_proto::delivery::ReasonFamily;
use reveille_proto::ids::{AppId, MessageId};

use crate::deliveries::{Case, Delivery, News, Reaction, funnel, save_funnel};
use crate::messages;
use crate::plan::{Event, Push};
use crate::store::{Space, StoreError, Tx, keys};
use crate::tokens;
use crate::vendor::receipt::{Receipt, Told};
use crate::vendor::{TakeBack, VendorName};

/// What became of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It told something.
    Told,
    /// No device has this device token now.
    UnknownToken,
    /// Its message is not known (any more); what it says of the device token was taken.
    UnknownMessage,
}

impl Taken {
    /// A short name for metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Told => "taken",
            Self::UnknownToken => "unknown_token",
            Self::UnknownMessage => "unknown_message",
        }
    }
}

/// Takes one receipt.
pub(crate) fn take(
    tx: &mut Tx<'_>,
    app: &AppId,
    vendor: VendorName,
    receipt: &Receipt,
) -> Result<Taken, StoreError> {
    let owner = tx.get(Space::Devices, &keys::token_owner(app, vendor, &receipt.token))?;
    let Some(device) = owner.and_then(|owner| String::from_utf8(owner).ok()) else {
        return Ok(Taken::UnknownToken);
    };
    if let Told::TokenDead(reason) = &receipt.told {
        tokens::bury(tx, app, &device, vendor, &receipt.token, receipt.at_ms, reason)?;
    }
    let message = match message_of(tx, app, vendor, receipt)? {
        Some(id) => messages::load_pushed(tx, app, id)?,
        None => None,
    };
    let Some(message) = message else { return Ok(Taken::UnknownMessage) };
    let mut case = Case::load(tx, &message, &device)?;
    if !case.is_known() {
        return Ok(Taken::UnknownMessage);
    }
    tell(tx, &mut case, vendor, receipt)?;
    Ok(Taken::Told)
}

/// Ours, where the vendor gives it back; else the one that was accepted under the vendor's own name.
fn message_of(
    tx: &Tx<'_>,
    app: &AppId,
    vendor: VendorName,
    receipt: &Receipt,
) -> Result<Option<MessageId>, StoreError> {
    if let Some(id) = receipt.message {
        return Ok(Some(id));
    }
    let Some(vendor_id) = &receipt.vendor_id else { return Ok(None) };
    let kept = tx.get(Space::Messages, &keys::vendor_id(app, vendor, vendor_id))?;
    Ok(kept.and_then(|bytes| MessageId::from_bytes(&bytes).ok()))
}

/// Whether the vendor names pushes by its own name only, so that this must be remembered.
fn is_by_its_own_name(vendor: VendorName) -> bool {
    vendor == VendorName::Wechat
}

/// Remembers the vendor's own name of an accepted push, where its receipts say nothing else, or it is taken back by it.
pub(crate) fn remember(tx: &mut Tx<'_>, case: &mut Case<'_>, vendor: VendorName, vendor_id: &str) {
    if is_by_its_own_name(vendor) {
        let message = case.message;
        tx.put(Space::Messages, keys::vendor_id(&message.app, vendor, vendor_id), message.id.0.to_vec());
    }
    if is_by_its_own_name(vendor) || vendor.take_back() == TakeBack::ByName {
        case.delivery.vendor_id = Some(vendor_id.to_owned());
    }
}

/// Forgets it, with the delivery.
pub(crate) fn forget(tx: &mut Tx<'_>, app: &AppId, delivery: &Delivery) {
    let Some(vendor_id) = &delivery.vendor_id else { return };
    for vendor in VendorName::ALL.into_iter().filter(|vendor| is_by_its_own_name(*vendor)) {
        tx.remove(Space::Messages, keys::vendor_id(app, vendor, vendor_id));
    }
}

fn tell(
    tx: &mut Tx<'_>,
    case: &mut Case<'_>,
    vendor: VendorName,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    let now_ms = tx.now_ms();
    match &receipt.told {
        Told::Delivered => {
            deliver(tx, case, vendor)?;
            case.settle(tx)
        }
        Told::Clicked => {
            deliver(tx, case, vendor)?;
            // A vendor's clock may be wrong: what lies ahead of ours is now.
            case.react(tx, Reaction::Clicked, receipt.at_ms.unwrap_or(now_ms).min(now_ms))?;
            case.settle(tx)
        }
        Told::TokenDead(reason) | Told::NotShown(reason) => {
            if case.delivery.facts.push == Push::Accepted(vendor) {
                let words = format!("{vendor} tells later: {reason}");
                case.delivery.family = Some(match receipt.told {
                    Told::TokenDead(_) => ReasonFamily::TokenInvalid,
                    Told::NotShown(_) | Told::Delivered | Told::Clicked | Told::Noted(_) => {
                        ReasonFamily::PermissionOff
                    }
                });
                case.tell(now_ms, News::of(vendor, Event::Undelivered, words));
            }
            case.settle(tx)
        }
        Told::Noted(words) => {
            case.note_once(now_ms, vendor, format!("{vendor} tells later: {words}"));
            case.write(tx)
        }
    }
}

/// The device has it. When the call's answer is still open, or was lost, this is the answer.
fn deliver(tx: &mut Tx<'_>, case: &mut Case<'_>, vendor: VendorName) -> Result<(), StoreError> {
    let was_open = [Push::Queued(vendor), Push::Submitted(vendor)].contains(&case.delivery.facts.push);
    if was_open {
        case.leave_queue(tx, vendor);
        let mut counts = funnel(tx, &case.message.app, case.message.id)?;
        counts.at(vendor).accepted += 1;
        save_funnel(tx, &case.message.app, case.message.id, &counts)?;
    }
    case.tell(tx.now_ms(), News::of(vendor, Event::Delivered, format!("{vendor} delivered it")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliveries::{self, Bucket, State};
    use crate::devices;
    use crate::lane::Home;
    use crate::messages::Message;
    use crate::store::Store;
    use crate::vendor::DeviceToken;
    use std::sync::Arc;

    const ID: MessageId = MessageId([7; 16]);
    const VENDOR: VendorName = VendorName::Xiaomi;

    /// A device whose push the vendor was asked for, up to the events given.
    async fn world(events: Vec<Event>) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 10_000)).unwrap();
        let set_up = move |tx: &mut Tx<'_>| {
            let app = AppId::default();
            let mut device = devices::load_or_new(tx, &app, "d1")?;
            tokens::register(
                tx,
                &app,
                &mut device,
                VENDOR,
                DeviceToken::parse("T0").unwrap(),
                Home::default(),
            )?;
            devices::save(tx, &app, &device)?;
            let message = Message::unknown(&app, ID, 1_000);
            messages::save(tx, &message)?;
            let mut case = Case::load(tx, &message, "d1")?;
            for event in events {
                case.tell(tx.now_ms(), News::of(VENDOR, event, format!("{event:?}")));
            }
            case.write(tx)
        };
        store.write(set_up).await.unwrap();
        (dir, store)
    }

    fn accepted() -> Vec<Event> {
        vec![
            Event::Told,
            Event::Queued { epoch: 1 },
            Event::PushQueued(VENDOR),
            Event::Submitted,
            Event::Accepted,
        ]
    }

    async fn tell(store: &Store, told: Told, at_ms: Option<u64>) -> Taken {
        let receipt = Receipt { message: Some(ID), vendor_id: None, token: "T0".to_owned(), told, at_ms };
        store.write(move |tx| take(tx, &AppId::default(), VENDOR, &receipt)).await.unwrap()
    }

    async fn state(store: &Store) -> (State, Bucket, usize, bool) {
        let look = |tx: &Tx<'_>| {
            let app = AppId::default();
            let delivery = deliveries::load(tx, &app, ID, "d1")?.unwrap();
            let device = devices::load(tx, &app, "d1")?.unwrap();
            let is_alive = device.tokens.iter().all(|token| token.is_active(tx.now_ms()));
            assert!(funnel(tx, &app, ID)?.is_whole());
            Ok::<_, StoreError>((delivery.state, delivery.bucket, delivery.timeline.len(), is_alive))
        };
        store.read(look).await.unwrap()
    }

    #[tokio::test]
    async fn a_receipt_moves_the_delivery_once_however_often_it_comes() {
        for (told, wanted, bucket) in [
            (Told::Delivered, State::VendorDelivered, Bucket::VendorAccepted),
            (Told::Clicked, State::Clicked, Bucket::Acked),
            (Told::NotShown("switched off".to_owned()), State::VendorAccepted, Bucket::VendorAccepted),
            (Told::Noted("status 14".to_owned()), State::VendorAccepted, Bucket::VendorAccepted),
        ] {
            let (_dir, store) = world(accepted()).await;
            assert_eq!(tell(&store, told.clone(), None).await, Taken::Told);
            let first = state(&store).await;
            assert_eq!((first.0, first.1, first.3), (wanted, bucket, true), "{told:?}");
            tell(&store, told.clone(), None).await;
            assert_eq!(state(&store).await, first, "{told:?}");
        }
    }

    #[tokio::test]
    async fn a_receipt_that_overtakes_the_answer_is_the_answer() {
        let mut events = accepted();
        events.pop();
        let (_dir, store) = world(events).await;
        tell(&store, Told::Delivered, None).await;
        assert_eq!(state(&store).await.0, State::VendorDelivered);
        let counts = store.read(|tx| funnel(tx, &AppId::default(), ID)).await.unwrap();
        assert_eq!(counts.by_vendor[&VENDOR].accepted, 1);
    }

    #[tokio::test]
    async fn a_dead_token_is_buried_unless_it_was_registered_since() {
        let dead = || Told::TokenDead("uninstalled".to_owned());
        let (_dir, store) = world(accepted()).await;
        tell(&store, dead(), Some(9_999)).await; // registered at 10,000
        assert!(state(&store).await.3);
        tell(&store, dead(), Some(10_000)).await;
        tell(&store, dead(), None).await;
        assert!(!state(&store).await.3);
        let listed = store.read(|tx| tokens::dead(tx, &AppId::default(), None, 10)).await.unwrap();
        assert_eq!(listed.len(), 1, "once, however often it is told");
        assert_eq!((listed[0].1.device.as_str(), listed[0].1.reason.as_str()), ("d1", "uninstalled"));
        let next = store.read(|tx| tokens::dead(tx, &AppId::default(), Some(1), 10)).await.unwrap();
        assert_eq!(next, []);
    }

    #[tokio::test]
    async fn what_nobody_knows_changes_nothing() {
        let (_dir, store) = world(accepted()).await;
        let before = state(&store).await;
        for (id, token, wanted) in [
            (Some(ID), "T9", Taken::UnknownToken),
            (Some(MessageId([9; 16])), "T0", Taken::UnknownMessage),
            (None, "T0", Taken::UnknownMessage),
        ] {
            let receipt = Receipt {
                message: id,
                vendor_id: None,
                token: token.to_owned(),
                told: Told::Delivered,
                at_ms: None,
            };
            let taken = store.write(move |tx| take(tx, &AppId::default(), VENDOR, &receipt)).await.unwrap();
            assert_eq!(taken, wanted);
        }
        assert_eq!(state(&store).await, before);
    }
}
