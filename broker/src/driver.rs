//! The reader of one connection. It waits without a buffer, borrows the shard's, and keeps only an incomplete packet.

use crate::connections::{Gate, Reading};
use crate::host::Host;
use crate::listener::Seat;
use crate::rules::how;
use crate::transport::{Came, Stream};
use bytes::BytesMut;
use reveille_broker_core::io::{ConnectionKey, Input, Loss};
use reveille_proto::mqtt::{self, Packet, Version};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

/// How long a closed connection may still send before the socket is gone. Closing with unread bytes would reset the
/// connection, and the reset overtakes the goodbye that says why.
const LINGER: Duration = Duration::from_secs(1);

/// Reads whose bytes are thrown away meanwhile.
const LINGER_READS: usize = 16;

/// What reading a connection needs.
pub(crate) struct Driver {
    /// The shard.
    pub(crate) host: Rc<Host>,
    /// Its name there.
    pub(crate) connection: ConnectionKey,
    /// Whether the rules want it read.
    pub(crate) gate: Rc<Gate>,
    /// Its bytes.
    pub(crate) stream: Rc<Stream>,
    /// Of the CONNECT.
    pub(crate) version: Version,
    /// Bytes of one packet.
    pub(crate) packet_size_max: u32,
    /// Bytes that came and are no whole packet yet, or wait for the gate. At most one packet and one read.
    pub(crate) unread: BytesMut,
    /// The gate closed before all of `unread` was taken.
    pub(crate) is_held_up: bool,
    /// It has sent a PUBLISH.
    pub(crate) has_published: bool,
    /// What it is about.
    pub(crate) doing: Doing,
    /// Counts the socket until it is gone.
    pub(crate) _seat: Seat,
}

/// What a driver is about.
pub(crate) enum Doing {
    /// The socket is read when bytes come and the gate is open.
    Reading,
    /// Something else has to end first.
    Waiting(Pin<Box<dyn Future<Output = ()>>>),
    /// The connection is closed.
    Lingering(Pin<Box<dyn Future<Output = ()>>>),
}

/// How one step of reading ended.
enum Step {
    /// Bytes came; `true`: as many as fit, so more probably wait.
    Came(bool),
    /// The rules closed the connection.
    Closed,
    /// The peer or the network did.
    Lost(Loss),
}

/// Reads until the connection ends, by whomever. A state machine by hand, because there is one for each connection and a
/// compiler-made one of these steps is three times as large: what is rare waits in a box.
impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            match &mut this.doing {
                Doing::Reading => {}
                Doing::Waiting(end) => {
                    ready!(end.as_mut().poll(context));
                    this.doing = Doing::Reading;
                }
                Doing::Lingering(end) => return end.as_mut().poll(context),
            }
            this.take_packets();
            if let Some(wait) = this.wait() {
                this.doing = Doing::Waiting(wait);
                continue;
            }
            match ready!(this.poll_step(context)) {
                Step::Came(true) => {
                    this.take_packets();
                    // Whoever sends without a pause gets one read a round, like everyone else.
                    this.doing = Doing::Waiting(Box::pin(yield_now()));
                }
                Step::Came(false) => {}
                Step::Closed => {
                    this.unread = BytesMut::new();
                    let (host, stream) = (Rc::clone(&this.host), Rc::clone(&this.stream));
                    this.doing = Doing::Lingering(Box::pin(linger(host, stream)));
                }
                Step::Lost(how) => {
                    this.host.lost(this.connection, how);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl Driver {
    /// What has to end before the socket is read again: another shard's mailbox is full, or memory runs short and the
    /// client has published. Who only reads goes on: its acknowledgements empty queues.
    fn wait(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let shared = &self.host.shared;
        if shared.mailboxes.is_full() {
            let mailboxes = Arc::clone(&shared.mailboxes);
            return Some(Box::pin(async move { mailboxes.room().await }));
        }
        let is_concerned = self.has_published && self.gate.reading() != Reading::Closed;
        if is_concerned && !shared.health.overload.reads_publishers() {
            let health = Arc::clone(&shared.health);
            return Some(Box::pin(async move { health.overload.relief().await }));
        }
        None
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match self.gate.reading() {
            Reading::Closed => return Poll::Ready(Step::Closed),
            Reading::Paused => {
                self.gate.park(context);
                return Poll::Pending;
            }
            Reading::Open if self.is_held_up => return Poll::Ready(Step::Came(false)),
            Reading::Open => {}
        }
        let mut scratch = self.host.scratch.borrow_mut();
        let before = self.unread.len();
        match self.stream.poll_read(context, &mut scratch, &mut self.unread) {
            Poll::Ready(Ok(Came::Bytes(is_full))) => {
                let came = self.unread.len().saturating_sub(before);
                self.host.count(|counters| counters.bytes_received += came as u64);
                Poll::Ready(Step::Came(is_full))
            }
            Poll::Ready(Ok(Came::End)) => Poll::Ready(Step::Lost(Loss::Closed)),
            Poll::Ready(Err(error)) => Poll::Ready(Step::Lost(how(&error))),
            Poll::Pending => {
                self.gate.park(context);
                Poll::Pending
            }
        }
    }

    /// Hands every whole packet to the rules, until the gate closes.
    fn take_packets(&mut self) {
        self.is_held_up = false;
        let mut has_taken = false;
        let max = self.packet_size_max;
        while !self.unread.is_empty() {
            if self.gate.reading() != Reading::Open {
                self.is_held_up = true;
                return;
            }
            let connection = self.connection;
            match mqtt::read(&mut self.unread, Some(self.version), max) {
                Ok(Some(packet)) => {
                    self.has_published |= matches!(packet, Packet::Publish(_));
                    self.host.feed(Input::Packet { connection, packet });
                }
                Ok(None) => break,
                Err(malformed) => {
                    self.host.feed(Input::Malformed { connection, reason: malformed.reason });
                    self.gate.set(Reading::Closed); // nothing after it can be told apart
                }
            }
            has_taken = true;
        }
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        } else if has_taken {
            // The packets before share the allocation for as long as their payloads live: the tail gets its own.
            self.unread = BytesMut::from(self.unread.as_ref());
        }
    }
}

/// Reads what the peer still sends, for a while, so that it gets to read our last packet.
async fn linger(host: Rc<Host>, stream: Rc<Stream>) {
    let draining = async {
        for _ in 0..LINGER_READS {
            if poll_fn(|context| stream.poll_drop(context, &mut host.scratch.borrow_mut())).await {
                return;
            }
        }
    };
    let _ = timeout(LINGER, draining).await;
}
