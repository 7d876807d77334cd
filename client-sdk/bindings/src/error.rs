//! What can go wrong, told so that an app can tell it apart.

use reveille_client as sdk;

/// Why a client cannot even begin. Network trouble is not among it: that is retried for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, uniffi::Error)]
pub enum ConnectError {
    /// An option is off limits; the words say which and why.
    #[error("{detail}")]
    Options {
        /// For the developer.
        detail: String,
    },
    /// The inbox file is in use by another client, or the disk refuses.
    #[error("inbox: {detail}")]
    Inbox {
        /// For the developer.
        detail: String,
    },
    /// The outbox file is in use by another client, or the disk refuses.
    #[error("outbox: {detail}")]
    Outbox {
        /// For the developer.
        detail: String,
    },
    /// The authorities are no certificates in PEM.
    #[error("tls: {detail}")]
    Tls {
        /// For the developer.
        detail: String,
    },
    /// The system gave no thread.
    #[error("no thread for the connection: {detail}")]
    Runtime {
        /// For the developer.
        detail: String,
    },
}

/// Why an operation did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, uniffi::Error)]
pub enum ClientError {
    /// The client was closed before it was done.
    #[error("the client is closed")]
    Closed,
    /// The text is no topic name, or no topic filter.
    #[error("{detail}")]
    Topic {
        /// The rule that it breaks.
        detail: String,
    },
    /// The text is no message id: a UUID of 36 characters.
    #[error("a message id is a UUID of 36 characters")]
    MessageId,
    /// The broker's reason code, for example 151: quota exceeded.
    #[error("refused by the broker: {name}")]
    Refused {
        /// The number on the wire.
        reason_code: u8,
        /// Its name in the standard.
        name: String,
    },
    /// The broker takes no packet of this size.
    #[error("a packet of {size} bytes is above the broker's limit of {max}")]
    TooLarge {
        /// Of this packet, in bytes.
        size: u64,
        /// The broker's Maximum Packet Size.
        max: u64,
    },
    /// QoS 2: the broker took it over and then forgot the session, so whether it went on is not known.
    #[error("the broker lost the session between PUBREC and PUBCOMP")]
    OutcomeUnknown,
    /// QoS 2 needs a `Publisher`.
    #[error("QoS 2 is for publishers")]
    ExactlyOnceNeedsPublisher,
    /// The business gave the device no user, so it has no inbox.
    #[error("the device has no user")]
    NoUser,
    /// The push server did not answer, or not as it should.
    #[error("the push server did not answer")]
    NoAnswer,
    /// The outbox is at its limit of messages or bytes.
    #[error("the outbox is full")]
    OutboxFull,
    /// The inbox or outbox file could not be written.
    #[error("could not be written: {detail}")]
    NotRecorded {
        /// The kind of trouble.
        detail: String,
    },
}

impl ClientError {
    fn refused(reason: sdk::ReasonCode) -> Self {
        Self::Refused { reason_code: reason.get(), name: reason.to_string() }
    }
}

impl From<sdk::ConnectError> for ConnectError {
    fn from(error: sdk::ConnectError) -> Self {
        let detail = match &error {
            sdk::ConnectError::Inbox(file) | sdk::ConnectError::Outbox(file) => words(file),
            other => other.to_string(),
        };
        match error {
            sdk::ConnectError::Inbox(_) => Self::Inbox { detail },
            sdk::ConnectError::Outbox(_) => Self::Outbox { detail },
            sdk::ConnectError::NoRuntime => Self::Runtime { detail },
            _ => Self::Options { detail },
        }
    }
}

/// The words of the library, and the system's behind them.
fn words(error: &sdk::FileError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl From<sdk::ClosedError> for ClientError {
    fn from(_: sdk::ClosedError) -> Self {
        Self::Closed
    }
}

impl From<sdk::HandledError> for ClientError {
    fn from(error: sdk::HandledError) -> Self {
        match error {
            sdk::HandledError::NotRecorded(kind) => Self::NotRecorded { detail: kind.to_string() },
            sdk::HandledError::Closed => Self::Closed,
        }
    }
}

impl From<sdk::SubscribeError> for ClientError {
    fn from(error: sdk::SubscribeError) -> Self {
        match error {
            sdk::SubscribeError::Filter(error) => Self::Topic { detail: error.to_string() },
            sdk::SubscribeError::Refused(reason) => Self::refused(reason),
            sdk::SubscribeError::Closed => Self::Closed,
        }
    }
}

impl From<sdk::PublishError> for ClientError {
    fn from(error: sdk::PublishError) -> Self {
        match error {
            sdk::PublishError::Topic(error) => Self::Topic { detail: error.to_string() },
            sdk::PublishError::Refused(reason) => Self::refused(reason),
            sdk::PublishError::TooLarge { size, max } => {
                Self::TooLarge { size: size as u64, max: max as u64 }
            }
            sdk::PublishError::OutcomeUnknown => Self::OutcomeUnknown,
            sdk::PublishError::ExactlyOnceNeedsPublisher => Self::ExactlyOnceNeedsPublisher,
            sdk::PublishError::Closed => Self::Closed,
        }
    }
}

impl From<sdk::InboxError> for ClientError {
    fn from(error: sdk::InboxError) -> Self {
        match error {
            sdk::InboxError::Publish(error) => error.into(),
            sdk::InboxError::NoUser => Self::NoUser,
            sdk::InboxError::Refused | sdk::InboxError::NoAnswer => Self::NoAnswer,
            sdk::InboxError::Closed => Self::Closed,
        }
    }
}

impl From<sdk::PostError> for ClientError {
    fn from(error: sdk::PostError) -> Self {
        match error {
            sdk::PostError::Topic(error) => Self::Topic { detail: error.to_string() },
            sdk::PostError::Full => Self::OutboxFull,
            sdk::PostError::NotRecorded(kind) => Self::NotRecorded { detail: kind.to_string() },
            sdk::PostError::Closed => Self::Closed,
        }
    }
}
