//! What a connection is told once, with the defaults and bounds in one place.

use crate::disk::FileError;
use crate::heartbeat::Learning;
use crate::inbox::InboxLimits;
use crate::poster::OutboxLimits;
use crate::reconnect::Backoff;
use reveille_proto::heartbeat::Gap;
use reveille_proto::ids::{ClientId, IdError};
use rumqttc::Transport;
use rumqttc::v5::MqttOptions;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// rumqttc refuses a shorter keep alive.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
/// The field of CONNECT has 16 bits.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);

/// No queue of this library is longer.
const QUEUE_MAX: usize = 1_000_000;

/// How to connect. [`Options::new`] has defaults for everything else.
#[derive(Clone)]
pub struct Options {
    pub(crate) client_id: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) transport: Transport,
    pub(crate) keep_alive: Duration,
    pub(crate) learning: Option<Learning>,
    pub(crate) ping_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) session_expiry: Duration,
    pub(crate) clean_start: bool,
    pub(crate) receive_maximum: u16,
    pub(crate) in_flight_max: u16,
    pub(crate) outgoing_max: usize,
    pub(crate) incoming_max: usize,
    pub(crate) max_packet_size: u32,
    pub(crate) backoff: Backoff,
    pub(crate) inbox_file: Option<PathBuf>,
    pub(crate) inbox_limits: InboxLimits,
    pub(crate) outbox_file: Option<PathBuf>,
    pub(crate) outbox_limits: OutboxLimits,
}

/// Why a client cannot even begin. Network trouble is not among it: that is retried for ever.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The client identifier.
    #[error(transparent)]
    ClientId(#[from] IdError),
    /// The keep alive is off limits.
    #[error("the keep alive is between 5 and 65,535 seconds")]
    KeepAlive,
    /// Patience with a ping.
    #[error("the ping timeout is at most 65,535 seconds")]
    PingTimeout,
    /// The option of this name.
    #[error("{0} is between 1 and 1,000,000")]
    Bound(&'static str),
    /// The file of handled messages.
    #[error("inbox: {0}")]
    Inbox(#[source] FileError),
    /// The file of posted messages.
    #[error("outbox: {0}")]
    Outbox(#[source] FileError),
    /// There is no tokio runtime to run in.
    #[error("connect is called inside a tokio runtime")]
    NoRuntime,
}

impl Options {
    /// A device with this client identifier, at this broker.
    ///
    /// Defaults: keep alive 60 s, session kept for 7 days, Receive Maximum 64, 64 publishes in flight, 256 waiting in
    /// each direction, packets up to 1 MiB, messages remembered in memory only.
    pub fn new(client_id: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self {
            client_id: client_id.into(),
            host: host.into(),
            port,
            credentials: None,
            transport: Transport::tcp(),
            keep_alive: Duration::from_secs(60),
            learning: None,
            ping_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            session_expiry: Duration::from_secs(7 * 24 * 3_600),
            clean_start: false,
            receive_maximum: 64,
            in_flight_max: 64,
            outgoing_max: 256,
            incoming_max: 256,
            max_packet_size: 1_048_576,
            backoff: Backoff::default(),
            inbox_file: None,
            inbox_limits: InboxLimits::default(),
            outbox_file: None,
            outbox_limits: OutboxLimits::default(),
        }
    }

    /// User name and password.
    pub fn credentials(mut self, user_name: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user_name.into(), password.into()));
        self
    }

    /// TCP unless told otherwise; `Transport::Tls` exists with the feature `tls`.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// 5 to 65,535 s. The broker's Server Keep Alive, when it sends one, wins. `[MQTT5-3.1.2-21]`
    pub fn keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Instead of a fixed keep alive: learns for how long each network lets a connection be silent, together with the
    /// broker and its other devices. For phones; see `docs/heartbeat.md`.
    pub fn learned_heartbeat(mut self, learning: Learning) -> Self {
        self.learning = Some(learning);
        self
    }

    /// How long a ping may stay unanswered before the connection counts as dead; 10 s by default.
    pub fn ping_timeout(mut self, ping_timeout: Duration) -> Self {
        self.ping_timeout = ping_timeout;
        self
    }

    /// How long one attempt may take until CONNACK, in whole seconds and at least one; 10 s by default.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// How long the broker keeps the session of a device that is away; up to 4,294,967,295 s, which means for ever.
    pub fn session_expiry(mut self, session_expiry: Duration) -> Self {
        self.session_expiry = session_expiry;
        self
    }

    /// Discards an earlier session when this client connects first; reconnects resume in any case.
    pub fn clean_start(mut self, clean_start: bool) -> Self {
        self.clean_start = clean_start;
        self
    }

    /// How many QoS 1 and 2 messages the app may have unhandled before the broker waits.
    pub fn receive_maximum(mut self, receive_maximum: u16) -> Self {
        self.receive_maximum = receive_maximum;
        self
    }

    /// How many publishes may be unacknowledged at once; never more than half of the broker's Receive Maximum.
    pub fn in_flight_max(mut self, in_flight_max: u16) -> Self {
        self.in_flight_max = in_flight_max;
        self
    }

    /// How many publishes wait in memory before `publish` makes its caller wait.
    pub fn outgoing_max(mut self, outgoing_max: usize) -> Self {
        self.outgoing_max = outgoing_max;
        self
    }

    /// How many QoS 0 messages wait for the app; further ones are dropped and counted. Others have room of their own.
    pub fn incoming_max(mut self, incoming_max: usize) -> Self {
        self.incoming_max = incoming_max;
        self
    }

    /// The largest packet this client takes, in bytes; the broker is told.
    pub fn max_packet_size(mut self, max_packet_size: u32) -> Self {
        self.max_packet_size = max_packet_size;
        self
    }

    /// The waits between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Where the ids of handled messages are kept. Without it a restarted app may show a message again.
    pub fn inbox_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.inbox_file = Some(path.into());
        self
    }

    /// How many ids the inbox remembers, and for how long.
    pub fn inbox_limits(mut self, limits: InboxLimits) -> Self {
        self.inbox_limits = limits;
        self
    }

    /// Where posted messages are kept until the broker has them. Without it they live in memory only.
    pub fn outbox_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.outbox_file = Some(path.into());
        self
    }

    /// How many posted messages are kept, and how large they may be together.
    pub fn outbox_limits(mut self, limits: OutboxLimits) -> Self {
        self.outbox_limits = limits;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        ClientId::parse(&self.client_id)?;
        if !(KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX).contains(&self.keep_alive) {
            return Err(ConnectError::KeepAlive);
        }
        if self.ping_timeout > KEEP_ALIVE_MAX {
            return Err(ConnectError::PingTimeout);
        }
        let bounds = [
            ("receive_maximum", usize::from(self.receive_maximum)),
            ("in_flight_max", usize::from(self.in_flight_max)),
            ("outgoing_max", self.outgoing_max),
            ("incoming_max", self.incoming_max),
            ("max_packet_size", usize::from(self.max_packet_size > 0)), // any number of bytes that is not 0
            ("inbox_limits.ids_max", self.inbox_limits.ids_max),
        ];
        match bounds.into_iter().find(|(_, bound)| !(1..=QUEUE_MAX).contains(bound)) {
            Some((name, _)) => Err(ConnectError::Bound(name)),
            None => Ok(()),
        }
    }

    /// What CONNECT asks for: when the heartbeat is learned, the longest interval that it may find.
    pub(crate) fn asked_keep_alive(&self) -> Duration {
        self.learning.as_ref().map_or(self.keep_alive, |learning| {
            (Gap::CEILING.duration() / learning.speed.max(1)).max(KEEP_ALIVE_MIN)
        })
    }

    pub(crate) fn session_expiry_s(&self) -> u32 {
        u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX)
    }

    /// Only with checked options: rumqttc asserts the keep alive.
    pub(crate) fn to_rumqttc(&self) -> MqttOptions {
        let mut options = MqttOptions::new(&self.client_id, &self.host, self.port);
        if let Some((user_name, password)) = &self.credentials {
            options.set_credentials(user_name, password);
        }
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_transport(self.transport.clone())
            .set_keep_alive(self.asked_keep_alive())
            .set_manual_acks(true)
            .set_connection_timeout(self.connect_timeout.as_secs().max(1))
            .set_receive_maximum(Some(self.receive_maximum))
            .set_max_packet_size(Some(self.max_packet_size));
        options
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("client_id", &self.client_id)
            .field("broker", &format_args!("{}:{}", self.host, self.port))
            .field("user_name", &self.credentials.as_ref().map(|(user_name, _)| user_name))
            .field("password", &self.credentials.as_ref().map(|_| "***"))
            .field("keep_alive", &self.keep_alive)
            .field("learning", &self.learning)
            .field("session_expiry", &self.session_expiry)
            .field("clean_start", &self.clean_start)
            .field("receive_maximum", &self.receive_maximum)
            .field("in_flight_max", &self.in_flight_max)
            .field("backoff", &self.backoff)
            .field("inbox_file", &self.inbox_file)
            .field("outbox_file", &self.outbox_file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_bounds_are_refused_before_anything_happens() {
        let good = || Options::new("d1", "127.0.0.1", 1883);
        assert!(good().check().is_ok());
        for (name, bad) in [
            ("no client id", Options::new("", "127.0.0.1", 1883)),
            ("keep alive 4 s", good().keep_alive(Duration::from_secs(4))),
            ("keep alive over 16 bits", good().keep_alive(Duration::from_secs(65_536))),
            ("receive maximum 0", good().receive_maximum(0)),
            ("in flight 0", good().in_flight_max(0)),
            ("nothing may wait", good().outgoing_max(0)),
            ("too much may wait", good().incoming_max(usize::MAX)),
            ("endless patience", good().ping_timeout(Duration::MAX)),
        ] {
            assert!(bad.check().is_err(), "{name}");
        }
    }

    #[test]
    fn a_password_never_reaches_a_log() {
        let shown = format!("{:?}", Options::new("d1", "h", 1).credentials("anna", "s3cret"));
        assert!(shown.contains("anna") && shown.contains("***") && !shown.contains("s3cret"), "{shown}");
    }
}
