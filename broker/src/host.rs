//! What hosts a shard on its thread: tasks feed it, and when the tasks that were ready have run, its turn ends.
//!
//! ```text
//!  drivers, mailbox, commits, timer --feed--> Rules --outputs--> dirty sockets, commands for others, facts
//!                                                                       |  (the turn ends)
//!                                            one write a socket, one mail a shard, one batch for the store
//! ```
//! The rules sit in a `RefCell` that is borrowed for one call and never across an `await`.

use crate::bodies::Read;
use crate::drain;
use crate::driver;
use crate::handshake::Newcomer;
use crate::mailbox::{BodiesRead, Command};
use crate::metrics::{Report, ShellCounters};
use crate::overload::Step;
use crate::review;
use crate::rules::{Flushed, Goodbye, Rules, how};
use crate::shared::Shared;
use crate::transport::{Stream, Writer};
use reveille_broker_core::io::{Committed, ConnectionKey, Input, Loss};
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
use tokio::time::{sleep, timeout};

/// Bytes that one read takes from a socket, into a buffer that all connections of a shard borrow in turn.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Commits of one shard on their way: one that is being synced, and one that gathers for the next sync.
const COMMITS_MAX: usize = 2;

/// How long a socket may take for the last bytes.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

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
    rules: RefCell<Rules>,
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
    pub(crate) fn new(shared: Shared, rules: Rules) -> Rc<Self> {
        Rc::new(Self {
            shared,
            rules: RefCell::new(rules),
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

    /// A socket ended by itself.
    pub(crate) fn lost(&self, connection: ConnectionKey, how: Loss) {
        self.rules.borrow_mut().lost(connection, how);
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
            Command::Adopt(adoption) => match adoption.stream.attach() {
                Ok(stream) => self.adopt(stream, adoption.newcomer),
                Err(error) => tracing::debug!(%error, "a socket could not be adopted"),
            },
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

    /// Remembers an accepting task, to end it.
    pub(crate) fn owns_listener(&self, task: AbortHandle) {
        self.listeners.borrow_mut().push(task);
    }

    /// A socket and who is on it: from now on the rules have it.
    pub(crate) fn adopt(self: &Rc<Self>, stream: Stream, newcomer: Newcomer) {
        let Newcomer { opening, rest, seat, enhanced, auth } = newcomer;
        if review::is_banned(&self.shared, &opening) {
            return; // the ban came while it was on its way
        }
        if !Arc::ptr_eq(&auth, &self.shared.auth.load()) {
            drop(spawn_local(review::after_reload(Rc::clone(self)))); // what let it in is not in force any more
        }
        let version = opening.connect.version;
        let packet_size_max = opening.limits.packet_size_max;
        let stream = Rc::new(stream);
        let writer = Writer(Rc::clone(&stream));
        let gate = Rc::default();
        let connection = self.rules.borrow_mut().connections.insert(writer, Rc::clone(&gate), enhanced);
        self.feed(Input::Open { connection, opening });
        spawn_local(driver::Driver {
            host: Rc::clone(self),
            connection,
            gate,
            stream,
            version,
            packet_size_max,
            unread: rest,
            is_held_up: false,
            has_published: false,
            doing: driver::Doing::Reading,
            _seat: seat,
        });
    }

    /// Writes, sends and commits what the turn made.
    pub(crate) fn end_turn(self: &Rc<Self>) {
        self.is_turn_due.set(false);
        let mut rules = self.rules.borrow_mut();
        for connection in std::mem::take(&mut rules.dirty) {
            self.write(&mut rules, connection);
        }
        for goodbye in std::mem::take(&mut rules.goodbyes) {
            spawn_local(say_goodbye(goodbye));
        }
        rules.send_outgoing();
        self.commit(&mut rules);
        let is_more_to_write = !rules.dirty.is_empty();
        drop(rules);
        if is_more_to_write {
            self.end_turn_soon();
        }
        self.report_stopped();
    }

    fn write(self: &Rc<Self>, rules: &mut RefMut<'_, Rules>, connection: ConnectionKey) {
        let flushed = rules.flush(connection);
        self.count_sent(flushed);
        match flushed {
            Flushed::All(count) if rules.shard.waited_for_room(connection, count) => {
                rules.feed(Input::Drained { connection });
            }
            Flushed::All(_) | Flushed::Gone => {} // the rules wait for room only above half of the bound
            Flushed::Blocked(_) => self.wait_until_writable(rules, connection),
            Flushed::Broken(how) => rules.lost(connection, how),
        }
    }

    fn count_sent(&self, flushed: Flushed) {
        if let Flushed::All(count) | Flushed::Blocked(count) = flushed {
            self.count(|counters| counters.bytes_sent += count as u64);
        }
    }

    fn wait_until_writable(self: &Rc<Self>, rules: &mut RefMut<'_, Rules>, connection: ConnectionKey) {
        let Some(slot) = rules.connections.get_mut(connection) else { return };
        let task = spawn_local(write_when_possible(Rc::clone(self), connection, Rc::clone(&slot.writer.0)));
        rules.connections.block(connection, task.abort_handle());
    }

    /// The socket may take bytes again. Says whether to wait once more.
    fn unblock(&self, connection: ConnectionKey) -> bool {
        let mut rules = self.rules.borrow_mut();
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
        drop(rules);
        self.end_turn_soon();
        matches!(flushed, Flushed::Blocked(_))
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

/// Ends with the connection: its slot aborts it.
async fn write_when_possible(host: Rc<Host>, connection: ConnectionKey, stream: Rc<Stream>) {
    loop {
        if let Err(error) = stream.writable().await {
            return host.lost(connection, how(&error));
        }
        if !host.unblock(connection) {
            return;
        }
    }
}

async fn say_goodbye(goodbye: Goodbye) {
    let Goodbye { writer, mut rest } = goodbye;
    let stream = &writer.0;
    let writing = async {
        while stream.writable().await.is_ok() {
            match stream.try_finish(&mut rest) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(()) | Err(_) => return,
            }
        }
    };
    let _ = timeout(GOODBYE_DEADLINE, writing).await; // whoever does not read its goodbye does without
}
