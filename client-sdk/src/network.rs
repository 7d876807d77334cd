//! What the app may know about its connection, and the words for why it ended.

use crate::reconnect::Cause;
use reveille_proto::reason::ReasonCode;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, PubAckReason, PubRecReason, SubscribeReasonCode, UnsubAckReason,
};
use rumqttc::v5::{ConnectionError, StateError};
use std::io;
use std::time::Duration;

/// Where the connection stands.
///
/// ```text
///  Connecting --> Online --> Waiting --> Connecting ...
///       +-----failed-----------^             any --close--> Closed
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkState {
    /// An attempt runs.
    Connecting,
    /// The broker accepted the connection.
    Online {
        /// Whether the broker still had the session.
        session_present: bool,
    },
    /// The last attempt or connection ended; the next one follows.
    Waiting {
        /// How long until then.
        retry_in: Duration,
        /// Why it ended.
        reason: LossReason,
    },
    /// The client was closed; nothing follows.
    Closed,
}

impl NetworkState {
    /// Whether messages flow.
    pub fn is_online(&self) -> bool {
        matches!(self, Self::Online { .. })
    }
}

/// Why a connection ended or an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LossReason {
    /// The operating system's word.
    #[error("network: {0}")]
    Io(io::ErrorKind),
    /// The broker closed the socket without a word.
    #[error("closed by the broker")]
    ClosedByBroker,
    /// Connecting took longer than the option allows.
    #[error("no answer to the connection attempt")]
    TimedOut,
    /// A ping had no answer, or could not be written.
    #[error("no answer to a ping")]
    Silent,
    /// CONNACK with this reason.
    #[error("refused: {0}")]
    Refused(ReasonCode),
    /// DISCONNECT from the broker with this reason.
    #[error("ended by the broker: {0}")]
    Ended(ReasonCode),
    /// The app reported another network.
    #[error("the network changed")]
    NetworkChanged,
    /// The peer broke the protocol, or TLS failed; the words are rumqttc's.
    #[error("protocol: {0}")]
    Protocol(String),
    /// rumqttc's counters would run full; a new connection resets them.
    #[error("renewed after many refused publishes")]
    Renewed,
}

impl LossReason {
    pub(crate) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::Io(error) => Self::Io(error.kind()),
            ConnectionError::Timeout(_) => Self::TimedOut,
            ConnectionError::ConnectionRefused(code) => Self::Refused(refusal(*code)),
            ConnectionError::MqttState(StateError::Io(error)) => Self::Io(error.kind()),
            ConnectionError::MqttState(StateError::ConnectionAborted) => Self::ClosedByBroker,
            ConnectionError::MqttState(StateError::AwaitPingResp) => Self::Silent,
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                Self::Ended(reason(*reason_code as u8))
            }
            other => Self::Protocol(other.to_string()),
        }
    }

    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Ended(ReasonCode::SESSION_TAKEN_OVER) => Cause::TakenOver,
            Self::Refused(_) | Self::Ended(_) | Self::Protocol(_) => Cause::Broker,
            Self::ClosedByBroker | Self::Io(io::ErrorKind::ConnectionReset) => Cause::Closed,
            Self::Io(_) | Self::TimedOut | Self::Silent => Cause::Network,
            Self::NetworkChanged | Self::Renewed => Cause::Network,
        }
    }
}

fn reason(code: u8) -> ReasonCode {
    ReasonCode::from_u8(code).unwrap_or(ReasonCode::UNSPECIFIED_ERROR)
}

fn refusal(code: ConnectReturnCode) -> ReasonCode {
    use ConnectReturnCode as C;
    match code {
        C::Success => ReasonCode::SUCCESS,
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
        C::BadClientId | C::ClientIdentifierNotValid => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        C::ServiceUnavailable | C::ServerUnavailable => ReasonCode::SERVER_UNAVAILABLE,
        C::UnspecifiedError => ReasonCode::UNSPECIFIED_ERROR,
        C::MalformedPacket => ReasonCode::MALFORMED_PACKET,
        C::ProtocolError => ReasonCode::PROTOCOL_ERROR,
        C::ImplementationSpecificError => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        C::BadUserNamePassword => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
        C::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        C::ServerBusy => ReasonCode::SERVER_BUSY,
        C::Banned => ReasonCode::BANNED,
        C::BadAuthenticationMethod => ReasonCode::BAD_AUTHENTICATION_METHOD,
        C::TopicNameInvalid => ReasonCode::TOPIC_NAME_INVALID,
        C::PacketTooLarge => ReasonCode::PACKET_TOO_LARGE,
        C::QuotaExceeded => ReasonCode::QUOTA_EXCEEDED,
        C::PayloadFormatInvalid => ReasonCode::PAYLOAD_FORMAT_INVALID,
        C::RetainNotSupported => ReasonCode::RETAIN_NOT_SUPPORTED,
        C::QoSNotSupported => ReasonCode::QOS_NOT_SUPPORTED,
        C::UseAnotherServer => ReasonCode::USE_ANOTHER_SERVER,
        C::ServerMoved => ReasonCode::SERVER_MOVED,
        C::ConnectionRateExceeded => ReasonCode::CONNECTION_RATE_EXCEEDED,
    }
}

pub(crate) fn puback(reason: PubAckReason) -> ReasonCode {
    match reason {
        PubAckReason::Success => ReasonCode::SUCCESS,
        PubAckReason::NoMatchingSubscribers => ReasonCode::NO_MATCHING_SUBSCRIBERS,
        PubAckReason::UnspecifiedError => ReasonCode::UNSPECIFIED_ERROR,
        PubAckReason::ImplementationSpecificError => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        PubAckReason::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        PubAckReason::TopicNameInvalid => ReasonCode::TOPIC_NAME_INVALID,
        PubAckReason::PacketIdentifierInUse => ReasonCode::PACKET_IDENTIFIER_IN_USE,
        PubAckReason::QuotaExceeded => ReasonCode::QUOTA_EXCEEDED,
        PubAckReason::PayloadFormatInvalid => ReasonCode::PAYLOAD_FORMAT_INVALID,
    }
}

pub(crate) fn pubrec(reason: PubRecReason) -> ReasonCode {
    match reason {
        PubRecReason::Success => ReasonCode::SUCCESS,
        PubRecReason::NoMatchingSubscribers => ReasonCode::NO_MATCHING_SUBSCRIBERS,
        PubRecReason::UnspecifiedError => ReasonCode::UNSPECIFIED_ERROR,
        PubRecReason::ImplementationSpecificError => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        PubRecReason::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        PubRecReason::TopicNameInvalid => ReasonCode::TOPIC_NAME_INVALID,
        PubRecReason::PacketIdentifierInUse => ReasonCode::PACKET_IDENTIFIER_IN_USE,
        PubRecReason::QuotaExceeded => ReasonCode::QUOTA_EXCEEDED,
        PubRecReason::PayloadFormatInvalid => ReasonCode::PAYLOAD_FORMAT_INVALID,
    }
}

pub(crate) fn suback(reason: SubscribeReasonCode) -> ReasonCode {
    use rumqttc::v5::mqttbytes::QoS;
    match reason {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => ReasonCode::SUCCESS,
        SubscribeReasonCode::Success(QoS::AtLeastOnce) => ReasonCode::GRANTED_QOS_1,
        SubscribeReasonCode::Success(QoS::ExactlyOnce) => ReasonCode::GRANTED_QOS_2,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => ReasonCode::UNSPECIFIED_ERROR,
        SubscribeReasonCode::ImplementationSpecific => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        SubscribeReasonCode::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        SubscribeReasonCode::TopicFilterInvalid => ReasonCode::TOPIC_FILTER_INVALID,
        SubscribeReasonCode::PkidInUse => ReasonCode::PACKET_IDENTIFIER_IN_USE,
        SubscribeReasonCode::QuotaExceeded => ReasonCode::QUOTA_EXCEEDED,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => {
            ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        }
        SubscribeReasonCode::SubscriptionIdNotSupported => ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => {
            ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
        }
    }
}

pub(crate) fn unsuback(reason: UnsubAckReason) -> ReasonCode {
    match reason {
        UnsubAckReason::Success => ReasonCode::SUCCESS,
        UnsubAckReason::NoSubscriptionExisted => ReasonCode::NO_SUBSCRIPTION_EXISTED,
        UnsubAckReason::UnspecifiedError => ReasonCode::UNSPECIFIED_ERROR,
        UnsubAckReason::ImplementationSpecificError => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        UnsubAckReason::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        UnsubAckReason::TopicFilterInvalid => ReasonCode::TOPIC_FILTER_INVALID,
        UnsubAckReason::PacketIdentifierInUse => ReasonCode::PACKET_IDENTIFIER_IN_USE,
    }
}
