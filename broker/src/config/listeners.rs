//! The tables `[[broker.listeners]]`: every way in besides `listen`, and what is asked for at it.

use super::{Config, ConfigError, LimitsOverride, SourceName};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The name of the listener that `broker.listen` makes.
pub const DEFAULT_LISTENER: &str = "default";

/// The name of the bridge's listener.
pub const INTERNAL_LISTENER: &str = "internal";

/// Listeners of one broker: each has a socket and a task in each shard.
const LISTENERS_MAX: usize = 64;

/// Characters of a name: it stands in logs, metrics and sessions.
const NAME_MAX: usize = 32;

/// What a listener speaks below MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// A Unix socket.
    Unix,
}

impl ListenerKind {
    /// Whether the socket speaks TLS.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether MQTT travels in WebSocket frames.
    pub fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        })
    }
}

/// One way in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// What logs, metrics and sessions call it: unique, 1 to 32 characters out of a-z, 0-9, - and _.
    pub name: String,
    /// What it speaks below MQTT.
    pub kind: ListenerKind,
    /// Where it listens; every kind but `unix`.
    pub address: Option<SocketAddr>,
    /// The socket's file; `unix` only.
    pub path: Option<PathBuf>,
    /// Who may open that file, in octal digits; absent: `0660`.
    pub mode: Option<FileMode>,
    /// PEM file with the server's certificate and those between it and a root.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
    /// More certificates: the client's server name (SNI) chooses.
    #[serde(default)]
    pub more_certificates: Vec<CertificateConfig>,
    /// PEM file with the authorities whose client certificates are believed; absent: nobody is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// Which part of a client's certificate says who it is.
    #[serde(default)]
    pub client_identity: ClientIdentity,
    /// PEM file with revocation lists of `client_ca`.
    pub client_crl: Option<PathBuf>,
    /// Web origins that may open a WebSocket; empty: all, and clients that name none.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Whether a PROXY protocol header (version 1 or 2) comes first.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The proxies: networks as `10.0.0.0/8`, or single addresses. Nobody else may connect.
    #[serde(default)]
    pub proxy_trusted: Vec<Network>,
    /// Whether clients without a credential may connect here; absent: as `broker.allow_anonymous` says.
    pub allow_anonymous: Option<bool>,
    /// Which sources of credentials are asked here, in this order; absent: as `broker.auth.sources` says.
    pub auth: Option<Vec<SourceName>>,
    /// Network connections at once; absent: as many as `broker.limits` lets in.
    pub connections_max: Option<usize>,
    /// New connections a second, all clients together; absent: as many as come.
    pub connection_rate_max: Option<u32>,
    /// New connections a second of one address, and of one /64 network of IPv6; absent: as many as come.
    pub address_connection_rate_max: Option<u32>,
    /// Handshakes of one shard at once; absent: as `broker.limits` says.
    pub handshakes_max: Option<usize>,
    /// Time from the socket to a whole CONNECT; absent: as `broker.limits` says.
    pub connect_deadline_ms: Option<u64>,
    /// Bounds of the connections that come through it, where they differ from `broker.limits`.
    #[serde(default)]
    pub limits: LimitsOverride,
}

/// A certificate for some server names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// PEM file with the certificate and those between it and a root.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// Without one the TLS handshake fails.
    #[default]
    Required,
    /// Without one other credentials decide.
    Optional,
}

/// Which part of a client's certificate says who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientIdentity {
    /// The common name of its subject.
    #[default]
    CommonName,
    /// The first DNS name of its alternative names.
    Dns,
    /// The first mail address of its alternative names.
    Email,
    /// The first URI of its alternative names.
    Uri,
}

/// The right bits of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileMode(u32);

impl FileMode {
    /// The owner and its group.
    pub const OWNER_AND_GROUP: Self = Self(0o660);

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for FileMode {
    type Error = NoFileMode;

    fn try_from(text: String) -> Result<Self, NoFileMode> {
        u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o777).map(Self).ok_or(NoFileMode)
    }
}

/// As in the file.
impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

/// Why a text is no file mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file mode has octal digits, as in \"0660\"")]
pub struct NoFileMode;

/// A set of addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address is in it. An IPv4 address that came through an IPv6 socket is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let difference = own.to_bits() ^ other.to_bits();
                difference.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let difference = own.to_bits() ^ other.to_bits();
                difference.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| NoNetwork)?)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| NoNetwork)?.to_canonical();
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(bits_max);
        if bits > bits_max {
            return Err(NoNetwork);
        }
        Ok(Self { address, bits })
    }
}

impl TryFrom<String> for Network {
    type Error = NoNetwork;

    fn try_from(text: String) -> Result<Self, NoNetwork> {
        text.parse()
    }
}

/// As in the file.
impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.address, self.bits))
    }
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network looks like 10.0.0.0/8 or fd00::/8, or is a single address")]
pub struct NoNetwork;

/// What is wrong with one listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerProblem {
    /// Its name.
    #[error(
        "a name has 1 to 32 characters out of a-z, 0-9, - and _, and is neither \"default\" nor \"internal\""
    )]
    Name,
    /// Another one has its name.
    #[error("another listener has the same name")]
    NameTwice,
    /// A key that its kind needs.
    #[error("kind \"{kind}\" needs the key {key}")]
    Missing {
        /// Its kind.
        kind: ListenerKind,
        /// Which.
        key: &'static str,
    },
    /// A key that means nothing for its kind.
    #[error("the key {key} means nothing for kind \"{kind}\"")]
    Unwanted {
        /// Its kind.
        kind: ListenerKind,
        /// Which.
        key: &'static str,
    },
    /// A key that means nothing without another one.
    #[error("the key {key} means nothing without {needed}")]
    Without {
        /// Which.
        key: &'static str,
        /// The other one.
        needed: &'static str,
    },
    /// Another listener is there.
    #[error("{place} is the place of another listener")]
    PlaceTwice {
        /// Where.
        place: String,
    },
    /// Anybody could connect and nobody said so.
    #[error(
        "{address} can be reached from other machines and there are no users: add [[broker.users]], ask for client \
         certificates with client_ca, or set allow_anonymous = true to let everyone in"
    )]
    OpenToAll {
        /// Where.
        address: SocketAddr,
    },
    /// A bound that lets nobody in.
    #[error("{key} must be at least 1")]
    Zero {
        /// Which.
        key: &'static str,
    },
    /// A file that cannot be read.
    #[error("{key}: {} cannot be read: {kind}", path.display())]
    Read {
        /// Of which key.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// A file without what it should have.
    #[error("{key}: {} is no PEM file with {wanted}", path.display())]
    Pem {
        /// Of which key.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// A file whose content TLS cannot use.
    #[error("{key}: {} cannot be used: {reason}", path.display())]
    Unusable {
        /// Of which key.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key of another certificate.
    #[error("{} is not the private key of {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
}

impl ListenerConfig {
    /// Checks one listener for itself.
    fn check(&self, config: &Config) -> Result<(), ListenerProblem> {
        let is_fine =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let is_reserved = [DEFAULT_LISTENER, INTERNAL_LISTENER].contains(&self.name.as_str());
        if !(1..=NAME_MAX).contains(&self.name.len()) || !self.name.bytes().all(is_fine) || is_reserved {
            return Err(ListenerProblem::Name);
        }
        self.check_keys()?;
        self.check_bounds()?;
        if self.kind.has_tls() {
            crate::tls::check(self)?;
        }
        match self.address {
            Some(address) if !address.ip().is_loopback() && !self.asks_for_credentials(config) => {
                Err(ListenerProblem::OpenToAll { address })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_keys(&self) -> Result<(), ListenerProblem> {
        let kind = self.kind;
        let (is_unix, has_tls) = (kind == ListenerKind::Unix, kind.has_tls());
        let rows = [
            ("address", self.address.is_some(), !is_unix, !is_unix),
            ("path", self.path.is_some(), is_unix, is_unix),
            ("mode", self.mode.is_some(), false, is_unix),
            ("certificate", self.certificate.is_some(), has_tls, has_tls),
            ("key", self.key.is_some(), has_tls, has_tls),
            ("more_certificates", !self.more_certificates.is_empty(), false, has_tls),
            ("client_ca", self.client_ca.is_some(), false, has_tls),
            ("client_crl", self.client_crl.is_some(), false, has_tls),
            ("origins", !self.origins.is_empty(), false, kind.has_websocket()),
            ("proxy_protocol", self.proxy_protocol, false, !is_unix),
        ];
        for (key, is_given, is_needed, is_allowed) in rows {
            match (is_given, is_needed, is_allowed) {
                (false, true, _) => return Err(ListenerProblem::Missing { kind, key }),
                (true, _, false) => return Err(ListenerProblem::Unwanted { kind, key }),
                (true, _, true) | (false, false, _) => {}
            }
        }
        if self.client_crl.is_some() && self.client_ca.is_none() {
            return Err(ListenerProblem::Without { key: "client_crl", needed: "client_ca" });
        }
        // Whoever may write a PROXY header may claim any address.
        if self.proxy_protocol && self.proxy_trusted.is_empty() {
            return Err(ListenerProblem::Without { key: "proxy_protocol", needed: "proxy_trusted" });
        }
        if !self.proxy_protocol && !self.proxy_trusted.is_empty() {
            return Err(ListenerProblem::Without { key: "proxy_trusted", needed: "proxy_protocol = true" });
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), ListenerProblem> {
        let zeros = [
            ("connections_max", self.connections_max == Some(0)),
            ("connection_rate_max", self.connection_rate_max == Some(0)),
            ("address_connection_rate_max", self.address_connection_rate_max == Some(0)),
            ("handshakes_max", self.handshakes_max == Some(0)),
            ("connect_deadline_ms", self.connect_deadline_ms == Some(0)),
        ];
        match zeros.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((key, _)) => Err(ListenerProblem::Zero { key }),
            None => Ok(()),
        }
    }

    /// Whether somebody without any credential stays outside, or was let in on purpose.
    fn asks_for_credentials(&self, config: &Config) -> bool {
        let asks_for_certificate =
            self.client_ca.is_some() && self.client_certificate == ClientCertificate::Required;
        let allows = self.allow_anonymous.or(config.allow_anonymous);
        asks_for_certificate || allows == Some(true) || config.has_credentials()
    }

    /// Where it listens, to tell two of them apart and for people.
    pub(crate) fn place(&self) -> String {
        match (self.address, &self.path) {
            (Some(address), _) => address.to_string(),
            (None, Some(path)) => path.display().to_string(),
            (None, None) => String::new(), // refused by `check`
        }
    }
}

/// Checks all of them, and that no two are in each other's way.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if config.listeners.len() > LISTENERS_MAX {
        return Err(ConfigError::Listeners);
    }
    if config.listen.is_none() && config.listeners.is_empty() {
        return Err(ConfigError::NobodyListens);
    }
    let mut places: Vec<String> = config.taken_addresses().map(|address| address.to_string()).collect();
    for (at, listener) in config.listeners.iter().enumerate() {
        let named = |problem| ConfigError::Listener { name: listener.name.clone(), problem };
        listener.check(config).map_err(named)?;
        listener.limits.check()?;
        if config.listeners.iter().take(at).any(|other| other.name == listener.name) {
            return Err(named(ListenerProblem::NameTwice));
        }
        let place = listener.place();
        if listener.address.is_none_or(|address| address.port() != 0) && places.contains(&place) {
            return Err(named(ListenerProblem::PlaceTwice { place }));
        }
        places.push(place);
    }
    Ok(())
}

/// `listen`: an address, or the word `off`.
pub(super) fn address_or_off<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    let wrong = |_| serde::de::Error::custom("an address and port like 127.0.0.1:1883 is wanted, or \"off\"");
    text.parse().map(Some).map_err(wrong)
}
