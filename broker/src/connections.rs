//! The sockets of one shard: keys for the rules, gates for the readers, writers for the end of the turn.

use crate::auth::enhanced::Enhanced;
use crate::transport::Writer;
use reveille_broker_core::io::ConnectionKey;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;
use tokio::task::AbortHandle;

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

/// Between the rules, which say whether a connection is read, and its driver, which reads.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    reading: Cell<Reading>,
    waker: RefCell<Option<Waker>>,
}

impl Gate {
    /// What the rules said last.
    pub(crate) fn reading(&self) -> Reading {
        self.reading.get()
    }

    /// Changes it and wakes the driver. A closed gate stays closed.
    pub(crate) fn set(&self, reading: Reading) {
        if self.reading.get() == Reading::Closed || self.reading.get() == reading {
            return;
        }
        self.reading.set(reading);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The driver waits.
    pub(crate) fn park(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }
}

/// One socket, as the shard sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    generation: u32,
    /// To write to it.
    pub(crate) writer: Writer,
    /// Its reader's gate.
    pub(crate) gate: Rc<Gate>,
    /// Its bytes are written when the turn ends.
    pub(crate) is_dirty: bool,
    /// The task that waits until the socket takes bytes again, and since when. See [`Connections::block`].
    pub(crate) blocked: Option<AbortHandle>,
    /// How its client proves who it is, when it uses an authentication method.
    pub(crate) enhanced: Option<Box<Enhanced>>,
}

/// All sockets of a shard. Bounded by the number of connections that the listeners admit.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Slab<Slot>,
    generation: u32,
    /// Those whose socket takes no bytes: few, whatever the number of connections.
    blocked: HashMap<ConnectionKey, Instant>,
}

impl Connections {
    /// A new socket.
    pub(crate) fn insert(
        &mut self,
        writer: Writer,
        gate: Rc<Gate>,
        enhanced: Option<Box<Enhanced>>,
    ) -> ConnectionKey {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let slot = Slot { generation, writer, gate, is_dirty: false, blocked: None, enhanced };
        let index = u32::try_from(self.slots.insert(slot)).unwrap_or(u32::MAX); // file descriptors end far earlier
        ConnectionKey { index, generation }
    }

    /// One that still is what the key says.
    pub(crate) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(key.index).ok()?)?;
        (slot.generation == key.generation).then_some(slot)
    }

    /// Its socket takes no bytes; `task` waits until it does.
    pub(crate) fn block(&mut self, key: ConnectionKey, task: AbortHandle) {
        if let Some(slot) = self.get_mut(key) {
            slot.blocked = Some(task);
            self.blocked.entry(key).or_insert_with(Instant::now);
        }
    }

    /// Its socket took all bytes.
    pub(crate) fn unblock(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.blocked = None;
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

    /// It is closed: its reader hears of it, its waiting task ends.
    pub(crate) fn remove(&mut self, key: ConnectionKey) -> Option<Slot> {
        self.get_mut(key)?;
        let slot = self.slots.try_remove(usize::try_from(key.index).ok()?)?;
        self.blocked.remove(&key);
        slot.gate.set(Reading::Closed);
        if let Some(task) = &slot.blocked {
            task.abort();
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Stream;
    use crate::transport::socket::Socket;
    use tokio::net::{TcpListener, TcpStream};

    async fn writer() -> Writer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, _server) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        Writer(Rc::new(Stream::new(Socket::Tcp(client.unwrap()), None)))
    }

    #[tokio::test]
    async fn a_late_event_of_an_earlier_connection_finds_nothing() {
        let mut connections = Connections::default();
        let gate = Rc::new(Gate::default());
        let first = connections.insert(writer().await, Rc::clone(&gate), None);
        assert!(connections.remove(first).is_some());
        assert_eq!(gate.reading(), Reading::Closed);
        let second = connections.insert(writer().await, Rc::default(), None);
        assert_eq!(second.index, first.index, "the index is used again");
        assert!(connections.get_mut(first).is_none());
        assert!(connections.remove(first).is_none());
        assert!(connections.get_mut(second).is_some());
    }

    #[test]
    fn a_closed_gate_stays_closed() {
        let gate = Gate::default();
        for (set, wanted) in [
            (Reading::Paused, Reading::Paused),
            (Reading::Open, Reading::Open),
            (Reading::Closed, Reading::Closed),
            (Reading::Open, Reading::Closed),
            (Reading::Paused, Reading::Closed),
        ] {
            gate.set(set);
            assert_eq!(gate.reading(), wanted, "{set:?}");
        }
    }
}
