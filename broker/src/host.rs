//! What hosts a shard on its thread: tasks feed it, and when the tasks that were ready have run, its turn ends.
//!
//! ```text
//!  drivers, mailbox, commits, timer --feed--> Rules --outputs--> dirty sockets, commands for others, facts
//!                                                                       |  (the turn ends)
//!                                            one write a socket, one mail a shard, one batch for the store
//! ```
//! The rules sit in a `RefCell` that is borrowed for one call and never across an `await`.

use crate::bodies::Read;
use crate::connections::Slot;
use crate::drain;
use crate::handshake::{Adoption, Newcomer};
use crate::mailbox::{BodiesRead, Command};
use crate::metrics::{Report, ShellCounters};
use crate::overload::Step;
use crate::poller::{Events, Poller};
use crate::review;
use crate::rules::{Flushed, Rules, how};
use crate::shared::Shared;
use reveille_broker_core::io::{Committed, ConnectionKey, Input};
use reveille_broker_core::shard::Shard;
use reveille_broker_store::Commit;
use reveille_proto::reason::ReasonCode;
use std::cell::{Cell, RefCell, RefMut};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

/// Bytes that one read takes from a socket, into a buffer that all connections of a shard borrow in turn.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Commits of one shard on their way: one that is being synced, and one that gathers for the next sync.
const COMMITS_MAX: usize = 2;

/// Readers that one shard disconnects each second while memory runs short.
const SLOWEST_AT_ONCE: usize = 16;

/// Unsent bytes below which nobody is slow: what every socket may have in a burst.
const SLOW_BYTES: usize = 16 << 10;

/// Pause before reading again from a store that failed to read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// One shard on its thread.
pub(crate) struct Host {
    /// What all shards share.
    pub(crate) shared: Shared,
    pub(crate) rules: RefCell<Rules>,
    /// Its sockets.
    pub(crate) poller: Poller,
    /// What a look at them finds.
    pub(crate) events: RefCell<Events>,
    /// The last turn did not read all that was there.
    pub(crate) is_more_to_read: Cell<bool>,
    /// The buffer that reads go into.
    pub(crate) scratch: RefCell<Vec<u8>>,
    turn: Notify,
    is_turn_due: Cell<bool>,
    is_started: Cell<bool>,
    is_shedding: Cell<bool>,
    commits: Cell<usize>,
    counters: Cell<ShellCounters>,
    listeners: RefCell<Vec<AbortHandle>>,
    stop: RefCell<Option<SyncSender<()>>>,
}

impl Host {
    /// Around recovered rules.
    pub(crate) fn new(shared: Shared, rules: Rules, poller: Poller) -> Rc<Self> {
        Rc::new(Self {
            shared,
            rules: RefCell::new(rules),
            poller,
            events: RefCell::default(),
            is_more_to_read: Cell::new(false),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            turn: Notify::new(),
            is_turn_due: Cell::new(false),
            is_started: Cell::new(false),
            is_shedding: Cell::new(false),
            commits: Cell::new(0),
            counters: Cell::default(),
            listeners: RefCell::default(),
            stop: RefCell::default(),
        })
    }

    /// Something for the rules; what follows is written, sent and committed when the turn ends.
    pub(crate) fn feed(&self, input: Input) {
        self.rules.borrow_mut().feed(input);
        self.end_turn_soon();
    }

    /// Reads the rules' state; changes nothing.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&Shard) -> T) -> T {
        read(&self.rules.borrow().shard)
    }

    /// Counts something of the shell.
    pub(crate) fn count(&self, add: impl FnOnce(&mut ShellCounters)) {
        let mut counters = self.counters.get();
        add(&mut counters);
        self.counters.set(counters);
    }

    /// Waits until some task fed the rules. Tasks that were ready before run first, so their outputs share the turn.
    pub(crate) async fn turn_due(&self) {
        self.turn.notified().await;
    }

    fn end_turn_soon(&self) {
        if !self.is_turn_due.replace(true) {
            self.turn.notify_one();
        }
    }

    /// When the rules want to be woken at the latest. Never before all shards have recovered: a will that is due would
    /// miss the subscribers that are not routable yet.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if !self.is_started.get() {
            return None;
        }
        self.rules.borrow().shard.deadline().map(|time| self.shared.clock.instant(time))
    }

    /// Carries out a command of another thread. `Serve` and `Exit` are the thread's own.
    pub(crate) fn carry_out(self: &Rc<Self>, command: Command) {
        match command {
            Command::Input(input) => self.feed(input),
            Command::Adopt(adoption) => self.adopt(*adoption),
            Command::BridgeChanged => {
                let has_bridge = self.shared.read_router().has_bridge();
                self.feed(Input::BridgePresent(has_bridge));
            }
            Command::AuthChanged => drop(spawn_local(review::after_reload(Rc::clone(self)))),
            Command::Banned(banned) => drop(spawn_local(review::after_ban(Rc::clone(self), banned))),
            Command::Bodies(read) => self.bodies(read),
            Command::Drain => drop(spawn_local(drain::empty(Rc::clone(self)))),
            Command::Report(sender) => {
                let rules = self.rules.borrow();
                let core = rules.shard.counters().clone();
                let blocked = rules.connections.blocked_count() as u64;
                let shell = ShellCounters { blocked, ..self.counters.get() };
                let _ = sender.try_send(Report { core, shell }); // a late answer is not awaited
            }
            Command::Look(look) => {
                let rules = self.rules.borrow();
                look.at(&rules.shard, self.shared.clock.now());
            }
            Command::Wish { wish, answer } => {
                self.rules.borrow_mut().wish(wish, answer);
                self.end_turn_soon();
            }
            Command::Stop(sender) => self.stop(sender),
            Command::Serve { .. } | Command::Exit => {}
        }
    }

    /// A look at the rules.
    pub(crate) fn with_rules<T>(&self, look: impl FnOnce(&Rules) -> T) -> T {
        look(&self.rules.borrow())
    }

    /// Its clients, those first that were silent for the longest time.
    pub(crate) fn connections_by_idleness(&self) -> Vec<ConnectionKey> {
        self.rules.borrow().shard.connections_by_idleness()
    }

    /// Every shard has recovered: does what waited for it.
    pub(crate) fn start(&self) {
        self.is_started.set(true);
        self.rules.borrow_mut().release_outputs();
        self.end_turn_soon();
    }

    /// Tells the rules what is given up, where they have a part in it.
    pub(crate) fn shed(&self, step: Step) {
        if self.is_shedding.replace(step >= Step::DropQos0) != (step >= Step::DropQos0) {
            self.feed(Input::DropQos0(step >= Step::DropQos0));
        }
        if step == Step::DisconnectSlowest {
            self.feed(Input::DisconnectSlowest { count: SLOWEST_AT_ONCE, unsent_min: SLOW_BYTES });
        }
    }

    /// Looks once a second at those who waited for memory, and at those who had their time to leave.
    pub(crate) fn tend_sockets(&self) {
        let mut rules = self.rules.borrow_mut();
        rules.connections.end_leaving(Instant::now());
        let are_read = self.shared.health.overload.reads_publishers();
        if are_read && rules.connections.release_held() {
            drop(rules);
            self.end_turn_soon();
        }
    }

    /// Remembers an accepting task, to end it.
    pub(crate) fn owns_listener(&self, task: AbortHandle) {
        self.listeners.borrow_mut().push(task);
    }

    /// A socket and who is on it: from now on the rules have it.
    pub(crate) fn adopt(self: &Rc<Self>, adoption: Adoption) {
        let Adoption { stream, newcomer } = adoption;
        let Newcomer { opening, rest, seat, enhanced, auth } = newcomer;
        if review::is_banned(&self.shared, &opening) {
            return; // the ban came while it was on its way
        }
        if !Arc::ptr_eq(&auth, &self.shared.auth.load()) {
            drop(spawn_local(review::after_reload(Rc::clone(self)))); // what let it in is not in force any more
        }
        let slot = Slot::new(stream, opening.connect.version, opening.limits.packet_size_max, seat, enhanced);
        let mut rules = self.rules.borrow_mut();
        let connection = rules.connections.insert(slot);
        let Some(slot) = rules.connections.get_mut(connection) else { return };
        if let Err(error) = self.poller.add(&slot.stream, connection) {
            rules.connections.remove(connection);
            return tracing::error!(%error, "a socket cannot be watched");
        }
        rules.feed(Input::Open { connection, opening });
        rules.connections.came_early(connection, rest);
        drop(rules);
        self.end_turn_soon();
    }

    /// Writes, sends and commits what the turn made.
    pub(crate) fn end_turn(self: &Rc<Self>) {
        self.is_turn_due.set(false);
        let mut rules = self.rules.borrow_mut();
        for connection in std::mem::take(&mut rules.dirty) {
            self.write(&mut rules, connection);
        }
        rules.send_outgoing();
        self.commit(&mut rules);
        if rules.connections.ready_count() > 0 {
            self.is_more_to_read.set(true); // a write made room, and the rules want to read on: nobody else tells it
        }
        let is_more_to_write = !rules.dirty.is_empty();
        drop(rules);
        if is_more_to_write {
            self.end_turn_soon();
        }
        self.report_stopped();
    }

    fn write(&self, rules: &mut Rules, connection: ConnectionKey) {
        let flushed = rules.flush(connection);
        self.count_sent(flushed);
        match flushed {
            Flushed::All(count) if rules.shard.waited_for_room(connection, count) => {
                rules.feed(Input::Drained { connection });
            }
            Flushed::All(_) | Flushed::Gone => {} // the rules wait for room only above half of the bound
            Flushed::Blocked(_) => rules.connections.block(connection),
            Flushed::Broken(how) => rules.lost(connection, how),
        }
    }

    fn count_sent(&self, flushed: Flushed) {
        if let Flushed::All(count) | Flushed::Blocked(count) = flushed {
            self.count(|counters| counters.bytes_sent += count as u64);
        }
    }

    /// A socket may take bytes again.
    pub(crate) fn writable(&self, rules: &mut Rules, connection: ConnectionKey) {
        let Some(slot) = rules.connections.get_mut(connection) else { return };
        if slot.is_blocked {
            self.unblock(rules, connection);
        } else if slot.stream.has_outgoing()
            && let Err(error) = slot.stream.try_flush()
            && error.kind() != ErrorKind::WouldBlock
        {
            rules.lost(connection, how(&error));
        }
    }

    fn unblock(&self, rules: &mut Rules, connection: ConnectionKey) {
        let flushed = rules.flush(connection);
        self.count_sent(flushed);
        match flushed {
            Flushed::All(_) => {
                rules.connections.unblock(connection);
                rules.feed(Input::Drained { connection });
            }
            Flushed::Blocked(count) if count > 0 => rules.feed(Input::Drained { connection }),
            Flushed::Blocked(_) | Flushed::Gone => {}
            Flushed::Broken(how) => rules.lost(connection, how),
        }
    }

    fn commit(self: &Rc<Self>, rules: &mut RefMut<'_, Rules>) {
        while self.commits.get() < COMMITS_MAX
            && let Some((number, batch)) = rules.shard.take_batch()
        {
            self.commits.set(self.commits.get() + 1);
            self.count(|counters| counters.commits += 1);
            self.shared.metrics.commit_begins(batch.changes.len());
            let commit = self.shared.store.commit(batch);
            spawn_local(Rc::clone(self).await_commit(number, commit));
        }
    }

    async fn await_commit(self: Rc<Self>, number: u64, commit: Commit) {
        let started = Instant::now();
        let result = commit.await;
        self.shared.metrics.commit_lasted(started.elapsed());
        let is_news = self.shared.health.commit_ended(result.is_ok());
        let outcome = match result {
            Ok(()) => {
                if is_news {
                    tracing::info!("the store takes writes again");
                }
                Committed::Durable
            }
            Err(error) => {
                if is_news {
                    tracing::error!(%error, "the store does not take writes: publishes are refused");
                }
                Committed::Failed
            }
        };
        self.commits.set(self.commits.get().saturating_sub(1));
        self.feed(Input::Committed { batch: number, outcome });
    }

    /// The store answered. When it could not read, nothing is known about the messages: they are asked for again.
    fn bodies(self: &Rc<Self>, read: BodiesRead) {
        let BodiesRead { session, keys, result } = read;
        self.rules.borrow_mut().reads.answered();
        match result {
            Ok(bodies) => {
                self.feed(Input::Bodies { session, bodies: keys.into_iter().zip(bodies).collect() })
            }
            Err(error) => {
                tracing::error!(%error, "queued messages cannot be read from the store");
                let host = Rc::clone(self);
                spawn_local(async move {
                    sleep(READ_PAUSE).await;
                    host.rules.borrow_mut().reads.ask(Read { session, keys });
                });
            }
        }
    }

    fn stop(&self, sender: SyncSender<()>) {
        for listener in self.listeners.borrow_mut().drain(..) {
            listener.abort();
        }
        self.feed(Input::Shutdown(ReasonCode::SERVER_SHUTTING_DOWN));
        *self.stop.borrow_mut() = Some(sender);
    }

    /// Whether nothing is on its way to a socket or to the store.
    pub(crate) fn is_quiet(&self) -> bool {
        self.commits.get() == 0 && !self.is_turn_due.get()
    }

    fn report_stopped(&self) {
        if self.is_quiet()
            && let Some(sender) = self.stop.borrow_mut().take()
        {
            let _ = sender.try_send(()); // who asked may have given up waiting
        }
    }
}
