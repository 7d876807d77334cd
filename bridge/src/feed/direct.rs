//! Publishes that somebody waits for: from the HTTP API to the broker, and its acknowledgement back.
//!
//! They are not kept here: whoever asked hears what became of it, or that nobody knows, and asks again.

use prost::Message as _;
use reveille_proto::bridge::{PUBLISH, Publication};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::sync::atomic::Ordering;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{AROUND_PAYLOAD, Ended, Given, Link};

/// Publishes that wait for their turn.
const WAITING_MAX: usize = 256;

/// What the broker made of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is with every receiver, or durable for it.
    ByReceivers,
    /// Nobody subscribes to the topic, and it is not kept there.
    ByNobody,
}

/// Why a publish is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// The broker is not connected, or the connection broke before it said anything: it may have it or not.
    #[error("the broker does not answer")]
    Away,
    /// Larger than the broker takes.
    #[error("larger than the broker takes")]
    TooLarge,
    /// No topic that the broker takes.
    #[error("no topic that the broker takes")]
    Topic,
    /// No receiver's queue has room, or the disk has none.
    #[error("no receiver's queue has room")]
    Full,
    /// Anything else; a broker of an older release knows no such publish.
    #[error("the broker refuses it")]
    Refused,
}

/// One publish on its way.
pub(super) struct Direct {
    payload: Vec<u8>,
    done: Done,
}

/// Who waits for the broker's word.
pub(super) type Done = oneshot::Sender<Result<Taken, NotTaken>>;

/// Where publishes are handed in.
pub(crate) struct Publisher(mpsc::Sender<Direct>);

/// Where the feed takes them; each connection goes on where the one before stopped.
pub(crate) struct Publishes(Mutex<mpsc::Receiver<Direct>>);

/// Both ends.
pub(crate) fn publisher() -> (Publisher, Publishes) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Publisher(sender), Publishes(Mutex::new(receiver)))
}

impl Publisher {
    /// Publishes, and waits for the broker's acknowledgement.
    ///
    /// # Errors
    /// [`NotTaken`]; after [`NotTaken::Away`] the message may be published or not.
    pub async fn publish(&self, publication: &Publication) -> Result<Taken, NotTaken> {
        let (done, answer) = oneshot::channel();
        let direct = Direct { payload: publication.encode_to_vec(), done };
        self.0.send(direct).await.map_err(|_| NotTaken::Away)?;
        answer.await.unwrap_or(Err(NotTaken::Away)) // its connection ended
    }
}

/// Hands them to the library, one after the other, for ever.
pub(super) async fn send(link: &Link, publishes: &Publishes) -> Result<(), Ended> {
    let mut publishes = publishes.0.lock().await;
    loop {
        let Direct { payload, done } = publishes.recv().await.ok_or(Ended::Library)?;
        if done.is_closed() {
            continue; // whoever waited was told that it took too long
        }
        if payload.len() + AROUND_PAYLOAD > link.packet_max.load(Ordering::SeqCst) as usize {
            let _ = done.send(Err(NotTaken::TooLarge)); // nobody waits any more, then
            continue;
        }
        link.room.acquire().await.map_err(|_| Ended::Library)?.forget(); // given back with the acknowledgement
        link.publish(Given::Direct(done), PUBLISH, payload)?;
    }
}

/// What the broker's acknowledgement says.
pub(super) fn read(reason: PubAckReason) -> Result<Taken, NotTaken> {
    match reason {
        PubAckReason::Success => Ok(Taken::ByReceivers),
        PubAckReason::NoMatchingSubscribers => Ok(Taken::ByNobody),
        PubAckReason::QuotaExceeded => Err(NotTaken::Full),
        PubAckReason::TopicNameInvalid => Err(NotTaken::Topic),
        _ => Err(NotTaken::Refused),
    }
}
