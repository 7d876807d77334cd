//! The one task behind a client: it owns rumqttc's event loop and everything that must not be shared.
//!
//! What rumqttc 0.25 does, and what is done about it here:
//! - `poll` is not safe to cancel while it connects or writes. So one `poll` future lives until its event comes, and
//!   whatever else happens meanwhile reaches rumqttc through its request channel only.
//! - Its memory of what is in flight is not safe across reconnects (order, DUP, lost sessions). It gets a fresh
//!   `MqttState` for each connection, and [`Outbox`] and [`Received`] remember instead.
//! - It stores Server Keep Alive and session expiry in its options, so the next CONNECT would carry the broker's
//!   values. They are set anew before each CONNECT. Server Keep Alive 0 would make it ping without pause.
//! - It pings by interval, whatever else goes. Here [`Heartbeat`] says when; rumqttc is left the longest interval there is,
//!   and only the first one of a connection still is the keep alive, so it may add one ping to ours. It takes two pings
//!   without an answer between them for a dead connection; it is made to forget the first.
//! - There is no way to send a ping through its request channel. So one goes into `pending`, and `poll` is cancelled for it,
//!   which is safe while it waits for the network and nothing that it was given is unwritten.
//! - A PUBREL for an identifier that it does not know ends the connection, again and again. It is told beforehand.
//! - A refused QoS 2 publish stays in its in-flight count for ever. Those are counted; the connection is renewed
//!   before the count is full.
//! - It notices a missing PINGRESP one keep alive late, and a blocked write never. [`Heartbeat`] does.

mod incoming;
mod outgoing;

pub(crate) use outgoing::{Body, Request, kind_of};

use crate::client::HandledError;
use crate::clock::{self, Clock};
use crate::heartbeat::{Beat, Day, Due, Heartbeat, HeartbeatState, Moment, Network, Notes};
use crate::inbox::{Acceptance, Inbox, Source, UnixMillis};
use crate::message::Message;
use crate::network::{LossReason, NetworkState};
use crate::options::Options;
use crate::outbox::Outbox;
use crate::received::{DeliveryKey, Received};
use crate::reconnect::Reconnect;
use crate::recorder::{Finished, Job, Recorder};
use crate::user_inbox::{Desk, Watching};
use bytes::Bytes;
use reveille_proto::heartbeat::{CONFIG_PROPERTY, Config};
use reveille_proto::ids::MessageId;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnAckProperties, Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttState};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time;

/// Packet identifiers for each publish in flight: with more than it needs, one late acknowledgement holds nobody up.
const IDS_PER_PUBLISH: u16 = 4;
/// Room in rumqttc's request channel beside publishes and acknowledgements.
const SPARE_REQUESTS: usize = 16;
/// How long a DISCONNECT may take when the client closes.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// rumqttc pings by interval; this one stands for "never" (18 hours).
const NO_KEEP_ALIVE: Duration = Duration::from_secs(65_535);

/// rumqttc's own first ping of a connection comes after exactly the keep alive; ours leaves it the turn. MQTT allows half of
/// the keep alive more.
const AFTER_RUMQTTC: Duration = Duration::from_millis(100);

/// What the app's handles ask of the driver, beside sending.
#[derive(Debug)]
pub(crate) enum Control {
    Handled {
        id: Option<MessageId>,
        key: Option<DeliveryKey>,
        reply: oneshot::Sender<Result<(), HandledError>>,
    },
    GivenBack {
        id: Option<MessageId>,
        key: Option<DeliveryKey>,
    },
    VendorPush {
        id: MessageId,
        reply: oneshot::Sender<Acceptance>,
    },
    NetworkChanged(Network),
    /// The user looks at the app, or no longer does.
    Foreground(bool),
    /// The connection may be dead.
    Check,
    /// The phone is awake.
    Woke,
    /// The app looks at its user's inbox from now on.
    InboxUsed,
    Close,
}

/// The driver's ends of the channels to the app.
pub(crate) struct Ends {
    pub requests: mpsc::Receiver<Request>,
    pub control: mpsc::Receiver<Control>,
    /// The words that messages owe, a channel of their own: each message reserves its place there.
    pub endings: mpsc::Receiver<Control>,
    pub endings_sender: mpsc::Sender<Control>,
    /// `None` for a publisher, which takes no messages.
    pub messages: Option<mpsc::Sender<Message>>,
    pub network: watch::Sender<NetworkState>,
    pub heartbeat: watch::Sender<HeartbeatState>,
    pub dropped: Arc<AtomicU64>,
    /// Where the app asks about its user's inbox.
    pub desk: Arc<Desk>,
}

/// The task's state. [`Driver::run`] ends when the app closes the client.
pub(crate) struct Driver {
    options: Options,
    /// The largest packet identifier that rumqttc may use; the broker's Receive Maximum can lower it.
    ids_max: u16,
    ends: Ends,
    rumqttc: AsyncClient,
    outbox: Outbox<Body>,
    received: Received,
    inbox: Inbox,
    recorder: Recorder,
    reconnect: Reconnect,
    heartbeat: Heartbeat,
    /// `None` when nothing is learned, or nowhere kept.
    notes: Option<Notes>,
    clock: Clock,
    /// `Some` from CONNACK until the connection ends.
    online: Option<Online>,
    has_connected: bool,
    /// Granted subscriptions, asked again when the broker lost the session.
    subscriptions: BTreeMap<String, QoS>,
    /// The last acknowledged registration, sent again when the broker lost the session.
    registration: Option<Bytes>,
    watching: Watching,
}

/// What belongs to one accepted connection.
struct Online {
    /// Publishes, subscriptions and acknowledgements that rumqttc was given and has not told to be written.
    unwritten: usize,
    /// The largest packet that the broker takes, in bytes.
    packet_size_max: usize,
    ids_max: u16,
    /// Publishes that rumqttc counts as in flight for ever.
    leaked: u16,
    /// rumqttc did not take a request, which its capacity rules out unless the broker breaks the protocol.
    is_broken: bool,
}

/// What a wait on the connection ended with.
#[expect(clippy::large_enum_variant, reason = "lives for one turn of the loop; an event is the usual case")]
enum Step {
    Event(Event),
    /// Time for a beat.
    Beat,
    Lost(LossReason),
    Close,
}

impl Driver {
    /// Makes the task's state and rumqttc's event loop, which nobody else touches.
    pub fn new(options: Options, ends: Ends, inbox: Inbox, recorder: Recorder) -> (Self, EventLoop) {
        let deliveries = 2 * usize::from(options.receive_maximum);
        let capacity = usize::from(options.in_flight_max) + deliveries + SPARE_REQUESTS;
        let mut rumqttc_options = options.to_rumqttc();
        let ids_max = options.in_flight_max.saturating_mul(IDS_PER_PUBLISH);
        rumqttc_options.set_outgoing_inflight_upper_limit(ids_max);
        let (rumqttc, event_loop) = AsyncClient::new(rumqttc_options, capacity);
        let (heartbeat, notes) = heartbeat(&options);
        let driver = Self {
            heartbeat,
            notes,
            clock: Clock::start(),
            outbox: Outbox::new(options.outgoing_max, usize::from(options.in_flight_max)),
            received: Received::default(),
            reconnect: Reconnect::new(options.backoff),
            online: None,
            has_connected: false,
            subscriptions: BTreeMap::new(),
            registration: None,
            watching: Watching::default(),
            options,
            ids_max,
            ends,
            rumqttc,
            inbox,
            recorder,
        };
        (driver, event_loop)
    }

    /// Connects, again and again, until the app closes the client.
    pub async fn run(mut self, mut event_loop: EventLoop) {
        loop {
            self.prepare(&mut event_loop);
            let Some(reason) = self.one_connection(&mut event_loop).await else {
                break;
            };
            self.after_loss(&mut event_loop, &reason);
            if self.pause(reason).await.is_none() {
                break;
            }
        }
        self.outbox.drain().into_iter().for_each(Body::close);
        self.ends.desk.close();
        if let (Some(notes), Some(learner)) = (self.notes.take(), self.heartbeat.learner()) {
            notes.close(learner).await;
        }
        self.ends.network.send_replace(NetworkState::Closed);
    }

    /// Gives rumqttc a state without a past, and our own values for CONNECT.
    fn prepare(&mut self, event_loop: &mut EventLoop) {
        event_loop.pending.clear();
        event_loop.state = MqttState::new(self.ids_max, true);
        for packet_id in self.received.unreleased() {
            let mut known = Publish::new("", QoS::ExactlyOnce, Bytes::new(), None);
            known.pkid = packet_id;
            // Only notes the identifier, since acknowledgements are manual; it cannot fail.
            let _ = event_loop.state.handle_incoming_packet(Packet::Publish(known));
        }
        event_loop.state.events.clear();
        event_loop
            .options
            .set_clean_start(self.options.clean_start && !self.has_connected)
            .set_session_expiry_interval(Some(self.options.session_expiry_s()))
            .set_keep_alive(self.options.asked_keep_alive());
        let hello = self.heartbeat.hello().map(|hello| hello.properties()).unwrap_or_default();
        event_loop.options.set_user_properties(hello);
        self.ends.network.send_replace(NetworkState::Connecting);
    }

    /// One attempt and, when it succeeds, one connection. `None` when the app closed the client.
    async fn one_connection(&mut self, event_loop: &mut EventLoop) -> Option<LossReason> {
        loop {
            match self.next_step(event_loop).await {
                Step::Event(event) => self.on_event(event, event_loop),
                Step::Beat => self.send_beat(event_loop),
                Step::Lost(reason) => return Some(reason),
                Step::Close => {
                    self.say_goodbye(event_loop).await;
                    return None;
                }
            }
            if let Some(reason) = self.online.as_ref().and_then(Online::must_end) {
                return Some(reason);
            }
            self.show_heartbeat();
        }
    }

    /// Waits for the next event of the connection, while it serves the app.
    async fn next_step(&mut self, event_loop: &mut EventLoop) -> Step {
        let mut poll = pin!(event_loop.poll());
        loop {
            if self.clock.has_slept() {
                self.heartbeat.slept();
            }
            let deadline = self.heartbeat.deadline();
            tokio::select! {
                result = &mut poll => return result.map_or_else(|error| Step::Lost(LossReason::of(&error)), Step::Event),
                Some(request) = self.ends.requests.recv(), if self.outbox.has_room() => self.take(request),
                Some(control) = next_control(&mut self.ends.control, &mut self.ends.endings), if self.recorder.has_room() => {
                    if let Some(step) = self.on_control(control) {
                        return step;
                    }
                }
                finished = self.recorder.finished() => self.on_recorded(finished),
                () = until(deadline) => match self.heartbeat.due(clock::now()) {
                    Due::Wait => {}
                    Due::Beat if self.is_writing() => self.heartbeat.asked(clock::now()),
                    Due::Beat => return Step::Beat,
                    Due::Dead => return Step::Lost(LossReason::Silent),
                },
            }
            if self.online.as_ref().is_some_and(|online| online.is_broken) {
                return Step::Lost(LossReason::Protocol(
                    "the broker sent more than Receive Maximum".to_owned(),
                ));
            }
        }
    }

    /// Waits before the next attempt, while it serves the app. `None` when the app closed the client.
    async fn pause(&mut self, reason: LossReason) -> Option<()> {
        let retry_in = self.reconnect.wait(rand::random());
        tracing::info!(%reason, ?retry_in, "not connected");
        self.ends.network.send_replace(NetworkState::Waiting { retry_in, reason });
        let mut sleep = pin!(time::sleep(retry_in));
        loop {
            tokio::select! {
                () = &mut sleep => return Some(()),
                Some(request) = self.ends.requests.recv(), if self.outbox.has_room() => self.take(request),
                Some(control) = next_control(&mut self.ends.control, &mut self.ends.endings), if self.recorder.has_room() => {
                    match self.on_control(control) {
                        Some(Step::Close) => {
                            self.finish_recording().await;
                            return None;
                        }
                        Some(Step::Lost(_)) => {
                            self.reconnect.network_changed();
                            return Some(());
                        }
                        Some(Step::Event(_) | Step::Beat) | None => {}
                    }
                }
                finished = self.recorder.finished() => self.on_recorded(finished),
            }
        }
    }

    fn on_control(&mut self, control: Control) -> Option<Step> {
        match control {
            Control::Handled { id: Some(id), key: _, reply } => {
                let job = Job { id, at: UnixMillis::now(), reply };
                self.recorder.push(job, &self.inbox, self.options.inbox_limits.ids_max);
            }
            Control::Handled { id: None, key, reply } => {
                let acknowledgement = key.and_then(|key| self.received.handled(key));
                self.acknowledge(acknowledgement);
                let _ = reply.send(Ok(())); // the app may have stopped waiting
            }
            Control::GivenBack { id, key } => self.give_back(id, key),
            Control::VendorPush { id, reply } => {
                let _ = reply.send(self.inbox.accept(id, Source::Vendor, UnixMillis::now()));
                self.heartbeat.check(clock::now()); // the socket should have brought it
            }
            Control::NetworkChanged(network) => {
                self.heartbeat.network_changed(network);
                return Some(Step::Lost(LossReason::NetworkChanged));
            }
            Control::Foreground(is_foreground) => self.heartbeat.set_foreground(is_foreground, clock::now()),
            Control::Check => self.heartbeat.check(clock::now()),
            Control::Woke => self.heartbeat.woke(clock::now()),
            Control::InboxUsed if self.online.is_some() => self.inbox_changed(),
            Control::InboxUsed => {} // CONNACK asks
            Control::Close => return Some(Step::Close),
        }
        None
    }

    /// Ids are on disk, or are not: only in the first case are their messages acknowledged.
    fn on_recorded(&mut self, finished: Finished) {
        for job in finished.jobs {
            let answer = match finished.result {
                Ok(()) => {
                    self.inbox.handled(job.id, job.at);
                    let acknowledgements = self.received.handled_id(job.id);
                    self.acknowledge(acknowledgements);
                    Ok(())
                }
                Err(kind) => Err(HandledError::NotRecorded(kind)),
            };
            let _ = job.reply.send(answer); // the app may have stopped waiting
        }
        self.recorder.start(&self.inbox, self.options.inbox_limits.ids_max);
    }

    fn on_event(&mut self, event: Event, event_loop: &mut EventLoop) {
        self.note_traffic(&event, event_loop);
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => self.on_connack(&connack, event_loop),
            Event::Incoming(packet) => self.on_packet(packet),
            Event::Outgoing(outgoing) => self.on_written(&outgoing),
        }
        self.repeat(event_loop);
        self.submit();
    }

    /// Tells the heartbeat what went over the wire.
    fn note_traffic(&mut self, event: &Event, event_loop: &mut EventLoop) {
        let now = clock::now();
        match event {
            Event::Incoming(_) => {
                self.heartbeat.received(now);
                if let (Some(notes), Some(learner)) = (&mut self.notes, self.heartbeat.learner()) {
                    notes.keep(learner);
                }
            }
            Event::Outgoing(Outgoing::PingReq) => {
                event_loop.state.await_pingresp = false;
                self.heartbeat.asked(now);
            }
            Event::Outgoing(outgoing) => {
                self.heartbeat.wrote(now);
                if let Some(online) = self.online.as_mut().filter(|_| is_awaited(outgoing)) {
                    online.unwritten = online.unwritten.saturating_sub(1);
                }
            }
        }
    }

    fn on_connack(&mut self, connack: &ConnAck, event_loop: &mut EventLoop) {
        let properties = connack.properties.as_ref();
        let keep_alive = match properties.and_then(|properties| properties.server_keep_alive) {
            None => self.options.asked_keep_alive(),
            Some(0) => NO_KEEP_ALIVE,
            Some(seconds) => Duration::from_secs(u64::from(seconds)),
        };
        event_loop.options.set_keep_alive(NO_KEEP_ALIVE);
        let advice = properties.and_then(advice);
        let keep_alive = keep_alive.saturating_add(AFTER_RUMQTTC);
        self.heartbeat.connected(keep_alive, advice.as_ref(), today(), clock::now());
        let window = advice.map_or(Duration::ZERO, |advice| Duration::from_secs(u64::from(advice.window_s)));
        self.reconnect.advised(window);
        let ids_max = properties
            .and_then(|properties| properties.receive_max)
            .map_or(self.ids_max, |max| max.min(self.ids_max));
        let packet_size_max =
            properties.and_then(|properties| properties.max_packet_size).unwrap_or(u32::MAX);
        self.online = Some(Online {
            unwritten: 0,
            packet_size_max: usize::try_from(packet_size_max).unwrap_or(usize::MAX),
            ids_max,
            leaked: 0,
            is_broken: false,
        });
        self.reconnect.connected(Instant::now());
        self.received.connected(connack.session_present);
        let unknown = self.outbox.connected(connack.session_present, ids_max);
        unknown.into_iter().for_each(Body::outcome_unknown);
        if self.has_connected && !connack.session_present {
            self.restore_session();
        }
        if self.ends.desk.is_used() {
            self.watching.connected();
            self.ask_for_counts();
        }
        self.has_connected = true;
        tracing::info!(session_present = connack.session_present, "connected");
        self.ends.network.send_replace(NetworkState::Online { session_present: connack.session_present });
    }

    /// Takes over what rumqttc had read or written and not told, then forgets the connection.
    fn after_loss(&mut self, event_loop: &mut EventLoop, reason: &LossReason) {
        let mut events = std::mem::take(&mut event_loop.state.events);
        if let Some(Event::Incoming(Packet::PubRel(release))) = events.back() {
            // rumqttc answers a PUBREL that it knows; this one, of an earlier process, ended the connection.
            self.received.expect_release(release.pkid);
            events.pop_back();
        }
        for event in events {
            match event {
                // Unacknowledged ones come again on the next connection, under that connection's rules.
                Event::Incoming(Packet::Publish(publish)) if publish.qos != QoS::AtMostOnce => {}
                Event::Incoming(packet) => self.on_packet(packet),
                Event::Outgoing(outgoing) => self.on_written(&outgoing),
            }
        }
        event_loop.clean();
        self.online = None;
        self.heartbeat.lost();
        self.show_heartbeat();
        self.outbox.lost();
        self.received.lost();
        match reason {
            LossReason::NetworkChanged => self.reconnect.network_changed(),
            other => self.reconnect.lost(other.cause(), Instant::now()),
        }
    }

    /// Sends a beat: PINGREQ, or in its place something that the broker acknowledges.
    fn send_beat(&mut self, event_loop: &mut EventLoop) {
        match self.heartbeat.beat() {
            Beat::Ping => event_loop.pending.push_back(rumqttc::v5::Request::PingReq),
            Beat::Report(text) => self.report(text),
        }
        self.heartbeat.asked(clock::now());
    }

    /// Whether something that rumqttc was given may be half written: then cancelling `poll` could lose it.
    fn is_writing(&self) -> bool {
        self.online.as_ref().is_some_and(|online| online.unwritten > 0)
    }

    fn show_heartbeat(&self) {
        let state = self.heartbeat.state();
        self.ends.heartbeat.send_if_modified(|shown| {
            let is_news = *shown != state;
            *shown = state;
            is_news
        });
    }

    /// Sends what the app has handled, then DISCONNECT, so that the broker keeps the session but sends no will.
    async fn say_goodbye(&mut self, event_loop: &mut EventLoop) {
        self.finish_recording().await;
        if self.online.is_none() || self.rumqttc.try_disconnect().is_err() {
            return;
        }
        let written = async {
            loop {
                match event_loop.poll().await {
                    Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => return,
                    Ok(Event::Outgoing(outgoing)) => self.on_written(&outgoing),
                    Ok(Event::Incoming(Packet::Publish(_))) => {} // nobody is left to take it
                    Ok(Event::Incoming(packet)) => self.on_packet(packet),
                }
            }
        };
        if time::timeout(GOODBYE_MAX, written).await.is_err() {
            tracing::debug!("the broker did not take DISCONNECT in time");
        }
    }

    async fn finish_recording(&mut self) {
        while self.recorder.is_busy() {
            let finished = self.recorder.finished().await;
            self.on_recorded(finished);
        }
    }
}

impl Online {
    fn must_end(&self) -> Option<LossReason> {
        if self.is_broken {
            return Some(LossReason::Protocol("the broker sent more than Receive Maximum".to_owned()));
        }
        // At most half of the identifiers are in flight, so the other half may leak before rumqttc stalls.
        (self.leaked > 0 && self.leaked >= self.ids_max / 2).then_some(LossReason::Renewed)
    }
}

/// Counts a message that could not be given to the app.
fn count(dropped: &AtomicU64) {
    dropped.fetch_add(1, Ordering::Relaxed);
}

async fn next_control(
    control: &mut mpsc::Receiver<Control>,
    endings: &mut mpsc::Receiver<Control>,
) -> Option<Control> {
    tokio::select! {
        control = control.recv() => control,
        ending = endings.recv() => ending,
    }
}

async fn until(deadline: Option<Moment>) {
    match deadline {
        Some(deadline) => time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

/// The heartbeat that the options ask for, with what the last process learned.
fn heartbeat(options: &Options) -> (Heartbeat, Option<Notes>) {
    let Some(learning) = &options.learning else {
        return (Heartbeat::new(None, options.ping_timeout), None);
    };
    let mut learner = Heartbeat::beginner();
    let notes = learning.file.as_deref().map(|path| Notes::open(path, &mut learner));
    (Heartbeat::new(Some((learning, learner)), options.ping_timeout), notes)
}

/// The broker's advice, if it takes part; the last one counts.
fn advice(properties: &ConnAckProperties) -> Option<Config> {
    let texts = properties.user_properties.iter().rev().filter(|(name, _)| name == CONFIG_PROPERTY);
    texts.map(|(_, text)| Config::parse(text)).next()?
}

fn today() -> Day {
    const DAY_MS: u64 = 86_400_000;
    Day(u32::try_from(UnixMillis::now().0 / DAY_MS).unwrap_or(u32::MAX))
}

/// What rumqttc writes on our word. PUBREL and PUBCOMP it writes by itself.
fn is_awaited(outgoing: &Outgoing) -> bool {
    matches!(
        outgoing,
        Outgoing::Publish(_)
            | Outgoing::Subscribe(_)
            | Outgoing::Unsubscribe(_)
            | Outgoing::PubAck(_)
            | Outgoing::PubRec(_)
    )
}
