//! The number on an app's icon: a number, one more, or how many messages the user has not read. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::vendor::VendorName;

/// Most that a badge counts up at once: HarmonyOS takes no more.
pub(crate) const ADD_MAX: u32 = 99;

/// What a sender wants of the number on the icon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Badge {
    /// This number; 0 clears it.
    Set(u32),
    /// So many more: `"+1"`.
    Add(u32),
    /// What the user has not read: `"unread"`.
    Unread,
}

/// What one vendor is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Number {
    pub set: Option<u32>,
    pub add: Option<u32>,
}

impl Badge {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('+') {
            Some(more) if more.bytes().all(|byte| byte.is_ascii_digit()) => {
                more.parse().ok().filter(|more| (1..=ADD_MAX).contains(more)).map(Self::Add)
            }
            Some(_) => None,
            None => (text == "unread").then_some(Self::Unread),
        }
    }

    /// Whether a vendor must be told another number for each user.
    pub(crate) fn is_for_each_user(self, vendor: VendorName) -> bool {
        match self {
            Self::Set(_) => false,
            Self::Add(_) => !counts_up(vendor),
            Self::Unread => true,
        }
    }

    /// What a vendor is told. `unread` is of the device's user, this message with it where it is kept; without a user
    /// there is no number to tell.
    pub(crate) fn number(self, vendor: VendorName, unread: Option<u64>, is_kept: bool) -> Number {
        let unread = unread.map(|unread| u32::try_from(unread).unwrap_or(u32::MAX));
        match self {
            Self::Set(number) => Number { set: Some(number), add: None },
            Self::Add(more) if counts_up(vendor) => Number { set: None, add: Some(more) },
            Self::Add(more) => {
                let more = if is_kept { 0 } else { more };
                Number { set: unread.map(|unread| unread.saturating_add(more)), add: None }
            }
            Self::Unread => Number { set: unread, add: None },
        }
    }
}

/// Vendors that count up on the device themselves, so that one batch serves many users.
fn counts_up(vendor: VendorName) -> bool {
    matches!(vendor, VendorName::Huawei | VendorName::Harmony | VendorName::Honor | VendorName::Vivo)
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(number) => write!(f, "{number}"),
            Self::Add(more) => write!(f, "+{more}"),
            Self::Unread => f.write_str("unread"),
        }
    }
}

impl Serialize for Badge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(number) => serializer.serialize_u32(*number),
            Self::Add(_) | Self::Unread => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Badge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "is a number from 0, \"+1\" to \"+99\", or \"unread\"")]
        enum Either<'a> {
            Number(u32),
            Text(#[serde(borrow)] Cow<'a, str>),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self::Set(number)),
            Either::Text(text) => Self::parse(&text).ok_or_else(|| {
                serde::de::Error::custom("is a number from 0, \"+1\" to \"+99\", or \"unread\"")
            }),
        }
    }
}

impl PartialSchema for Badge {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX));
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^(\+[1-9][0-9]?|unread)$"));
        OneOfBuilder::new().item(number).item(text).into()
    }
}

impl ToSchema for Badge {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_is_a_number_or_one_of_two_words() {
        for (json, wanted) in [
            ("3", Some(Badge::Set(3))),
            ("0", Some(Badge::Set(0))),
            (r#""+1""#, Some(Badge::Add(1))),
            (r#""+99""#, Some(Badge::Add(99))),
            (r#""unread""#, Some(Badge::Unread)),
            ("-1", None),
            ("1.5", None),
            (r#""+0""#, None),
            (r#""+100""#, None),
            (r#""++1""#, None),
            (r#""3""#, None),
            ("true", None),
        ] {
            let read: Result<Badge, _> = serde_json::from_str(json);
            assert_eq!(read.as_ref().ok(), wanted.as_ref(), "{json}");
            if let Some(badge) = wanted {
                assert_eq!(serde_json::to_string(&badge).unwrap(), json);
            }
            if let Err(error) = read {
                assert!(error.to_string().contains("unread"), "{json}: {error}");
            }
        }
    }

    #[test]
    fn a_vendor_without_a_count_of_its_own_is_told_what_the_user_has_not_read() {
        use VendorName::{Apns, Huawei};
        let set = |number| Number { set: Some(number), add: None };
        for (badge, vendor, unread, is_kept, wanted) in [
            (Badge::Set(5), Apns, None, false, set(5)),
            (Badge::Add(1), Apns, Some(4), true, set(4)),
            (Badge::Add(1), Apns, Some(4), false, set(5)),
            (Badge::Add(1), Apns, None, false, Number::default()),
            (Badge::Add(2), Huawei, Some(4), true, Number { set: None, add: Some(2) }),
            (Badge::Unread, Huawei, Some(4), true, set(4)),
            (Badge::Unread, Apns, Some(u64::MAX), true, set(u32::MAX)),
        ] {
            assert_eq!(badge.number(vendor, unread, is_kept), wanted, "{badge} {vendor} {unread:?}");
        }
    }
}
