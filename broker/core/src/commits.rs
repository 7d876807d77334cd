//! Facts on their way to the store, and what has to wait until they are durable.
//!
//! A batch gathers while the previous one is being written. What is forgotten before its batch left never reaches
//! the disk: a message that all receivers acknowledged in time costs no write.

use crate::admin::Done;
use crate::change::{Announcement, Batch, Change, Entry};
use crate::collections::NumberMap;
use crate::io::{Committed, ConnectionKey, Part, Ticket};
use crate::message::{Message, MessageKey, Seq, SessionKey};
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::Packet;
use std::collections::VecDeque;
use std::sync::Arc;

/// What happens once everything that was gathered so far is durable.
#[derive(Clone, Debug)]
pub(crate) enum Wait {
    /// The connection gets its CONNACK.
    Open(ConnectionKey),
    /// The connection that goes on with a stored session gets it, also when the store refused.
    Resume(ConnectionKey),
    /// This packet is written.
    Packet(ConnectionKey, Packet),
    /// PUBREL may be written for this place in the queue.
    PubRel(SessionKey, Seq),
    /// PUBCOMP is written.
    PubComp(ConnectionKey, PacketId),
    /// Another shard hears that a part of its publish is done.
    Settle(Ticket, Part),
    /// A QoS 2 publish of this shard exists.
    Publish(u64),
    /// A place in a queue may be sent.
    Confirm(SessionKey, Seq),
    /// The bridge can be told.
    Announce(u64, Announcement),
    /// An operator's wish is fulfilled; so many messages were dropped.
    Done(u64, Done),
}

/// What the end of a commit leads to.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub settled: Vec<(Ticket, Part)>,
    pub waits: Vec<Wait>,
    /// Places that were never written; only after a failure.
    pub lost: Vec<(SessionKey, Seq)>,
}

/// The part of a publish that waits for its places in queues.
#[derive(Clone, Debug)]
struct WaitingPart {
    ticket: Ticket,
    part: Part,
    places: u32,
    is_closed: bool,
}

#[derive(Debug)]
struct Handed {
    number: u64,
    parts: Vec<WaitingPart>,
    places: Vec<(SessionKey, Seq)>,
    /// All facts but publishes: kept to be tried again should the store refuse them.
    facts: Vec<Change>,
    bodies: Vec<MessageKey>,
}

/// A body on its way to the store.
#[derive(Debug)]
struct HandedBody {
    message: Arc<Message>,
    /// The last batch that has it: several may.
    batch: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Commits {
    number: u64,
    gathered: Vec<Option<Change>>,
    places: NumberMap<(SessionKey, Seq), (usize, Option<usize>)>,
    parts: Vec<WaitingPart>,
    open_part: Option<usize>,
    bodies: NumberMap<MessageKey, Arc<Message>>,
    waits: VecDeque<(u64, Wait)>,
    handed: VecDeque<Handed>,
    handed_bodies: NumberMap<MessageKey, HandedBody>,
    retry: Vec<Change>,
    /// After a failure nothing is handed over until the shard's clock says so.
    pub is_paused: bool,
}

impl Commits {
    pub fn new() -> Self {
        Self {
            number: 1,
            gathered: Vec::new(),
            places: NumberMap::default(),
            parts: Vec::new(),
            open_part: None,
            bodies: NumberMap::default(),
            waits: VecDeque::new(),
            handed: VecDeque::new(),
            handed_bodies: NumberMap::default(),
            retry: Vec::new(),
            is_paused: false,
        }
    }

    /// A fact that is not about a place in a queue.
    pub fn add(&mut self, change: Change) {
        self.gathered.push(Some(change));
    }

    /// From here to `close_part`, places that are taken belong to this part of a publish.
    pub fn open_part(&mut self, ticket: Ticket) {
        debug_assert!(self.open_part.is_none(), "one publish at a time");
        self.open_part = Some(self.parts.len());
        self.parts.push(WaitingPart { ticket, part: Part::default(), places: 0, is_closed: false });
    }

    /// Ends `open_part`. Gives the part back when it does not have to wait.
    pub fn close_part(&mut self, part: Part) -> Option<Part> {
        let waiting = self.parts.get_mut(self.open_part.take()?)?;
        if waiting.places > 0 {
            waiting.part = part;
            waiting.is_closed = true;
            return None;
        }
        self.parts.pop();
        Some(part)
    }

    /// The part that is open waits for the batch even though it took no place (a retained message).
    pub fn hold_part(&mut self) {
        if let Some(part) = self.open_part.and_then(|at| self.parts.get_mut(at)) {
            part.places += 1;
        }
    }

    /// A message took a place in a durable queue.
    pub fn enqueue(&mut self, session: SessionKey, entry: Entry, message: &Arc<Message>) {
        if let Some(part) = self.open_part.and_then(|at| self.parts.get_mut(at)) {
            part.places += 1;
        }
        self.places.insert((session, entry.seq), (self.gathered.len(), self.open_part));
        self.bodies.insert(message.key, Arc::clone(message));
        self.gathered.push(Some(Change::Enqueue { session, entry, message: Arc::clone(message) }));
    }

    /// What is durable about a place changed.
    pub fn mark(&mut self, session: SessionKey, entry: &Entry) {
        let gathered = self.places.get(&(session, entry.seq)).and_then(|(at, _)| self.gathered.get_mut(*at));
        match gathered {
            Some(Some(Change::Enqueue { entry: known, .. })) => *known = entry.clone(),
            _ => self.add(Change::Mark { session, entry: entry.clone() }),
        }
    }

    /// A place was given up. Returns the part of a publish that has nothing left to wait for.
    pub fn forget(&mut self, session: SessionKey, seq: Seq) -> Option<(Ticket, Part)> {
        let Some((at, part)) = self.places.remove(&(session, seq)) else {
            self.add(Change::Forget { session, seq });
            return None;
        };
        if let Some(change) = self.gathered.get_mut(at) {
            *change = None;
        }
        let waiting = self.parts.get_mut(part?)?;
        waiting.places = waiting.places.saturating_sub(1);
        let is_done = waiting.places == 0 && waiting.is_closed;
        is_done.then(|| {
            waiting.is_closed = false; // settled now, not when the batch ends
            (waiting.ticket, std::mem::take(&mut waiting.part))
        })
    }

    /// Keeps `wait` until all that was gathered so far is durable; gives it back when it already is.
    pub fn wait(&mut self, wait: Wait) -> Option<Wait> {
        let until = match (self.gathered.is_empty() && self.retry.is_empty(), self.handed.back()) {
            (false, _) => self.number,
            (true, Some(handed)) => handed.number,
            (true, None) => return Some(wait),
        };
        self.waits.push_back((until, wait));
        None
    }

    /// A body that is not in the store yet.
    pub fn body(&self, key: MessageKey) -> Option<&Arc<Message>> {
        self.bodies.get(&key).or_else(|| self.handed_bodies.get(&key).map(|handed| &handed.message))
    }

    /// What gathered, for the store.
    pub fn take_batch(&mut self) -> Option<(u64, Batch)> {
        if self.is_paused || (self.gathered.is_empty() && self.retry.is_empty()) {
            return None;
        }
        let mut changes = std::mem::take(&mut self.retry);
        changes.extend(std::mem::take(&mut self.gathered).into_iter().flatten());
        // Messages and the identifiers of QoS 2 publishes are not tried again: their publishers hear that they failed.
        // An identifier written later would make the broker take a new message for a repetition.
        let is_fact = |change: &&Change| !matches!(change, Change::Enqueue { .. } | Change::Receive { .. });
        let facts = changes.iter().filter(is_fact).cloned().collect();
        let number = self.number;
        self.number += 1;
        self.handed.push_back(Handed {
            number,
            parts: std::mem::take(&mut self.parts),
            places: self.places.drain().map(|(place, _)| place).collect(),
            facts,
            bodies: self.bodies.keys().copied().collect(),
        });
        let handed = |(key, message)| (key, HandedBody { message, batch: number });
        self.handed_bodies.extend(self.bodies.drain().map(handed));
        Some((number, Batch { changes }))
    }

    /// The store is done with a batch.
    pub fn ended(&mut self, number: u64, outcome: Committed) -> Ended {
        let mut ended = Ended::default();
        while self.handed.front().is_some_and(|handed| handed.number <= number) {
            let Some(handed) = self.handed.pop_front() else { break };
            for mut waiting in handed.parts {
                if waiting.is_closed {
                    waiting.part.has_failed |= outcome == Committed::Failed;
                    ended.settled.push((waiting.ticket, waiting.part));
                }
            }
            for key in handed.bodies {
                if self.handed_bodies.get(&key).is_some_and(|body| body.batch == handed.number) {
                    self.handed_bodies.remove(&key);
                }
            }
            if outcome == Committed::Failed {
                ended.lost.extend(handed.places);
                self.retry.extend(handed.facts);
                self.is_paused = true;
            }
        }
        while self.waits.front().is_some_and(|(until, _)| *until <= number) {
            ended.waits.extend(self.waits.pop_front().map(|(_, wait)| wait));
        }
        ended.lost.sort_unstable();
        ended
    }
}
