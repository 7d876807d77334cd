//! The sockets of one shard that are past their handshake: one epoll for all of them, which the shard's loop waits for like
//! for one more socket. A connection that says nothing has no task, no waker and no registration of its own.

use crate::transport::awaited::watched;
use reveille_broker_core::io::ConnectionKey;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sockets that one look finds. The others are found by the next one.
const EVENTS_MAX: usize = 256;

/// The poller.
#[derive(Debug)]
pub(crate) struct Poller(AsyncFd<OwnedFd>);

/// What happened at one socket since it was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Whose it is.
    pub(crate) connection: ConnectionKey,
    /// Bytes came, or the end.
    pub(crate) is_readable: bool,
    /// It took bytes that made room for others.
    pub(crate) is_writable: bool,
    /// The peer sends nothing more: what is there can be read, and then the end.
    pub(crate) is_ending: bool,
}

/// What a look writes into.
pub(crate) struct Events(Vec<epoll::Event>);

impl Default for Events {
    fn default() -> Self {
        Self(Vec::with_capacity(EVENTS_MAX))
    }
}

impl Events {
    /// Gives them out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Event> {
        self.0.drain(..).map(|event| {
            let flags = event.flags;
            let ending = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
            Event {
                connection: key(event.data.u64()),
                is_readable: flags.intersects(EventFlags::IN | ending),
                is_writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                is_ending: flags.intersects(ending),
            }
        })
    }
}

impl Poller {
    /// In the runtime that enters here.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self(watched(epoll, Interest::READABLE)?))
    }

    /// From now on tells each change of a socket once, until the socket is closed. What is there already is a change.
    ///
    /// # Errors
    /// When the system cannot watch more.
    pub(crate) fn add(&self, socket: impl AsFd, connection: ConnectionKey) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = u64::from(connection.generation) << 32 | u64::from(connection.index);
        Ok(epoll::add(self.0.get_ref(), socket, EventData::new_u64(data), flags)?)
    }

    /// Waits until [`Self::look`] would probably find something.
    pub(crate) async fn ready(&self) {
        let _ = self.0.readable().await; // the runtime ends: so does whoever waits
    }

    /// Takes what happened, without waiting. `true`: more than one look finds.
    pub(crate) fn look(&self, events: &mut Events) -> bool {
        let looked = self.0.try_io(Interest::READABLE, |epoll| {
            events.0.clear();
            epoll::wait(epoll, spare_capacity(&mut events.0), Some(&Timespec::default()))?;
            // Fewer than fit: the next change wakes the runtime, and until then it knows that nothing is there.
            if events.0.len() < EVENTS_MAX { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if let Err(error) = &looked
            && error.kind() != ErrorKind::WouldBlock
        {
            tracing::error!(%error, "sockets cannot be polled");
        }
        looked.is_ok()
    }
}

fn key(data: u64) -> ConnectionKey {
    let [g3, g2, g1, g0, i3, i2, i1, i0] = data.to_be_bytes();
    ConnectionKey {
        index: u32::from_be_bytes([i3, i2, i1, i0]),
        generation: u32::from_be_bytes([g3, g2, g1, g0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::socket::Socket;
    use std::io::{Read, Write};

    const KEY: ConnectionKey = ConnectionKey { index: 7, generation: u32::MAX };

    async fn next(poller: &Poller) -> Vec<Event> {
        let mut events = Events::default();
        loop {
            poller.ready().await;
            poller.look(&mut events);
            let found: Vec<Event> = events.drain().collect();
            if !found.is_empty() {
                return found;
            }
        }
    }

    #[tokio::test]
    async fn each_change_is_told_once_and_the_end_with_it() {
        let poller = Poller::new().unwrap();
        let (ours, mut theirs) = Socket::pair();
        poller.add(&ours, KEY).unwrap();
        let event = Event { connection: KEY, is_readable: false, is_writable: true, is_ending: false };
        assert_eq!(next(&poller).await, [event]);
        theirs.write_all(b"x").unwrap();
        assert_eq!(next(&poller).await, [Event { is_readable: true, ..event }]);
        let mut events = Events::default();
        poller.look(&mut events);
        assert_eq!(events.drain().count(), 0, "told already, though nobody has read");
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(next(&poller).await, [Event { is_readable: true, is_ending: true, ..event }]);
    }

    #[tokio::test]
    async fn a_socket_that_took_nothing_more_is_told_when_it_has_room() {
        let poller = Poller::new().unwrap();
        let (ours, mut theirs) = Socket::pair();
        poller.add(&ours, KEY).unwrap();
        next(&poller).await;
        while ours.try_write(&[0; 4096]).is_ok() {}
        let reading = std::thread::spawn(move || {
            let mut all = vec![0; 1 << 20];
            theirs.read(&mut all).map(|_| theirs).unwrap()
        });
        assert!(next(&poller).await.iter().any(|event| event.is_writable));
        assert!(ours.try_write(&[0]).is_ok());
        reading.join().unwrap();
    }

    #[tokio::test]
    async fn more_sockets_than_one_look_finds_are_all_found() {
        let poller = Poller::new().unwrap();
        let count = u32::try_from(EVENTS_MAX * 2 + 1).unwrap();
        let sockets: Vec<_> = (0..count).map(|_| Socket::pair()).collect();
        for (index, (socket, _)) in (0..).zip(&sockets) {
            poller.add(socket, ConnectionKey { index, generation: 1 }).unwrap();
        }
        let mut found = std::collections::BTreeSet::new();
        while found.len() < sockets.len() {
            found.extend(next(&poller).await.iter().map(|event| event.connection.index));
        }
        assert_eq!(found.last(), Some(&(count - 1)));
    }
}
