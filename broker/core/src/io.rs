//! What goes into a shard and what comes out: the whole interface between the rules and the shell around them.
//!
//! The shell calls [`crate::shard::Shard::handle`] once for each event, then drains `next_output` until `None`,
//! then hands `take_batch` to the store when no more than one commit is on its way.

use crate::acl::Acl;
use crate::admin::{Done, Wish};
use crate::change::Change;
use crate::control::Control;
use crate::limits::{ConnectionLimits, Limits};
use crate::message::{Message, MessageKey, SessionKey, Time};
use crate::networks::{Advice, Origin, Sighting};
use crate::shard::PushRule;
use crate::trace::{Trace, TraceRule};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use reveille_proto::heartbeat::Hello;
use reveille_proto::ids::{AppId, ClientId, MessageId};
use reveille_proto::mqtt::{Connect, Packet};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::sync::Arc;

/// The number of a shard, below the number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardNo(pub u16);

/// A network connection of one shard. The shell picks the index (dense, reused) and a generation that makes late
/// events of an earlier connection with the same index harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    /// Place in tables.
    pub index: u32,
    /// Grows with each use of the index.
    pub generation: u32,
}

/// Who a client is, as authentication found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its tenant.
    pub app: AppId,
    /// Whether it is the bridge, which alone may use `$push/v1/#`.
    pub is_bridge: bool,
    /// The user name that its credential has, which is not always the one in CONNECT.
    pub user: Option<ByteString>,
    /// What it may do; `None`: everything within its app.
    pub acl: Option<Arc<Acl>>,
    /// When its credential ends, and its connection with it.
    pub expires_at: Option<Time>,
    /// Who found out, for operators; empty where nobody had to.
    pub source: &'static str,
}

impl Identity {
    /// A client of an app that may do everything there, for ever.
    pub fn of(app: AppId) -> Self {
        Self { app, is_bridge: false, user: None, acl: None, expires_at: None, source: "" }
    }

    /// The bridge.
    pub fn bridge(app: AppId) -> Self {
        Self { is_bridge: true, ..Self::of(app) }
    }
}

/// A CONNECT that passed [`crate::handshake`] and authentication.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The packet.
    pub connect: Box<Connect>,
    /// Who it is.
    pub identity: Identity,
    /// Its client identifier, ours when it gave none.
    pub client_id: ClientId,
    /// Whether `client_id` was assigned by the broker. `[MQTT5-3.1.3-6]`
    pub is_assigned: bool,
    /// Where it comes from, for presence and logs.
    pub network: ByteString,
    /// Its bounds, by listener, app and user.
    pub limits: Arc<ConnectionLimits>,
    /// The name of the listener that it came through.
    pub listener: ByteString,
    /// The last word of its authentication method, for CONNACK.
    pub authentication_data: Option<Bytes>,
    /// What it said about its heartbeat; most clients say nothing.
    pub hello: Option<Box<Hello>>,
    /// What is known about its network.
    pub advice: Option<Advice>,
}

/// How a step of an authentication on an open connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authenticated {
    /// The client has to answer this.
    Continue(Bytes),
    /// It is who it was, perhaps for longer; with the last word.
    Done(Box<Identity>, Option<Bytes>),
    /// It is not. A reason that DISCONNECT may have.
    Refused(ReasonCode),
}

/// A publish whose acknowledgement waits for others: which shard asked, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Whom to tell.
    pub shard: ShardNo,
    /// Its number there; never used twice.
    pub number: u64,
}

/// What one shard did with its part of a publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// At least one session took the message.
    pub is_taken: bool,
    /// At least one session refused it because its queue is full.
    pub is_refused: bool,
    /// The store could not keep it.
    pub has_failed: bool,
    /// So many parts more will be settled: something was passed on to another shard.
    pub more: u32,
    /// Facts that the asking shard must commit together with its own (QoS 2 only), before anyone receives it.
    pub changes: Vec<Change>,
}

/// One publish, or the part of it that one shard has to do.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What.
    pub message: Arc<Message>,
    /// Who waits for it.
    pub ticket: Ticket,
    /// Where it goes.
    pub to: Recipients,
}

/// A group of shared subscriptions for which a shard was chosen, and how it chooses among its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub group: Arc<str>,
    /// What its members subscribed to.
    pub filter: TopicFilter,
    /// Which member gets the message.
    pub pick: Pick,
}

/// Which of the members of a group on one shard gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The next in turn.
    Turn,
    /// Always the same one for this number, while the members stay the same.
    Hash(u64),
    /// The one with the fewest messages. The router counted this one; `false`: QoS 0, which nobody acknowledges.
    Least(bool),
}

/// Where a [`Delivery`] goes.
#[derive(Clone, Debug)]
pub enum Recipients {
    /// Everyone who subscribed.
    Subscribers {
        /// Sessions with subscriptions of their own.
        plain: bool,
        /// Groups for which this shard was chosen.
        groups: Vec<Share>,
        /// This shard keeps the retained message of this topic and shall update it.
        retain: bool,
    },
    /// These sessions, subscribed or not (directed delivery).
    Sessions(Vec<ClientId>),
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A client passed the handshake and authentication on a socket that this shard owns now.
    Open {
        /// Its key from now on.
        connection: ConnectionKey,
        /// What it asked for.
        opening: Box<Opening>,
    },
    /// A packet came.
    Packet {
        /// On which connection.
        connection: ConnectionKey,
        /// What.
        packet: Packet,
    },
    /// Bytes came that are no packet.
    Malformed {
        /// On which connection.
        connection: ConnectionKey,
        /// Why.
        reason: ReasonCode,
    },
    /// The socket ended.
    Lost {
        /// Which connection.
        connection: ConnectionKey,
        /// How.
        how: Loss,
    },
    /// The socket took bytes: `unsent` of the connection's buffer shrank, there may be room again.
    Drained {
        /// Which connection.
        connection: ConnectionKey,
    },
    /// A part of a publish, from this or another shard.
    Deliver(Box<Delivery>),
    /// The router handed a publish of this shard to that many shards; that many `Settled` will come.
    Routed {
        /// Which publish.
        ticket: u64,
        /// How many.
        parts: u32,
        /// It would have been retained, and no more may be: it goes nowhere.
        is_refused: bool,
    },
    /// A shard did its part, durably.
    Settled {
        /// Which publish of this shard.
        ticket: u64,
        /// Who did it.
        from: ShardNo,
        /// What it did.
        part: Part,
    },
    /// A QoS 2 publish that this shard took part in is durable at the shard that asked: receivers may get it.
    Confirmed {
        /// Its number.
        message: MessageKey,
        /// `false`: the commit failed, forget it.
        is_durable: bool,
    },
    /// Take a message out of queues.
    Withdraw {
        /// The tenant.
        app: AppId,
        /// Which.
        id: MessageId,
        /// Out of these queues; empty: out of all of this shard's.
        client_ids: Vec<ClientId>,
        /// Who waits for it.
        ticket: Ticket,
    },
    /// The batch that `take_batch` gave is durable, or the store refused it.
    Committed {
        /// Which.
        batch: u64,
        /// How it ended.
        outcome: Committed,
    },
    /// Bodies that [`Output::ReadBodies`] asked for; `None`: gone.
    Bodies {
        /// For whose queue.
        session: SessionKey,
        /// In the order asked.
        bodies: Vec<(MessageKey, Option<Arc<Message>>)>,
    },
    /// Retained messages that [`Output::ReadRetained`] asked for.
    Retained {
        /// For whom.
        session: SessionKey,
        /// Under which subscription.
        filter: TopicFilter,
        /// What, in order.
        messages: Vec<Arc<Message>>,
        /// More may follow behind this topic; `None`: that was all. A page may be empty and not the last.
        after: Option<TopicName>,
    },
    /// A client's connection ends: by an operator, a ban, or because the broker empties itself. Nothing happens when it
    /// has none.
    Kick {
        /// The tenant.
        app: AppId,
        /// Whose connection.
        client_id: ClientId,
        /// What a client of 5.0 hears, and logs say: one that DISCONNECT may have, so not 0x8A for a ban but 0x87.
        reason: ReasonCode,
    },
    /// An operator wants something; [`Output::Done`] answers, always.
    Wish {
        /// Comes back with the answer.
        number: u64,
        /// What.
        wish: Wish,
    },
    /// Whether a bridge has subscribed to `$push/v1/`: only then is anything announced.
    BridgePresent(bool),
    /// From now on these bounds hold; connections and sessions keep the ones that they have.
    Limits(Arc<Limits>),
    /// From now on these decide what is a push candidate without its publisher's help.
    PushRules(Arc<[PushRule]>),
    /// From now on these clients and topics are followed; empty: none.
    Traces(Arc<[TraceRule]>),
    /// The broker empties itself, and this client goes elsewhere or comes back later. Its will waits, as on
    /// [`Input::Shutdown`].
    Move {
        /// Which connection.
        connection: ConnectionKey,
        /// What a client of 5.0 hears.
        reason: ReasonCode,
        /// Where it should go, in the words of the standard: names or addresses, separated by spaces.
        server_reference: Option<ByteString>,
    },
    /// From now on this is said and done.
    Control(Arc<Control>),
    /// What a connected client may do from now on. Nothing happens when it is not connected.
    Permit {
        /// The tenant.
        app: AppId,
        /// Which client.
        client_id: ClientId,
        /// The rules; `None`: everything.
        acl: Option<Arc<Acl>>,
    },
    /// Answers [`Output::Authenticate`].
    Authenticated {
        /// Which connection.
        connection: ConnectionKey,
        /// How it ended.
        outcome: Authenticated,
    },
    /// Memory runs short: QoS 0 messages are dropped, or not any more.
    DropQos0(bool),
    /// Memory runs out: the readers with the most unsent bytes are told 0x97 and closed.
    DisconnectSlowest {
        /// At most so many.
        count: usize,
        /// Only those with at least so many unsent bytes.
        unsent_min: usize,
    },
    /// Answers [`Output::Advise`].
    Advice {
        /// Which connection.
        connection: ConnectionKey,
        /// What is known about its network.
        advice: Box<Advice>,
    },
    /// The deadline passed. Harmless at any time.
    Tick,
    /// The broker stops: say goodbye to every connection with this reason.
    Shutdown(ReasonCode),
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The peer closed it, or it broke in a way that says nothing about its network.
    Closed,
    /// It was reset.
    Reset,
    /// What we sent was not acknowledged for too long.
    Unanswered,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// On disk.
    Durable,
    /// Not on disk, because the disk is full or broken.
    Failed,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Bytes wait in the connection's buffer, see [`crate::shard::Shard::unsent`].
    Write(ConnectionKey),
    /// The connection is over for the rules: write what is left if the socket takes it soon, then close.
    Close {
        /// Which connection.
        connection: ConnectionKey,
        /// The last bytes.
        unsent: BytesMut,
        /// Why, for logs and metrics.
        reason: ReasonCode,
    },
    /// A client proves again who it is: look at its message, answer with `Input::Authenticated`.
    Authenticate {
        /// Which connection.
        connection: ConnectionKey,
        /// It is the first message of an exchange.
        begins: bool,
        /// The message.
        data: Option<Bytes>,
    },
    /// Something was seen of a device's network.
    Seen(Box<Sighting>),
    /// A device that tunes its heartbeat reported: answer with [`Input::Advice`] where there is some.
    Advise {
        /// Which connection.
        connection: ConnectionKey,
        /// Where it is.
        origin: Box<Origin>,
    },
    /// Stop reading from this connection: its unacknowledged bytes are above their bound.
    PauseReading(ConnectionKey),
    /// Read again.
    ResumeReading(ConnectionKey),
    /// Find the shards for this publish, hand each its part, answer with `Input::Routed` first.
    Route {
        /// What.
        message: Arc<Message>,
        /// Its number at this shard.
        ticket: u64,
        /// To whom.
        to: RouteTo,
    },
    /// Tell the shard that asked.
    Settle {
        /// Whom, and which of its publishes.
        ticket: Ticket,
        /// What was done.
        part: Part,
    },
    /// Somebody follows this client or topic.
    Trace(Box<Trace>),
    /// Tell every shard that took part in this QoS 2 publish.
    Confirm {
        /// Whom.
        shard: ShardNo,
        /// Which.
        message: MessageKey,
        /// How its commit ended.
        is_durable: bool,
    },
    /// Every shard shall take a message out of queues; answer with `Input::Routed` first.
    Withdraw {
        /// The tenant.
        app: AppId,
        /// Which.
        id: MessageId,
        /// Out of these queues; empty: out of all.
        client_ids: Vec<ClientId>,
        /// Its number at this shard.
        ticket: u64,
    },
    /// An operator's wish ended.
    Done {
        /// Which.
        number: u64,
        /// How.
        done: Done,
    },
    /// Subscriptions of this shard for the global index. Comes before the SUBACK is written.
    Index(IndexChange),
    /// The retained message of a topic that this shard keeps, for everyone to read.
    Retain {
        /// The tenant.
        app: AppId,
        /// The topic.
        topic: TopicName,
        /// What; `None` clears it.
        message: Option<Arc<Message>>,
    },
    /// A member of a group is done with a message that the router counted for it.
    Release {
        /// The tenant.
        app: AppId,
        /// The group.
        share: Arc<Share>,
    },
    /// Read bodies from the store; answer with `Input::Bodies`.
    ReadBodies {
        /// For whose queue.
        session: SessionKey,
        /// Which.
        keys: Vec<MessageKey>,
    },
    /// Read the next retained messages; answer with `Input::Retained`.
    ReadRetained {
        /// The tenant.
        app: AppId,
        /// For whom.
        session: SessionKey,
        /// Under which subscription.
        filter: TopicFilter,
        /// Only topics behind this one.
        after: Option<TopicName>,
    },
}

/// To whom a publish goes.
#[derive(Clone, Debug)]
pub enum RouteTo {
    /// Subscribers, and the retained message when the message's retain flag is set.
    Subscribers,
    /// The same, for a client: a number that only its client id has.
    FromClient(u64),
    /// Only the members of one group: a leaving member hands over what it had not acknowledged.
    Group(Arc<str>, TopicFilter),
    /// These sessions.
    Sessions(Vec<ClientId>),
    /// Nobody: only the retained message of the topic changes.
    Retained,
}

/// A change of what the router must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexChange {
    /// A session of this shard subscribed.
    Subscribe(AppId, Subscription),
    /// A session of this shard unsubscribed or ended.
    Unsubscribe(AppId, Subscription),
    /// A member of a shared subscription came (1) or left (-1).
    Online(AppId, Subscription, i32),
}
