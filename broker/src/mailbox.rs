//! Mailboxes: what shards hand over to each other in memory.
//!
//! The queues beneath are unbounded on purpose, and bounded by what may enter them. Sending never waits: two shards
//! that waited for room in each other's mailbox would wait for ever. Instead, every byte that sits in a mailbox is
//! counted, and while any mailbox holds more than [`WAITING_BYTES_MAX`], no shard reads from any client and no
//! handshake hands a socket over ([`Mailboxes::room`]). A shard empties its mailbox without waiting for anything, so
//! room always comes back. What a mailbox can hold is therefore the bound, plus what follows from the one turn that
//! each shard had begun: 1 MiB of packets, each shared by reference, not copied, between the shards that get it.
//! The other inhabitants (parts done, confirmations) answer deliveries one to one.

use crate::auth::bans::Banned;
use crate::handshake::Adoption;
use crate::listener::Listener;
use crate::metrics::Report;
use reveille_broker_core::admin::{Done, Wish};
use reveille_broker_core::io::{Input, ShardNo};
use reveille_broker_core::message::{Message, MessageKey, SessionKey, Time};
use reveille_broker_core::shard::Shard;
use reveille_broker_store::StoreError;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, futures::Notified, oneshot};

/// Bytes in one mailbox above which nobody reads from clients. 16 MiB: some ten thousand deliveries.
pub(crate) const WAITING_BYTES_MAX: usize = 16 << 20;

/// What a command weighs besides its message.
const COMMAND_BYTES: usize = 256;

/// What a shard is told by others.
#[derive(Debug)]
pub(crate) enum Command {
    /// Something for the rules.
    Input(Input),
    /// A client passed the handshake elsewhere: its session lives here.
    Adopt(Box<Adoption>),
    /// The bridge came or left: look at the router.
    BridgeChanged,
    /// Bodies that this shard asked for.
    Bodies(BodiesRead),
    /// Everything is recovered: accept clients.
    Serve {
        /// The shard's own socket of each listener.
        acceptors: Vec<(Arc<Listener>, OwnedFd)>,
    },
    /// Send the clients away, over a while.
    Drain,
    /// Credentials and rules changed: look at everybody who is connected.
    AuthChanged,
    /// Somebody must not be connected any more.
    Banned(Arc<Banned>),
    /// Tell what was counted.
    Report(SyncSender<Report>),
    /// Let an operator see a bounded piece of the shard.
    Look(Look),
    /// An operator wants something.
    Wish {
        /// What.
        wish: Wish,
        /// Who waits for the end of it.
        answer: oneshot::Sender<Done>,
    },
    /// Accept nobody any more, say goodbye to everyone, answer when all of it is durable.
    Stop(SyncSender<()>),
    /// End the thread.
    Exit,
}

/// A read of a shard by an operator: a call of one of the core's pure functions, each of which looks at a bounded
/// piece. What it found leaves through a channel of its own.
pub(crate) struct Look(Box<Read>);

type Read = dyn FnOnce(&Shard, Time) + Send;

impl Look {
    /// A read to be done on the shard's thread.
    pub(crate) fn new(read: impl FnOnce(&Shard, Time) + Send + 'static) -> Self {
        Self(Box::new(read))
    }

    /// Does it.
    pub(crate) fn at(self, shard: &Shard, now: Time) {
        (self.0)(shard, now);
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// What the store answered.
#[derive(Debug)]
pub(crate) struct BodiesRead {
    /// For whose queue.
    pub(crate) session: SessionKey,
    /// Which were asked for.
    pub(crate) keys: Vec<MessageKey>,
    /// In the order asked.
    pub(crate) result: Result<Vec<Option<Arc<Message>>>, StoreError>,
}

impl Command {
    /// Bytes that count against the bound.
    fn weight(&self) -> usize {
        match self {
            Self::Input(input) => match input {
                Input::Deliver(delivery) => COMMAND_BYTES + delivery.message.payload.len(),
                _ => COMMAND_BYTES,
            },
            Self::Adopt(adoption) => COMMAND_BYTES + adoption.weight(),
            Self::Wish { wish: Wish::Publish(publication), .. } => COMMAND_BYTES + publication.payload.len(),
            Self::BridgeChanged
            | Self::AuthChanged
            | Self::Banned(_)
            | Self::Look(_)
            | Self::Wish { .. }
            | Self::Bodies(_)
            | Self::Serve { .. }
            | Self::Drain
            | Self::Report(_)
            | Self::Stop(_)
            | Self::Exit => COMMAND_BYTES,
        }
    }
}

/// Commands that one shard's turn produced for another, handed over in one go.
#[derive(Debug)]
pub(crate) struct Mail {
    commands: Vec<Command>,
    weight: usize,
}

/// The mailboxes of all shards; every thread has them.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    boxes: Vec<Mailbox>,
    room: Notify,
}

#[derive(Debug)]
struct Mailbox {
    sender: UnboundedSender<Mail>,
    waiting: AtomicUsize,
}

/// The end of a mailbox that its shard owns.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: UnboundedReceiver<Mail>,
    mailboxes: Arc<Mailboxes>,
    no: ShardNo,
}

/// A mailbox for each shard, and its owner's end.
pub(crate) fn mailboxes(shards: u16) -> (Arc<Mailboxes>, Vec<Inbox>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| unbounded_channel()).unzip();
    let boxes = senders.into_iter().map(|sender| Mailbox { sender, waiting: AtomicUsize::new(0) }).collect();
    let mailboxes = Arc::new(Mailboxes { boxes, room: Notify::new() });
    let inbox = |(no, receiver)| Inbox { receiver, mailboxes: Arc::clone(&mailboxes), no: ShardNo(no) };
    let inboxes = (0..).zip(receivers).map(inbox).collect();
    (mailboxes, inboxes)
}

impl Mailboxes {
    /// How many shards there are.
    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.boxes.len()).unwrap_or(u16::MAX)
    }

    /// Hands commands over. `false` when the shard's thread is gone.
    pub(crate) fn send_all(&self, to: ShardNo, commands: Vec<Command>) -> bool {
        let Some(mailbox) = self.boxes.get(usize::from(to.0)) else { return false };
        let weight = commands.iter().map(Command::weight).sum();
        mailbox.waiting.fetch_add(weight, Ordering::Relaxed);
        mailbox.sender.send(Mail { commands, weight }).is_ok()
    }

    /// Bytes that shards have for each other.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.boxes.iter().map(|mailbox| mailbox.waiting.load(Ordering::Relaxed) as u64).sum()
    }

    /// Hands one command over. `false` when the shard's thread is gone.
    pub(crate) fn send(&self, to: ShardNo, command: Command) -> bool {
        self.send_all(to, vec![command])
    }

    /// Bytes that wait in a shard's mailbox.
    pub(crate) fn waiting(&self, no: ShardNo) -> usize {
        self.boxes.get(usize::from(no.0)).map_or(0, |mailbox| mailbox.waiting.load(Ordering::Relaxed))
    }

    /// Whether some mailbox is above its bound: nothing may be read from clients.
    pub(crate) fn is_full(&self) -> bool {
        self.boxes.iter().any(|mailbox| mailbox.waiting.load(Ordering::Relaxed) > WAITING_BYTES_MAX)
    }

    /// Waits until no mailbox is above its bound.
    pub(crate) async fn room(&self) {
        while self.is_full() {
            let notified: Notified<'_> = self.room.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable(); // before looking again, so that no wake-up falls between
            if self.is_full() {
                notified.await;
            }
        }
    }

    fn emptied(&self, no: ShardNo, weight: usize) {
        let Some(mailbox) = self.boxes.get(usize::from(no.0)) else { return };
        let before = mailbox.waiting.fetch_sub(weight, Ordering::Relaxed);
        if before > WAITING_BYTES_MAX && before.saturating_sub(weight) <= WAITING_BYTES_MAX {
            self.room.notify_waiters();
        }
    }
}

impl Inbox {
    /// Whose mailbox this is.
    pub(crate) fn no(&self) -> ShardNo {
        self.no
    }

    /// Waits for mail and takes all that is there, at most 64 pieces. Safe to cancel.
    pub(crate) async fn take(&mut self, commands: &mut Vec<Command>) {
        const PIECES: usize = 64;
        let mut mails = Vec::new();
        self.receiver.recv_many(&mut mails, PIECES).await;
        for mail in mails {
            commands.extend(mail.commands);
            self.mailboxes.emptied(self.no, mail.weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_broker_core::io::{Delivery, Recipients, Ticket};
    use reveille_proto::ids::AppId;
    use reveille_proto::mqtt::QoS;
    use reveille_proto::topic::TopicName;

    fn delivery(bytes: usize) -> Command {
        let message = Arc::new(Message {
            key: MessageKey(1),
            app: AppId::default(),
            topic: TopicName::parse("t").unwrap(),
            payload: vec![0; bytes].into(),
            qos: QoS::AtMostOnce,
            retain: false,
            accepted_at: Time(0),
            expires_at: None,
            publisher: None,
            properties: None,
            push: None,
        });
        let ticket = Ticket { shard: ShardNo(0), number: 1 };
        let to = Recipients::Sessions(Vec::new());
        Command::Input(Input::Deliver(Box::new(Delivery { message, ticket, to })))
    }

    #[tokio::test]
    async fn a_full_mailbox_stops_readers_until_its_owner_took_the_mail() {
        let (mailboxes, mut inboxes) = mailboxes(2);
        assert!(mailboxes.send(ShardNo(1), delivery(WAITING_BYTES_MAX / 2)));
        assert!(!mailboxes.is_full());
        assert!(mailboxes.send(ShardNo(1), delivery(WAITING_BYTES_MAX / 2)));
        assert!(mailboxes.is_full());
        let waiting = {
            let mailboxes = Arc::clone(&mailboxes);
            tokio::spawn(async move { mailboxes.room().await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let mut commands = Vec::new();
        inboxes[1].take(&mut commands).await;
        assert_eq!(commands.len(), 2);
        waiting.await.unwrap();
        assert!(!mailboxes.is_full());
    }

    #[tokio::test]
    async fn mail_keeps_its_order() {
        let (mailboxes, mut inboxes) = mailboxes(1);
        let input = |batch| Command::Input(Input::Routed { ticket: batch, parts: 0, is_refused: false });
        mailboxes.send_all(ShardNo(0), vec![input(1), input(2)]);
        mailboxes.send(ShardNo(0), input(3));
        let mut commands = Vec::new();
        inboxes[0].take(&mut commands).await;
        let shown: Vec<_> = commands.iter().map(|command| format!("{command:?}")).collect();
        for (at, text) in shown.iter().enumerate() {
            assert!(text.contains(&format!("ticket: {}", at + 1)), "{shown:?}");
        }
    }

    #[test]
    fn a_shard_that_is_gone_takes_no_mail() {
        let (mailboxes, inboxes) = mailboxes(1);
        drop(inboxes);
        assert!(!mailboxes.send(ShardNo(0), Command::Exit));
        assert!(!mailboxes.send(ShardNo(9), Command::Exit));
    }
}
