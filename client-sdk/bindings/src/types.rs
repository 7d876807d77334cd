//! The words of the library as plain records and enums.

use reveille_client as sdk;
use std::time::Duration;

/// How surely a message arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum QoS {
    /// Perhaps.
    AtMostOnce,
    /// Surely, perhaps twice.
    AtLeastOnce,
    /// Surely and once; for publishers.
    ExactlyOnce,
}

impl From<QoS> for sdk::QoS {
    fn from(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::AtMostOnce,
            QoS::AtLeastOnce => Self::AtLeastOnce,
            QoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

impl From<sdk::QoS> for QoS {
    fn from(qos: sdk::QoS) -> Self {
        match qos {
            sdk::QoS::AtMostOnce => Self::AtMostOnce,
            sdk::QoS::AtLeastOnce => Self::AtLeastOnce,
            sdk::QoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

/// Where the connection stands.
#[derive(Clone, Debug, PartialEq, uniffi::Enum)]
pub enum NetworkState {
    /// An attempt runs.
    Connecting,
    /// Messages flow.
    Online {
        /// Whether the broker still had the session; else queue and subscriptions were lost, and are being restored.
        session_present: bool,
    },
    /// The next attempt comes later.
    Waiting {
        /// After this time.
        retry_in: Duration,
        /// Why the last connection or attempt ended.
        reason: LossReason,
    },
    /// The app closed the client.
    Closed,
}

/// Why a connection, or an attempt, ended.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum LossReason {
    /// The network: refused, reset, unreachable, ...
    Network {
        /// The system's word.
        detail: String,
    },
    /// The broker closed the socket without a word.
    ClosedByBroker,
    /// No CONNACK in time.
    TimedOut,
    /// A ping got no answer, or could not be written.
    Silent,
    /// CONNACK with this reason code.
    Refused {
        /// The number on the wire.
        reason_code: u8,
    },
    /// DISCONNECT from the broker with this reason code.
    Ended {
        /// The number on the wire.
        reason_code: u8,
    },
    /// The app reported another network.
    NetworkChanged,
    /// The peer broke the protocol, or TLS failed.
    Protocol {
        /// For the developer.
        detail: String,
    },
    /// The library renewed the connection on its own.
    Renewed,
}

impl From<sdk::NetworkState> for NetworkState {
    fn from(state: sdk::NetworkState) -> Self {
        match state {
            sdk::NetworkState::Connecting => Self::Connecting,
            sdk::NetworkState::Online { session_present } => Self::Online { session_present },
            sdk::NetworkState::Waiting { retry_in, reason } => {
                Self::Waiting { retry_in, reason: reason.into() }
            }
            sdk::NetworkState::Closed => Self::Closed,
        }
    }
}

impl From<sdk::LossReason> for LossReason {
    fn from(reason: sdk::LossReason) -> Self {
        match reason {
            sdk::LossReason::Io(kind) => Self::Network { detail: kind.to_string() },
            sdk::LossReason::ClosedByBroker => Self::ClosedByBroker,
            sdk::LossReason::TimedOut => Self::TimedOut,
            sdk::LossReason::Silent => Self::Silent,
            sdk::LossReason::Refused(reason) => Self::Refused { reason_code: reason.get() },
            sdk::LossReason::Ended(reason) => Self::Ended { reason_code: reason.get() },
            sdk::LossReason::NetworkChanged => Self::NetworkChanged,
            sdk::LossReason::Protocol(detail) => Self::Protocol { detail },
            sdk::LossReason::Renewed => Self::Renewed,
        }
    }
}

/// The kind of the last hop, which decides what a beat costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, uniffi::Enum)]
pub enum Radio {
    /// Wireless LAN.
    Wifi,
    /// A cable.
    Ethernet,
    /// GSM, GPRS, EDGE.
    G2,
    /// UMTS, HSPA and their kin.
    G3,
    /// LTE.
    G4,
    /// NR.
    G5,
    /// The app does not know.
    #[default]
    Unknown,
}

/// The network a device is on, as far as its app knows. `reveille_client::Network` under a name that no platform uses for
/// something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct DeviceNetwork {
    /// The last hop.
    pub radio: Radio,
    /// Which of them: the operator's number or a hash of the Wi-Fi's name, never the name. Up to 32 letters, digits, `-` and
    /// `_`; anything else counts as not known.
    pub label: String,
}

impl From<DeviceNetwork> for sdk::Network {
    fn from(network: DeviceNetwork) -> Self {
        let radio = match network.radio {
            Radio::Wifi => sdk::Radio::Wifi,
            Radio::Ethernet => sdk::Radio::Ethernet,
            Radio::G2 => sdk::Radio::G2,
            Radio::G3 => sdk::Radio::G3,
            Radio::G4 => sdk::Radio::G4,
            Radio::G5 => sdk::Radio::G5,
            Radio::Unknown => sdk::Radio::Unknown,
        };
        Self { radio, label: sdk::Label::parse(&network.label).unwrap_or_default() }
    }
}

/// What is known about the heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct HeartbeatState {
    /// The network that the app told of last, as on the wire: `4g,46000`.
    pub network: String,
    /// How long the connection may stay silent now.
    pub interval: Duration,
    /// The longest silence that it survived here.
    pub survived: Duration,
    /// When the phone should wake for the next beat; nothing without a connection.
    pub wake: Option<Wake>,
}

/// Two moments since the machine started, sleep included: `SystemClock.elapsedRealtime` on Android,
/// `mach_continuous_time` on Apple's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Wake {
    /// Not before.
    pub earliest: Duration,
    /// Not after.
    pub latest: Duration,
}

impl From<sdk::HeartbeatState> for HeartbeatState {
    fn from(state: sdk::HeartbeatState) -> Self {
        let wake = state.wake.map(|(earliest, latest)| Wake { earliest: earliest.0, latest: latest.0 });
        let network = state.network.to_string();
        Self { network, interval: state.interval, survived: state.survived, wake }
    }
}

/// What a device tells about itself: its address at a vendor, and attributes for audiences.
#[derive(Clone, Default, uniffi::Record)]
pub struct Registration {
    /// `apns`, `fcm`, ...; together with the token.
    #[uniffi(default = None)]
    pub vendor: Option<String>,
    /// What the vendor gave.
    #[uniffi(default = None)]
    pub token: Option<String>,
    /// `ios`, `android`, ...
    #[uniffi(default = None)]
    pub platform: Option<String>,
    /// The app's version.
    #[uniffi(default = None)]
    pub app_version: Option<String>,
    /// A language tag such as `zh-CN`.
    #[uniffi(default = None)]
    pub language: Option<String>,
    /// A time zone such as `Asia/Shanghai`.
    #[uniffi(default = None)]
    pub timezone: Option<String>,
}

impl From<Registration> for sdk::Registration {
    fn from(said: Registration) -> Self {
        let mut registration = Self::new();
        if let (Some(vendor), Some(token)) = (said.vendor, said.token) {
            registration = registration.token(vendor, token);
        }
        if let Some(platform) = said.platform {
            registration = registration.platform(platform);
        }
        if let Some(app_version) = said.app_version {
            registration = registration.app_version(app_version);
        }
        if let Some(language) = said.language {
            registration = registration.language(language);
        }
        if let Some(timezone) = said.timezone {
            registration = registration.timezone(timezone);
        }
        registration
    }
}

/// Which way a push candidate goes to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Strategy {
    /// By socket; by vendor when the device is offline or does not acknowledge in time.
    OnlineFirst,
    /// By vendor, whether or not the device is online.
    VendorOnly,
    /// By socket; waits in the queue while the device is offline.
    OnlineOnly,
    /// By vendor; by socket when the vendor refuses.
    VendorFirst,
    /// Both ways at once; the device drops the second.
    BothDedup,
}

/// What makes a published message a push candidate. With nothing set it is an ordinary message.
#[derive(Clone, Debug, Default, uniffi::Record)]
pub struct PushHints {
    /// The alert's title.
    #[uniffi(default = None)]
    pub title: Option<String>,
    /// The alert's text.
    #[uniffi(default = None)]
    pub body: Option<String>,
    /// The way; the app's default otherwise.
    #[uniffi(default = None)]
    pub strategy: Option<Strategy>,
    /// A newer message with the same key replaces this one.
    #[uniffi(default = None)]
    pub collapse: Option<String>,
    /// Nobody wants it after this time, in whole seconds.
    #[uniffi(default = None)]
    pub ttl: Option<Duration>,
}

impl From<PushHints> for sdk::PushHints {
    fn from(hints: PushHints) -> Self {
        let PushHints { title, body, strategy, collapse, ttl } = hints;
        let strategy = strategy.map(|strategy| match strategy {
            Strategy::OnlineFirst => sdk::Strategy::OnlineFirst,
            Strategy::VendorOnly => sdk::Strategy::VendorOnly,
            Strategy::OnlineOnly => sdk::Strategy::OnlineOnly,
            Strategy::VendorFirst => sdk::Strategy::VendorFirst,
            Strategy::BothDedup => sdk::Strategy::BothDedup,
        });
        Self { title, body, strategy, collapse, ttl }
    }
}

/// What the outbox holds, and what it gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct OutboxState {
    /// Posted messages that the broker does not have yet.
    pub waiting: u64,
    /// Messages since the start that the broker refuses for good.
    pub refused: u64,
    /// Messages since the start whose time ended before the broker had them.
    pub expired: u64,
}

impl From<sdk::OutboxState> for OutboxState {
    fn from(state: sdk::OutboxState) -> Self {
        Self { waiting: state.waiting as u64, refused: state.refused, expired: state.expired }
    }
}

/// What to do with a message that a vendor's push service brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum VendorPush {
    /// New: show it, unless the system did, then call `handled`.
    Show,
    /// The app has or had it already.
    Duplicate,
}
