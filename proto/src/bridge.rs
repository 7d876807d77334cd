//! The messages of broker and bridge, as `proto/bridge.proto` describes them, and the names of their topics.

#[rustfmt::skip]
#[allow(missing_docs, clippy::all, reason = "generated from proto/bridge.proto; a test keeps it equal")]
mod generated;

pub use generated::*;
pub use prost::Message as Wire;

/// bridge -> broker: [`Send`].
pub const SEND: &str = "$push/v1/send";
/// bridge -> broker: [`Withdraw`].
pub const WITHDRAW: &str = "$push/v1/withdraw";
/// broker -> bridge: [`Queued`].
pub const QUEUED: &str = "$push/v1/queued";
/// broker -> bridge: [`Unacked`].
pub const UNACKED: &str = "$push/v1/unacked";
/// broker -> bridge: [`Acked`].
pub const ACKED: &str = "$push/v1/acked";
/// broker -> bridge: [`Presence`].
pub const PRESENCE: &str = "$push/v1/presence";
/// broker -> bridge: [`FromDevice`].
pub const DEVICE: &str = "$push/v1/device";
/// broker -> device: a directed message, JSON.
pub const MESSAGE: &str = "$push/message";
/// device -> bridge: token and attributes, JSON.
pub const REGISTER: &str = "$push/register";
/// device -> bridge: shown, clicked, dismissed, JSON.
pub const EVENT: &str = "$push/event";

/// User property that the broker appends to a push candidate: its message id.
pub const PUSH_ID: &str = "push-id";
/// User property of a publisher: title of the alert; makes the message a push candidate.
pub const PUSH_TITLE: &str = "push-title";
/// User property of a publisher: text of the alert; makes the message a push candidate.
pub const PUSH_BODY: &str = "push-body";
/// User property of a publisher: one of the strategies, see [`Strategy::from_name`].
pub const PUSH_STRATEGY: &str = "push-strategy";
/// User property of a publisher: collapse key.
pub const PUSH_COLLAPSE: &str = "push-collapse";

/// Client ids in one [`Send`] at most.
pub const SEND_TARGETS_MAX: usize = 4096;
/// Devices in one [`Queued`], [`Unacked`] or [`Acked`] at most.
pub const QUEUED_DEVICES_MAX: usize = 1000;

impl Strategy {
    /// Reads the name that people and APIs use.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "online_first" => Some(Self::OnlineFirst),
            "vendor_only" => Some(Self::VendorOnly),
            "online_only" => Some(Self::OnlineOnly),
            "vendor_first" => Some(Self::VendorFirst),
            "both_dedup" => Some(Self::BothDedup),
            _ => None,
        }
    }

    /// The name that people and APIs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlineFirst => "online_first",
            Self::VendorOnly => "vendor_only",
            Self::OnlineOnly => "online_only",
            Self::VendorFirst => "vendor_first",
            Self::BothDedup => "both_dedup",
        }
    }
}
