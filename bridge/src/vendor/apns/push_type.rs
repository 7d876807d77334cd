//! Apple's push types: what each adds to the topic, which priorities and sizes it takes. Pure.

use serde::Deserialize;

use super::Priority;

/// What a push is for, as `apns-push-type` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PushType {
    /// Shown to the user.
    Alert,
    /// Wakes the app for a moment, unseen.
    Background,
    /// A call, for PushKit.
    Voip,
    /// Data for a watch face, for PushKit.
    Complication,
    /// A change in a file provider.
    FileProvider,
    /// Asks the app's extension where the device is; token keys only.
    Location,
    /// Starts, changes or ends a Live Activity.
    LiveActivity,
    /// An incoming talk on a Push to Talk channel.
    PushToTalk,
    /// Tells WidgetKit that the app's widgets are out of date.
    Widgets,
    /// The same for controls.
    Controls,
    /// Asks a managed device to contact its MDM server.
    Mdm,
}

impl PushType {
    /// Every push type.
    pub const ALL: [Self; 11] = [
        Self::Alert,
        Self::Background,
        Self::Voip,
        Self::Complication,
        Self::FileProvider,
        Self::Location,
        Self::LiveActivity,
        Self::PushToTalk,
        Self::Widgets,
        Self::Controls,
        Self::Mdm,
    ];

    /// Apple's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
            Self::Voip => "voip",
            Self::Complication => "complication",
            Self::FileProvider => "fileprovider",
            Self::Location => "location",
            Self::LiveActivity => "liveactivity",
            Self::PushToTalk => "pushtotalk",
            Self::Widgets => "widgets",
            Self::Controls => "controls",
            Self::Mdm => "mdm",
        }
    }

    /// What follows the bundle id in `apns-topic`. The topic of MDM is its certificate's own, without an end.
    pub fn topic_suffix(self) -> &'static str {
        match self {
            Self::Alert | Self::Background | Self::Mdm => "",
            Self::Voip => ".voip",
            Self::Complication => ".complication",
            Self::FileProvider => ".pushkit.fileprovider",
            Self::Location => ".location-query",
            Self::LiveActivity => ".push-type.liveactivity",
            Self::PushToTalk => ".voip-ptt",
            Self::Widgets => ".push-type.widgets",
            Self::Controls => ".push-type.controls",
        }
    }

    /// Largest payload, in bytes.
    pub fn payload_max(self) -> usize {
        match self {
            Self::Voip => 5120,
            _ => super::PAYLOAD_MAX,
        }
    }

    /// The `apns-priority` of a push this urgent. Background pushes with 10 are an error, talks and calls come at once.
    pub fn priority(self, priority: Priority) -> u8 {
        match (self, priority) {
            (Self::Voip | Self::PushToTalk | Self::Mdm, _) => 10,
            (Self::Alert | Self::LiveActivity, Priority::High | Priority::Normal) => 10,
            _ => 5,
        }
    }

    /// Whether Apple takes this `apns-priority` for it.
    pub fn takes(self, priority: u8) -> bool {
        match self {
            Self::Background => matches!(priority, 1 | 5),
            Self::PushToTalk => priority == 10,
            _ => matches!(priority, 1 | 5 | 10),
        }
    }
}
