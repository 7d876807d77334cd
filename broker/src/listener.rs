//! One way in, while the broker runs: what stands at its door, who came through it, and what it turned away.

mod accept;
mod handshakes;
mod rate;

pub(crate) use accept::accept;

use crate::auth::Door;
use crate::config::{
    DEFAULT_LISTENER, INTERNAL_LISTENER, LimitsConfig, ListenerConfig, ListenerKind, ListenerProblem,
    Network, SourceName,
};
use crate::health::{Connected, Health};
use crate::tls::{TicketKeys, TlsFiles, identity_of};
use crate::transport::Stream;
use crate::transport::layers::Layers;
use crate::transport::socket::Socket;
use crate::transport::tls::Tls;
use crate::transport::websocket::{self, WebSocket};
use bytestring::ByteString;
use rate::Rates;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a WebSocket message may have besides one packet: clients gather small ones.
const MESSAGE_BYTES_MORE: u64 = 64 << 10;

/// A way in. The shards that accept from it share it.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Its name.
    pub(crate) name: ByteString,
    /// What it speaks below MQTT.
    pub(crate) kind: ListenerKind,
    /// For whom it is.
    pub(crate) door: Door,
    /// Whether clients without a credential may connect, when it says so itself.
    pub(crate) allow_anonymous: Option<bool>,
    /// Which sources of credentials are asked, in this order, when it says so itself.
    pub(crate) sources: Option<Vec<SourceName>>,
    /// Network connections at once.
    pub(crate) connections_max: usize,
    handshakes_max: Option<usize>,
    connect_deadline_ms: Option<u64>,
    /// Who may write a PROXY header; `None`: there is none.
    proxies: Option<Vec<Network>>,
    /// What it serves TLS with.
    pub(crate) tls: Option<TlsFiles>,
    websocket: Option<Arc<websocket::Rules>>,
    rates: Rates,
    connections: AtomicUsize,
    /// Sockets that came.
    pub(crate) accepted: AtomicU64,
    /// Sockets that were closed before anything was read from them.
    pub(crate) turned_away: AtomicU64,
}

/// Why a socket is closed before anything was read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// A PROXY header is awaited, and this is none of the proxies.
    NoProxy,
    /// Too many came in this second.
    Rate,
    /// Too many came from its address in this second.
    AddressRate,
}

impl Listener {
    /// The plain one of `broker.listen`.
    pub(crate) fn default() -> Self {
        Self::plain(ByteString::from_static(DEFAULT_LISTENER), ListenerKind::Tcp, Door::Public)
    }

    /// The bridge's.
    pub(crate) fn internal() -> Self {
        Self::plain(ByteString::from_static(INTERNAL_LISTENER), ListenerKind::Tcp, Door::Internal)
    }

    /// One of `[[broker.listeners]]`.
    ///
    /// # Errors
    /// When its certificates cannot be used.
    pub(crate) fn of(
        config: &ListenerConfig,
        packet_bytes_max: u32,
        tickets: &Arc<TicketKeys>,
    ) -> Result<Self, ListenerProblem> {
        let tls = config.kind.has_tls().then(|| TlsFiles::read(config, tickets)).transpose()?;
        let rules = || websocket::Rules {
            origins: config.origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
            message_bytes_max: u64::from(packet_bytes_max) + MESSAGE_BYTES_MORE,
        };
        Ok(Self {
            allow_anonymous: config.allow_anonymous,
            sources: config.auth.clone(),
            connections_max: config.connections_max.unwrap_or(usize::MAX),
            handshakes_max: config.handshakes_max,
            connect_deadline_ms: config.connect_deadline_ms,
            proxies: config.proxy_protocol.then(|| config.proxy_trusted.clone()),
            tls,
            websocket: config.kind.has_websocket().then(|| Arc::new(rules())),
            rates: Rates::new(config.connection_rate_max, config.address_connection_rate_max),
            ..Self::plain(config.name.as_str().into(), config.kind, Door::Public)
        })
    }

    fn plain(name: ByteString, kind: ListenerKind, door: Door) -> Self {
        Self {
            name,
            kind,
            door,
            allow_anonymous: None,
            sources: None,
            connections_max: usize::MAX,
            handshakes_max: None,
            connect_deadline_ms: None,
            proxies: None,
            tls: None,
            websocket: None,
            rates: Rates::new(None, None),
            connections: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    /// Handshakes of one shard at once.
    pub(crate) fn handshakes_max(&self, general: &LimitsConfig) -> usize {
        self.handshakes_max.unwrap_or(general.handshakes_max)
    }

    /// Time from the socket to a whole CONNECT.
    pub(crate) fn connect_deadline(&self, general: &LimitsConfig) -> Duration {
        Duration::from_millis(self.connect_deadline_ms.unwrap_or(general.connect_deadline_ms))
    }

    /// Whether a socket from there may begin its handshake now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, from: Option<IpAddr>, now: Instant) -> Result<(), TurnedAway> {
        if let Some(proxies) = &self.proxies
            && !from.is_some_and(|address| proxies.iter().any(|network| network.contains(address)))
        {
            return Err(TurnedAway::NoProxy);
        }
        // The proxies' own addresses say nothing: the rate of an address is asked for once the header has named it.
        self.rates.take(from.filter(|_| self.proxies.is_none()), now)
    }

    /// The same for the address that a proxy named.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_proxied(&self, address: IpAddr, now: Instant) -> Result<(), TurnedAway> {
        self.rates.take_of_address(address, now)
    }

    /// A socket with the layers that this listener puts around it.
    ///
    /// # Errors
    /// When TLS cannot begin.
    pub(crate) fn wrap(&self, socket: Socket) -> Result<Stream, rustls::Error> {
        let tls = self.tls.as_ref().map(|files| Tls::new(files.server_config())).transpose()?;
        let websocket = self.websocket.as_ref().map(|rules| WebSocket::new(Arc::clone(rules)));
        Ok(Stream::new(socket, Layers::new(self.proxies.is_some(), tls, websocket)))
    }

    /// Whom a certificate names that this listener verified.
    pub(crate) fn identity_of(&self, certificate: &[u8]) -> Option<ByteString> {
        identity_of(certificate, self.tls.as_ref()?.listener().client_identity)
    }

    /// Network connections now, those in the handshake included.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection for as long as its socket lives.
    pub(crate) fn seat(self: &Arc<Self>, health: &Arc<Health>) -> Seat {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Seat { listener: Arc::clone(self), _connected: health.connected() }
    }
}

/// One socket, counted at its listener and in all. Dropped with it.
#[derive(Debug)]
pub(crate) struct Seat {
    listener: Arc<Listener>,
    _connected: Connected,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.listener.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who is at the other end, as far as the transport knows.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Through which listener it came.
    pub(crate) listener: Arc<Listener>,
    /// Where it comes from: as the PROXY header says where there is one; a Unix socket has none.
    pub(crate) address: Option<SocketAddr>,
    /// Whom its verified certificate names.
    pub(crate) certificate_identity: Option<ByteString>,
}

impl Peer {
    /// Where it comes from, for presence and logs.
    pub(crate) fn network(&self) -> ByteString {
        match self.address {
            Some(address) => address.ip().to_canonical().to_string().into(),
            None => ByteString::from_static("local"),
        }
    }
}

#[cfg(test)]
impl Peer {
    /// Somebody on this machine, at a plain listener.
    pub(crate) fn at(door: Door) -> Self {
        let listener = Listener::plain(ByteString::from_static("test"), ListenerKind::Tcp, door);
        Self { listener: Arc::new(listener), address: None, certificate_identity: None }
    }
}
