//! The states of a message on its way to one device (the funnel), and which may follow which.

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All of them, in the order of the funnel.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in the API, the store and the metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Reads the name; `None` for any other text.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// Where a message is on its way to one device.
    ///
    /// ```text
    /// targeted -> filtered
    ///     |-----> queued <-> online_sent ---------------------------> online_acked --+
    ///     |         |            |                                         ^         |
    ///     +---------+------------+-> vendor_submitted -> vendor_accepted   |         +-> shown -> clicked
    ///                                      |                  |            |         |         | dismissed
    ///                                      +------------------+-> vendor_delivered --+
    /// ```
    ///
    /// Facts of broker, vendor and device travel on different ways, so a later state may come without the ones before
    /// it: an acknowledgement or what the user did is believed whenever nothing final stands yet. Ends that stand for
    /// themselves: expired, recalled, failed and the three suppressed ones.
    DeliveryState {
        /// The audience has the device.
        Targeted = "targeted",
        /// Left out before any attempt: no session and no token, or another rule of the message.
        Filtered = "filtered",
        /// In the device's queue at the broker.
        Queued = "queued",
        /// On its way over the socket.
        OnlineSent = "online_sent",
        /// The device acknowledged it over MQTT.
        OnlineAcked = "online_acked",
        /// Handed to a vendor, answer open.
        VendorSubmitted = "vendor_submitted",
        /// The vendor took it.
        VendorAccepted = "vendor_accepted",
        /// The vendor says that the device has it.
        VendorDelivered = "vendor_delivered",
        /// The user could see it.
        Shown = "shown",
        /// The user opened it.
        Clicked = "clicked",
        /// The user swiped it away.
        Dismissed = "dismissed",
        /// Its time ended first.
        Expired = "expired",
        /// Its sender took it back.
        Recalled = "recalled",
        /// No push was needed, because the device drained its queue first.
        SuppressedDrainedOnline = "suppressed_drained_online",
        /// The user has had enough pushes for now.
        SuppressedCap = "suppressed_cap",
        /// Not within the user's quiet hours.
        SuppressedQuiet = "suppressed_quiet",
        /// No way is left.
        Failed = "failed",
    }
}

named! {
    /// Why a delivery did not go on, in families that mean the same for every vendor.
    ReasonFamily {
        /// The vendor refuses the content.
        BadPayload = "bad_payload",
        /// Larger than the vendor takes.
        TooLong = "too_long",
        /// The app's login at the vendor is wrong or ended.
        Credential = "credential",
        /// The user forbade alerts.
        PermissionOff = "permission_off",
        /// The vendor's quota of the app is used up.
        QuotaVendor = "quota_vendor",
        /// Too fast for the vendor.
        RateVendor = "rate_vendor",
        /// The vendor does not know the device token.
        TokenInvalid = "token_invalid",
        /// The app is gone from the device.
        Uninstalled = "uninstalled",
        /// The device did not come back in time.
        OfflineExpired = "offline_expired",
        /// The vendor does not answer, or answers with a failure of its own.
        VendorUnavailable = "vendor_unavailable",
        /// A rule of the sender: caps, quiet hours, filters.
        Policy = "policy",
    }
}

impl DeliveryState {
    /// Whether nothing may follow.
    pub fn is_final(self) -> bool {
        match self {
            Self::Targeted | Self::Queued | Self::OnlineSent | Self::OnlineAcked | Self::Shown => false,
            Self::VendorSubmitted | Self::VendorAccepted | Self::VendorDelivered => false,
            Self::Filtered
            | Self::Clicked
            | Self::Dismissed
            | Self::Expired
            | Self::Recalled
            | Self::Failed => true,
            Self::SuppressedDrainedOnline | Self::SuppressedCap | Self::SuppressedQuiet => true,
        }
    }

    /// Whether a delivery that stands at `earlier` may go on to this state. No state follows itself.
    pub fn may_follow(self, earlier: Self) -> bool {
        let is_undecided = matches!(earlier, Self::Targeted | Self::Queued | Self::OnlineSent);
        let is_at_vendor = matches!(earlier, Self::VendorSubmitted | Self::VendorAccepted);
        match self {
            Self::Targeted => false,
            Self::Filtered => earlier == Self::Targeted,
            Self::Queued => matches!(earlier, Self::Targeted | Self::OnlineSent), // the connection ended first
            Self::OnlineSent => matches!(earlier, Self::Targeted | Self::Queued),
            Self::OnlineAcked => is_undecided || is_at_vendor || earlier == Self::VendorDelivered,
            Self::VendorSubmitted => is_undecided,
            Self::VendorAccepted => earlier == Self::VendorSubmitted,
            Self::VendorDelivered => is_at_vendor,
            Self::Shown => !earlier.is_final() && earlier != Self::Shown,
            Self::Clicked | Self::Dismissed | Self::Recalled => !earlier.is_final(),
            Self::Expired | Self::Failed => is_undecided || is_at_vendor, // a vendor's receipt may say it late
            Self::SuppressedDrainedOnline | Self::SuppressedCap | Self::SuppressedQuiet => is_undecided,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeliveryState::*;
    use super::*;

    #[test]
    fn names_read_what_they_write() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_name(state.name()), Some(*state), "{state}");
        }
        for family in ReasonFamily::ALL {
            assert_eq!(ReasonFamily::from_name(family.name()), Some(*family), "{family}");
        }
        for name in ["", "Targeted", "online-sent"] {
            assert_eq!(
                (DeliveryState::from_name(name), ReasonFamily::from_name(name)),
                (None, None),
                "{name}"
            );
        }
        assert_eq!((DeliveryState::ALL.len(), ReasonFamily::ALL.len()), (17, 11));
    }

    #[test]
    fn each_state_is_followed_by_exactly_these() {
        let ends = [Expired, Recalled, SuppressedDrainedOnline, SuppressedCap, SuppressedQuiet, Failed];
        let seen = [Shown, Clicked, Dismissed];
        let table = [
            (
                Targeted,
                [&[Filtered, Queued, OnlineSent, OnlineAcked, VendorSubmitted], &seen[..], &ends].concat(),
            ),
            (Queued, [&[OnlineSent, OnlineAcked, VendorSubmitted], &seen[..], &ends].concat()),
            (OnlineSent, [&[Queued, OnlineAcked, VendorSubmitted], &seen[..], &ends].concat()),
            (OnlineAcked, vec![Shown, Clicked, Dismissed, Recalled]),
            (
                VendorSubmitted,
                vec![
                    OnlineAcked,
                    VendorAccepted,
                    VendorDelivered,
                    Shown,
                    Clicked,
                    Dismissed,
                    Expired,
                    Recalled,
                    Failed,
                ],
            ),
            (
                VendorAccepted,
                vec![OnlineAcked, VendorDelivered, Shown, Clicked, Dismissed, Expired, Recalled, Failed],
            ),
            (VendorDelivered, vec![OnlineAcked, Shown, Clicked, Dismissed, Recalled]),
            (Shown, vec![Clicked, Dismissed, Recalled]),
        ];
        for earlier in DeliveryState::ALL {
            let row = table.iter().find(|(state, _)| state == earlier);
            let wanted = row.map(|(_, next)| next.clone()).unwrap_or_default();
            let found: Vec<_> =
                DeliveryState::ALL.iter().copied().filter(|next| next.may_follow(*earlier)).collect();
            assert_eq!(found, wanted, "after {earlier}");
            assert_eq!(earlier.is_final(), wanted.is_empty(), "{earlier}");
        }
    }
}
