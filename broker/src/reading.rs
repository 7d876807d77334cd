//! Reading in turns: what the poller told is read once a turn, whole packets go to the rules, the rest waits.
//!
//! ```text
//!  poller --> queued --one read a turn--> packets --> rules
//!               ^  |
//!               |  +-- more is there: queued again behind the others
//!               |  +-- paused by the rules, or memory is short: waits until that is over
//!               +----- told again by the poller, the rules or the relief
//! ```

use crate::connections::Reading;
use crate::host::Host;
use crate::rules::{Rules, how};
use crate::transport::Came;
use bytes::BytesMut;
use reveille_broker_core::io::{ConnectionKey, Input, Loss};
use reveille_proto::mqtt::{self, Packet};
use std::io::ErrorKind;

/// Bytes that one turn reads; the next one goes on. Enough for thousands of messages that share a commit, and little
/// enough for another shard to be handed in one go.
const TURN_BYTES: usize = 1 << 20;

impl Host {
    /// Waits until a socket has something for [`Self::read_sockets`].
    pub(crate) async fn sockets_due(&self) {
        self.shared.mailboxes.room().await; // nobody is read while a mailbox is full
        if !self.is_more_to_read.get() {
            self.poller.ready().await;
        }
    }

    /// Reads once each socket that has something, and writes to those that have room again. Before the end of a turn.
    pub(crate) fn read_sockets(&self) {
        let mut rules = self.rules.borrow_mut();
        let mut events = self.events.borrow_mut();
        let is_more_there = self.poller.look(&mut events);
        for event in events.drain() {
            if event.is_writable {
                self.writable(&mut rules, event.connection);
            }
            rules.connections.came(event);
        }
        let mut count = 0;
        for _ in 0..rules.connections.ready_count() {
            if count >= TURN_BYTES || self.shared.mailboxes.is_full() {
                break;
            }
            let Some(connection) = rules.connections.next_ready() else { break };
            count += self.read_socket(&mut rules, connection);
        }
        self.is_more_to_read.set(is_more_there || rules.connections.ready_count() > 0);
    }

    /// Says how many bytes came: of MQTT, or of one that leaves.
    fn read_socket(&self, rules: &mut Rules, connection: ConnectionKey) -> usize {
        let Some(slot) = rules.connections.get_mut(connection) else {
            return rules.connections.step(connection, &mut self.scratch.borrow_mut());
        };
        if slot.reading() != Reading::Open {
            return 0; // it is queued again when the rules open it
        }
        // Who only reads goes on when memory is short: its acknowledgements empty queues.
        if slot.has_published && !self.shared.health.overload.reads_publishers() {
            rules.connections.hold(connection);
            return 0;
        }
        let (mut unread, is_held_up) = slot.take_unread();
        if is_held_up {
            take_packets(rules, connection, unread);
            let Some(slot) = rules.connections.get_mut(connection) else { return 0 };
            if slot.reading() != Reading::Open {
                return 0;
            }
            unread = slot.take_unread().0;
        }
        let Some(slot) = rules.connections.get_mut(connection).filter(|slot| slot.is_readable()) else {
            return keep(rules, connection, unread);
        };
        let before = unread.len();
        match slot.stream.read(&mut self.scratch.borrow_mut(), &mut unread) {
            Ok(Came::Bytes(is_more)) => {
                slot.was_read(is_more);
                if slot.is_readable() {
                    rules.connections.queue(connection);
                }
                let count = unread.len().saturating_sub(before);
                self.count(|counters| counters.bytes_received += count as u64);
                take_packets(rules, connection, unread);
                count
            }
            Ok(Came::End) => {
                rules.lost(connection, Loss::Closed);
                0
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                slot.is_drained();
                keep(rules, connection, unread)
            }
            Err(error) => {
                rules.lost(connection, how(&error));
                0
            }
        }
    }
}

fn keep(rules: &mut Rules, connection: ConnectionKey, unread: BytesMut) -> usize {
    if let Some(slot) = rules.connections.get_mut(connection) {
        slot.keep_unread(unread);
    }
    0
}

/// Hands every whole packet to the rules, until they want no more; what is left stays with the connection.
fn take_packets(rules: &mut Rules, connection: ConnectionKey, mut unread: BytesMut) {
    let mut has_taken = false;
    while !unread.is_empty() {
        let Some(slot) = rules.connections.get_mut(connection) else { return };
        if slot.reading() != Reading::Open {
            break;
        }
        match mqtt::read(&mut unread, Some(slot.version), slot.packet_size_max) {
            Ok(Some(packet)) => {
                slot.has_published |= matches!(packet, Packet::Publish(_));
                rules.feed(Input::Packet { connection, packet });
            }
            Ok(None) => break,
            Err(malformed) => {
                slot.close_reading();
                rules.feed(Input::Malformed { connection, reason: malformed.reason });
            }
        }
        has_taken = true;
    }
    if has_taken && !unread.is_empty() {
        // The packets before share the allocation for as long as their payloads live: the tail gets its own.
        unread = BytesMut::from(unread.as_ref());
    }
    keep(rules, connection, unread);
}
