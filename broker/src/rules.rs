//! The rules of one shard with everything that their outputs touch: no task, no waiting, one call a packet.

use crate::auth::enhanced::Step;
use crate::bodies::{Read, Reads};
use crate::connections::{Connections, Reading};
use crate::mailbox::Command;
use crate::shared::Shared;
use bytes::{Buf, BytesMut};
use reveille_broker_core::admin::{Done, Wish};
use reveille_broker_core::io::{
    Authenticated, ConnectionKey, IndexChange, Input, Loss, Output, RouteTo, ShardNo, Ticket,
};
use reveille_broker_core::message::Message;
use reveille_broker_core::networks::Sighting;
use reveille_broker_core::presence::BRIDGE_APP;
use reveille_broker_core::shard::Shard;
use reveille_proto::ids::{AppId, ClientId, MessageId};
use reveille_proto::reason::ReasonCode;
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A shard and what belongs to it on its thread.
pub(crate) struct Rules {
    shared: Shared,
    /// The state machine.
    pub(crate) shard: Shard,
    /// Its sockets.
    pub(crate) connections: Connections,
    /// Its reads from the store.
    pub(crate) reads: Reads,
    /// Inputs that outputs led to, handled after the drain that made them. Empty between calls.
    follow_ups: VecDeque<Input>,
    /// Commands for other shards, handed over when the turn ends.
    outgoing: Vec<Vec<Command>>,
    /// Operators that wait for the end of their wishes, by number.
    wishes: HashMap<u64, oneshot::Sender<Done>>,
    next_wish: u64,
    /// Connections to write to when the turn ends.
    pub(crate) dirty: Vec<ConnectionKey>,
    /// What was seen of networks in this turn.
    seen: Vec<Sighting>,
    /// Outputs of the recovery, which wait until every shard has recovered.
    held: Vec<Output>,
}

/// How far a write got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits any more; so many bytes went.
    All(usize),
    /// The socket would block; so many bytes went.
    Blocked(usize),
    /// The socket is broken.
    Broken(Loss),
    /// There is no such connection.
    Gone,
}

impl Rules {
    /// Around a fresh shard.
    pub(crate) fn new(shared: Shared, shard: Shard, reads: Reads) -> Self {
        let outgoing = (0..shared.mailboxes.count()).map(|_| Vec::new()).collect();
        Self {
            shared,
            shard,
            connections: Connections::default(),
            reads,
            follow_ups: VecDeque::new(),
            outgoing,
            wishes: HashMap::new(),
            next_wish: 0,
            dirty: Vec::new(),
            seen: Vec::new(),
            held: Vec::new(),
        }
    }

    /// While the store gives back what it kept: subscriptions become routable at once, the rest waits.
    pub(crate) fn hold_outputs(&mut self) {
        while let Some(output) = self.shard.next_output() {
            match output {
                Output::Index(change) => self.index(change),
                other => self.held.push(other),
            }
        }
    }

    /// Every shard has recovered: does what waited for it.
    pub(crate) fn release_outputs(&mut self) {
        for output in std::mem::take(&mut self.held) {
            self.act(output);
        }
        let has_bridge = self.shared.read_router().has_bridge();
        self.feed(Input::BridgePresent(has_bridge));
    }

    /// Something happened: handles it, does what follows from it, and what follows from that on this shard.
    pub(crate) fn feed(&mut self, input: Input) {
        let now = self.shared.clock.now(); // what follows from it happens at the same time
        let mut next = Some(input);
        while let Some(input) = next {
            self.shard.handle(input, now);
            while let Some(output) = self.shard.next_output() {
                self.act(output);
            }
            next = self.follow_ups.pop_front();
        }
    }

    /// An operator wants something and waits for its end. Who waits bounds how many do.
    pub(crate) fn wish(&mut self, wish: Wish, answer: oneshot::Sender<Done>) {
        let number = self.next_wish;
        self.next_wish += 1;
        self.wishes.insert(number, answer);
        self.feed(Input::Wish { number, wish });
    }

    /// A socket ended by itself, or its bytes cannot be written any more.
    pub(crate) fn lost(&mut self, connection: ConnectionKey, how: Loss) {
        if self.connections.remove(connection) {
            self.feed(Input::Lost { connection, how });
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Write(connection) => self.mark_dirty(connection),
            Output::Close { connection, unsent, reason: _ } => self.connections.leave(connection, unsent),
            Output::Authenticate { connection, begins, data } => {
                let outcome = self.authenticate(connection, begins, data.as_deref());
                self.follow_ups.push_back(Input::Authenticated { connection, outcome });
            }
            Output::PauseReading(connection) => self.connections.set_reading(connection, Reading::Paused),
            Output::ResumeReading(connection) => self.connections.set_reading(connection, Reading::Open),
            Output::Route { message, ticket, to } => self.route(&message, ticket, to),
            Output::Settle { ticket, part } => {
                let settled = Input::Settled { ticket: ticket.number, from: self.shared.no, part };
                self.send(ticket.shard, settled);
            }
            Output::Confirm { shard, message, is_durable } => {
                self.send(shard, Input::Confirmed { message, is_durable });
            }
            Output::Trace(trace) => self.shared.tracer.write(&trace),
            Output::Seen(sighting) => self.seen.push(*sighting),
            Output::Advise { connection, origin } => {
                if let Some(advice) = self.shared.heartbeats.advice(&origin) {
                    self.follow_ups.push_back(Input::Advice { connection, advice: Box::new(advice) });
                }
            }
            Output::Withdraw { app, id, client_ids, ticket } => self.withdraw(&app, id, client_ids, ticket),
            Output::Index(change) => self.index(change),
            Output::Done { number, done } => {
                if let Some(answer) = self.wishes.remove(&number) {
                    let _ = answer.send(done); // who asked may have given up waiting
                }
            }
            Output::Retain { app, topic, message } => self.shared.write_router().retain(&app, topic, message),
            Output::Release { app, share } => {
                self.shared.read_router().release(&app, &share, self.shared.no);
            }
            Output::ReadBodies { session, keys } => self.reads.ask(Read { session, keys }),
            Output::ReadRetained { app, session, filter, after } => {
                let page = self.shared.limits.load().core.retained_page;
                let (messages, after) =
                    self.shared.read_router().retained(&app, &filter, after.as_ref(), page);
                self.follow_ups.push_back(Input::Retained { session, filter, messages, after });
            }
        }
    }

    /// Nothing in here takes long: a few hashes, or one signature.
    fn authenticate(
        &mut self,
        connection: ConnectionKey,
        begins: bool,
        data: Option<&[u8]>,
    ) -> Authenticated {
        let (auth, now) = (self.shared.auth.load_full(), self.shared.clock.now());
        let slot = self.connections.get_mut(connection);
        let Some(enhanced) = slot.and_then(|slot| slot.enhanced.as_mut()) else {
            return Authenticated::Refused(ReasonCode::PROTOCOL_ERROR);
        };
        match enhanced.take(&auth, begins, data, now) {
            Ok(Step::Continue(data)) => Authenticated::Continue(data),
            Ok(Step::Done(identity, data)) => Authenticated::Done(identity, data),
            // The method went with a reload; DISCONNECT has no word for that.
            Err(ReasonCode::BAD_AUTHENTICATION_METHOD) => Authenticated::Refused(ReasonCode::NOT_AUTHORIZED),
            Err(reason) => Authenticated::Refused(reason),
        }
    }

    fn mark_dirty(&mut self, connection: ConnectionKey) {
        let Some(slot) = self.connections.get_mut(connection) else { return };
        if !slot.is_dirty && !slot.is_blocked {
            slot.is_dirty = true;
            self.dirty.push(connection);
        }
    }

    fn route(&mut self, message: &Arc<Message>, ticket: u64, to: RouteTo) {
        let asker = Ticket { shard: self.shared.no, number: ticket };
        let router = self.shared.read_router();
        let is_refused = router.refuses(message, &to);
        let is_public = match to {
            RouteTo::Subscribers | RouteTo::FromClient(_) => !is_refused,
            // Again, for one client, or on its way already.
            RouteTo::Group(..) | RouteTo::Sessions(_) | RouteTo::Retained => false,
        };
        let parts = if is_refused { Vec::new() } else { router.route(message, to, asker) };
        drop(router);
        if is_public {
            self.shared.topics.note(message);
        }
        if self.shared.tracer.is_on() {
            self.shared.tracer.routed(message, parts.len());
        }
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.follow_ups.push_back(Input::Routed { ticket, parts: count, is_refused });
        for (shard, delivery) in parts {
            self.send(shard, Input::Deliver(Box::new(delivery)));
        }
    }

    /// To every shard, or only to those that own one of the sessions: an empty list would mean all of them.
    fn withdraw(&mut self, app: &AppId, id: MessageId, client_ids: Vec<ClientId>, number: u64) {
        let count = self.shared.mailboxes.count();
        let ticket = Ticket { shard: self.shared.no, number };
        let is_for_all = client_ids.is_empty();
        let mut by_shard: Vec<Vec<ClientId>> = (0..count).map(|_| Vec::new()).collect();
        for client_id in client_ids {
            let owner = Shard::owner(app, &client_id, count);
            if let Some(list) = by_shard.get_mut(usize::from(owner.0)) {
                list.push(client_id);
            }
        }
        let concerned = (0..).zip(by_shard).filter(|(_, list)| is_for_all || !list.is_empty());
        let concerned: Vec<(u16, Vec<ClientId>)> = concerned.collect();
        let parts = u32::try_from(concerned.len()).unwrap_or(u32::MAX);
        self.follow_ups.push_back(Input::Routed { ticket: number, parts, is_refused: false });
        for (no, client_ids) in concerned {
            self.send(ShardNo(no), Input::Withdraw { app: app.clone(), id, client_ids, ticket });
        }
    }

    /// The others look at the router themselves when they hear of the change: two changes that cross on their way
    /// end in the same state everywhere.
    fn index(&mut self, change: IndexChange) {
        let (IndexChange::Subscribe(app, _)
        | IndexChange::Unsubscribe(app, _)
        | IndexChange::Online(app, ..)) = &change;
        let is_of_bridge = app.as_str() == BRIDGE_APP;
        let mut router = self.shared.write_router();
        let before = is_of_bridge && router.has_bridge();
        router.apply(self.shared.no, &change);
        let after = is_of_bridge && router.has_bridge();
        drop(router);
        if before == after {
            return;
        }
        for no in 0..self.shared.mailboxes.count() {
            if no == self.shared.no.0 {
                self.follow_ups.push_back(Input::BridgePresent(after));
            } else if let Some(commands) = self.outgoing.get_mut(usize::from(no)) {
                commands.push(Command::BridgeChanged);
            }
        }
    }

    fn send(&mut self, shard: ShardNo, input: Input) {
        if shard == self.shared.no {
            self.follow_ups.push_back(input);
        } else if let Some(commands) = self.outgoing.get_mut(usize::from(shard.0)) {
            commands.push(Command::Input(input));
        }
    }

    /// Hands over what this turn made for others.
    pub(crate) fn send_outgoing(&mut self) {
        self.shared.heartbeats.see(&mut self.seen, &self.shared.clock);
        for (no, commands) in (0..).zip(&mut self.outgoing) {
            if !commands.is_empty() {
                self.shared.mailboxes.send_all(ShardNo(no), std::mem::take(commands));
            }
        }
    }

    /// Writes a connection's bytes until none is left or the socket would block. Gives the buffer back when it is
    /// empty: an idle connection holds none.
    pub(crate) fn flush(&mut self, connection: ConnectionKey) -> Flushed {
        let Some(slot) = self.connections.get_mut(connection) else { return Flushed::Gone };
        slot.is_dirty = false;
        let Some(unsent) = self.shard.unsent(connection) else { return Flushed::Gone };
        let mut count = 0;
        while !unsent.is_empty() {
            match slot.stream.try_write(unsent) {
                Ok(0) => return Flushed::Broken(Loss::Closed),
                Ok(taken) => {
                    unsent.advance(taken);
                    count += taken;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Blocked(count),
                Err(error) => return Flushed::Broken(how(&error)),
            }
        }
        *unsent = BytesMut::new();
        match slot.stream.try_flush() {
            Ok(()) => Flushed::All(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Flushed::Blocked(count),
            Err(error) => Flushed::Broken(how(&error)),
        }
    }
}

/// What the error of a socket says about its network.
pub(crate) fn how(error: &std::io::Error) -> Loss {
    match error.kind() {
        ErrorKind::ConnectionReset => Loss::Reset,
        ErrorKind::TimedOut => Loss::Unanswered, // TCP_USER_TIMEOUT, or probes that nobody answered
        _ => Loss::Closed,
    }
}
