//! The sockets of one shard: keys for the rules, what waits to be read, what is on its way out.

use crate::auth::enhanced::Enhanced;
use crate::listener::Seat;
use crate::poller::Event;
use crate::transport::Stream;
use bytes::BytesMut;
use reveille_broker_core::io::ConnectionKey;
use reveille_proto::mqtt::Version;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// How long a socket may take for the last bytes.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long a closed connection may still send before the socket is gone. Closing with unread bytes would reset the
/// connection, and the reset overtakes the goodbye that says why.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are thrown away meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// Whether a connection is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Yes.
    #[default]
    Open,
    /// Not now: its unacknowledged bytes are above their bound.
    Paused,
    /// Never again.
    Closed,
}

/// One socket, as the shard sees it. There is one for each connection, idle or not: what is rare waits in a box.
#[derive(Debug)]
pub(crate) struct Slot {
    generation: u32,
    /// Bytes of one packet.
    pub(crate) packet_size_max: u32,
    /// Its bytes.
    pub(crate) stream: Stream,
    /// Bytes that came and are no whole packet yet, or wait until the rules want them. At most one packet and one read. In a
    /// box, because most connections have none.
    unread: Option<Box<BytesMut>>,
    /// How its client proves who it is, when it uses an authentication method.
    pub(crate) enhanced: Option<Box<Enhanced>>,
    seat: Seat,
    /// Of the CONNECT.
    pub(crate) version: Version,
    reading: Reading,
    /// Its bytes are written when the turn ends.
    pub(crate) is_dirty: bool,
    /// Its socket takes no bytes. See [`Connections::block`].
    pub(crate) is_blocked: bool,
    /// It has sent a PUBLISH.
    pub(crate) has_published: bool,
    /// A read would probably not wait.
    is_readable: bool,
    /// The peer sends nothing more; it is read until its end.
    is_ending: bool,
    /// Whole packets are among what was not taken.
    is_held_up: bool,
    is_queued: bool,
}

const _: () = assert!(size_of::<Slot>() <= 72);

impl Slot {
    /// A client that passed its handshake.
    pub(crate) fn new(
        stream: Stream,
        version: Version,
        packet_size_max: u32,
        seat: Seat,
        enhanced: Option<Box<Enhanced>>,
    ) -> Self {
        Self {
            generation: 0,
            packet_size_max,
            stream,
            unread: None,
            enhanced,
            seat,
            version,
            reading: Reading::Open,
            is_dirty: false,
            is_blocked: false,
            has_published: false,
            is_readable: false,
            is_ending: false,
            is_held_up: false,
            is_queued: false,
        }
    }

    /// Whether it is read.
    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    /// Nothing after this can be told apart.
    pub(crate) fn close_reading(&mut self) {
        self.reading = Reading::Closed;
    }

    /// Takes what came and was not taken, to give it back with [`Self::keep_unread`]. `true`: there are whole packets in it.
    pub(crate) fn take_unread(&mut self) -> (BytesMut, bool) {
        let unread = self.unread.take().map(|unread| *unread).unwrap_or_default();
        (unread, std::mem::take(&mut self.is_held_up))
    }

    /// Keeps what was not taken.
    pub(crate) fn keep_unread(&mut self, unread: BytesMut) {
        self.is_held_up = self.reading != Reading::Open && !unread.is_empty();
        self.unread = (!unread.is_empty()).then(|| Box::new(unread));
    }

    /// Whether a read would probably not wait.
    pub(crate) fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// A read says whether the next one would wait. A peer that sends nothing more is read until its end.
    pub(crate) fn was_read(&mut self, is_more: bool) {
        self.is_readable = is_more || self.is_ending;
    }

    /// A read would have waited.
    pub(crate) fn is_drained(&mut self) {
        self.is_readable = false;
    }
}

/// A socket that the rules have closed: it takes the last bytes, then the peer gets a while to read them.
#[derive(Debug)]
struct Leaving {
    stream: Stream,
    rest: BytesMut,
    is_told: bool,
    bytes_left: usize,
    until: Instant,
    _seat: Seat,
}

impl Leaving {
    /// Writes the last bytes, as far as the socket takes them. `false`: it is broken.
    fn tell(&mut self) -> bool {
        if self.is_told {
            return true;
        }
        match self.stream.try_finish(&mut self.rest) {
            Ok(()) => {
                self.stream.shut_down();
                (self.is_told, self.until) = (true, Instant::now() + LINGER);
                self.bytes_left = LINGER_BYTES;
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Goes on as far as the socket lets it, with one read.
    fn step(&mut self, scratch: &mut [u8]) -> Step {
        if !self.tell() {
            return Step::Over;
        }
        if self.bytes_left == 0 {
            return if self.is_told { Step::Over } else { Step::Waits };
        }
        match self.stream.drop_bytes(scratch) {
            Ok(0) => Step::Over,
            Ok(count) => {
                self.bytes_left = self.bytes_left.saturating_sub(count);
                Step::Dropped(count)
            }
            Err(_) => Step::Waits,
        }
    }
}

/// How a step of one that leaves ended.
enum Step {
    /// The socket can go.
    Over,
    /// The poller tells when there is more to do.
    Waits,
    /// So many bytes were thrown away; more may be there.
    Dropped(usize),
}

/// All sockets of a shard. Bounded by the number of connections that the listeners admit.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Slab<Slot>,
    generation: u32,
    /// Those that have something to be read or taken, each once.
    ready: VecDeque<ConnectionKey>,
    /// Those that are not read while memory runs short.
    held: Vec<ConnectionKey>,
    /// Those whose socket takes no bytes: few, whatever the number of connections.
    blocked: HashMap<ConnectionKey, Instant>,
    leaving: HashMap<ConnectionKey, Leaving>,
}

impl Connections {
    /// A new socket.
    pub(crate) fn insert(&mut self, mut slot: Slot) -> ConnectionKey {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        slot.generation = generation;
        let index = u32::try_from(self.slots.insert(slot)).unwrap_or(u32::MAX); // file descriptors end far earlier
        ConnectionKey { index, generation }
    }

    /// One that still is what the key says.
    pub(crate) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(key.index).ok()?)?;
        (slot.generation == key.generation).then_some(slot)
    }

    /// The rules say whether it is read. One that is closed for reading stays so.
    pub(crate) fn set_reading(&mut self, key: ConnectionKey, reading: Reading) {
        let Some(slot) = self.get_mut(key).filter(|slot| slot.reading != Reading::Closed) else { return };
        slot.reading = reading;
        if reading == Reading::Open && (slot.is_readable || slot.is_held_up) {
            self.queue(key);
        }
    }

    /// What came behind its CONNECT is taken as if it had waited for the rules: bytes, or the end that a layer was told.
    pub(crate) fn came_early(&mut self, key: ConnectionKey, bytes: BytesMut) {
        let Some(slot) = self.get_mut(key) else { return };
        slot.is_readable = slot.stream.is_ended();
        slot.is_held_up = !bytes.is_empty();
        slot.unread = slot.is_held_up.then(|| Box::new(bytes));
        if slot.is_readable || slot.is_held_up {
            self.queue(key);
        }
    }

    /// It has something to be read, or to be taken from what was read. Each turn reads once what is queued.
    pub(crate) fn queue(&mut self, key: ConnectionKey) {
        let is_news = match self.get_mut(key) {
            Some(slot) => !std::mem::replace(&mut slot.is_queued, true),
            None => self.leaving.contains_key(&key),
        };
        if is_news {
            self.ready.push_back(key);
        }
    }

    /// The poller told something; what there is to read is queued. Its writes are the host's.
    pub(crate) fn came(&mut self, event: Event) {
        if let Some(slot) = self.get_mut(event.connection) {
            slot.is_readable |= event.is_readable;
            slot.is_ending |= event.is_ending;
            if !event.is_readable || slot.reading != Reading::Open {
                return;
            }
        }
        self.queue(event.connection);
    }

    /// How many are queued.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// The next one that is queued.
    pub(crate) fn next_ready(&mut self) -> Option<ConnectionKey> {
        let key = self.ready.pop_front()?;
        if let Some(slot) = self.get_mut(key) {
            slot.is_queued = false;
        }
        Some(key)
    }

    /// It is not read until [`Self::release_held`].
    pub(crate) fn hold(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.is_queued = true; // what happens meanwhile does not queue it
            self.held.push(key);
        }
    }

    /// Memory is less short. Says whether somebody waited for that.
    pub(crate) fn release_held(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        for key in &held {
            if let Some(slot) = self.get_mut(*key) {
                slot.is_queued = false;
            }
            self.queue(*key);
        }
        !held.is_empty()
    }

    /// Its socket takes no bytes; the poller tells when it does.
    pub(crate) fn block(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.is_blocked = true;
            self.blocked.entry(key).or_insert_with(Instant::now);
        }
    }

    /// Its socket took all bytes.
    pub(crate) fn unblock(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.is_blocked = false;
        }
        self.blocked.remove(&key);
    }

    /// Those whose socket takes no bytes, and since when.
    pub(crate) fn blocked(&self) -> Vec<(ConnectionKey, Instant)> {
        self.blocked.iter().map(|(key, since)| (*key, *since)).collect()
    }

    /// How many sockets take no bytes.
    pub(crate) fn blocked_count(&self) -> usize {
        self.blocked.len()
    }

    /// The socket is broken, or its peer is gone. `false`: it was gone before.
    pub(crate) fn remove(&mut self, key: ConnectionKey) -> bool {
        self.take(key).is_some()
    }

    fn take(&mut self, key: ConnectionKey) -> Option<Slot> {
        self.get_mut(key)?;
        self.blocked.remove(&key);
        self.slots.try_remove(usize::try_from(key.index).ok()?)
    }

    /// The rules have closed it: it takes the last bytes now or a little later, and the peer gets a while to read them.
    pub(crate) fn leave(&mut self, key: ConnectionKey, rest: BytesMut) {
        let Some(Slot { stream, seat, is_readable, .. }) = self.take(key) else { return };
        let (bytes_left, until) = (LINGER_BYTES, Instant::now() + GOODBYE);
        let mut leaving = Leaving { stream, rest, is_told: false, bytes_left, until, _seat: seat };
        if !leaving.tell() {
            return;
        }
        self.leaving.insert(key, leaving);
        if is_readable {
            self.queue(key); // nobody tells again what was told already
        }
    }

    /// The socket of one that leaves may go on. Says how many bytes were thrown away.
    pub(crate) fn step(&mut self, key: ConnectionKey, scratch: &mut [u8]) -> usize {
        match self.leaving.get_mut(&key).map(|leaving| leaving.step(scratch)) {
            Some(Step::Over) => {
                self.leaving.remove(&key);
                0
            }
            Some(Step::Dropped(count)) => {
                self.queue(key);
                count
            }
            Some(Step::Waits) | None => 0,
        }
    }

    /// Ends those that had their time to leave.
    pub(crate) fn end_leaving(&mut self, now: Instant) {
        self.leaving.retain(|_, leaving| leaving.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;
    use crate::listener::Listener;
    use crate::transport::socket::Socket;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    fn slot(health: &Arc<Health>) -> (Slot, UnixStream) {
        let (ours, theirs) = Socket::pair();
        let seat = Arc::new(Listener::default()).seat(health);
        (Slot::new(Stream::new(ours, None), Version::V5, 1 << 20, seat, None), theirs)
    }

    fn readable(connection: ConnectionKey) -> Event {
        Event { connection, is_readable: true, is_writable: true, is_ending: false }
    }

    fn run(connections: &mut Connections) {
        while let Some(key) = connections.next_ready() {
            connections.step(key, &mut [0; 64 << 10]);
        }
    }

    #[test]
    fn a_late_event_of_an_earlier_connection_finds_nothing() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (first, _peer) = slot(&health);
        let first = connections.insert(first);
        assert!(connections.remove(first));
        let (second, _peer) = slot(&health);
        let second = connections.insert(second);
        assert_eq!(second.index, first.index, "the index is used again");
        assert!(connections.get_mut(first).is_none());
        assert!(!connections.remove(first));
        connections.came(readable(first));
        assert_eq!(connections.next_ready(), None);
        assert!(connections.get_mut(second).is_some());
    }

    #[test]
    fn reading_that_is_closed_stays_closed() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (of_peer, _peer) = slot(&health);
        let key = connections.insert(of_peer);
        for reading in [Reading::Paused, Reading::Open] {
            connections.set_reading(key, reading);
            assert_eq!(connections.get_mut(key).unwrap().reading(), reading);
        }
        connections.get_mut(key).unwrap().close_reading();
        for reading in [Reading::Open, Reading::Paused] {
            connections.set_reading(key, reading);
            assert_eq!(connections.get_mut(key).unwrap().reading(), Reading::Closed);
        }
    }

    #[test]
    fn what_came_while_it_was_paused_is_read_when_it_is_open_again() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (of_peer, _peer) = slot(&health);
        let key = connections.insert(of_peer);
        connections.set_reading(key, Reading::Paused);
        connections.came(readable(key));
        assert_eq!(connections.next_ready(), None);
        connections.set_reading(key, Reading::Open);
        connections.came(readable(key));
        assert_eq!((connections.next_ready(), connections.next_ready()), (Some(key), None), "once");
    }

    #[test]
    fn who_is_held_is_queued_once_and_only_when_memory_is_less_short() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (of_peer, _peer) = slot(&health);
        let key = connections.insert(of_peer);
        connections.came(readable(key));
        assert_eq!(connections.next_ready(), Some(key));
        connections.hold(key);
        connections.came(readable(key));
        assert_eq!(connections.next_ready(), None);
        assert!(connections.release_held());
        assert_eq!((connections.next_ready(), connections.next_ready()), (Some(key), None));
        assert!(!connections.release_held());
    }

    #[test]
    fn bytes_that_came_behind_connect_are_taken_before_anything_is_read() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (of_peer, _peer) = slot(&health);
        let key = connections.insert(of_peer);
        connections.came_early(key, BytesMut::from("abc"));
        assert_eq!(connections.next_ready(), Some(key));
        assert_eq!(connections.get_mut(key).unwrap().take_unread(), (BytesMut::from("abc"), true));
        assert_eq!(connections.get_mut(key).unwrap().take_unread(), (BytesMut::new(), false));
    }

    #[test]
    fn a_peer_reads_the_goodbye_though_it_sends_until_it_reads() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (of_peer, mut peer) = slot(&health);
        let key = connections.insert(of_peer);
        peer.write_all(b"still talking").unwrap();
        connections.came(readable(key));
        connections.leave(key, BytesMut::from("goodbye"));
        assert!(connections.get_mut(key).is_none());
        assert_eq!(health.connections(), 1, "its socket is still there");
        run(&mut connections);
        let mut said = String::new();
        peer.read_to_string(&mut said).unwrap();
        assert_eq!(said, "goodbye");
        drop(peer);
        connections.came(readable(key));
        run(&mut connections);
        assert_eq!(health.connections(), 0);
    }

    #[test]
    fn a_peer_that_talked_while_its_goodbye_waited_still_gets_the_time_to_read_it() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (of_peer, mut peer) = slot(&health);
        let key = connections.insert(of_peer);
        let goodbye = vec![0; 4 << 20]; // more than a socket takes
        connections.leave(key, BytesMut::from(&goodbye[..]));
        let piece = [0; 64 << 10];
        for _ in 0..LINGER_BYTES / piece.len() {
            peer.write_all(&piece).unwrap();
            connections.came(readable(key));
            run(&mut connections);
        }
        peer.set_nonblocking(true).unwrap();
        let mut taken = 0;
        while taken < goodbye.len() {
            taken += peer.read(&mut vec![0; goodbye.len()]).unwrap_or(0);
            connections.came(readable(key));
            run(&mut connections);
        }
        assert_eq!(health.connections(), 1);
    }

    #[test]
    fn a_peer_that_does_not_read_is_given_up_after_a_while_and_not_before() {
        let (mut connections, health) = (Connections::default(), Arc::default());
        let (of_peer, _peer) = slot(&health);
        let key = connections.insert(of_peer);
        connections.leave(key, BytesMut::from(&vec![0; 4 << 20][..])); // more than a socket takes
        let now = Instant::now();
        connections.end_leaving(now);
        assert_eq!(health.connections(), 1);
        connections.end_leaving(now + GOODBYE);
        assert_eq!(health.connections(), 0);
    }
}
