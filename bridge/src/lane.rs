//! Which pushes share a fate: those of one app, at one vendor, with one credential, in one message class.

use std::fmt;
use std::sync::Arc;

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::vendor::{Environment, Priority, VendorName};

/// An app's name for one of its credentials at a vendor: 1 to 32 characters out of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialName(Arc<str>);

impl CredentialName {
    /// The name of the credential that is set without one.
    pub const DEFAULT: &'static str = "default";
    /// Longest name, in bytes.
    pub const LENGTH_MAX: usize = 32;

    /// Checks the text once.
    ///
    /// # Errors
    /// [`CredentialNameError`] when it is empty, too long or has another character.
    pub fn parse(text: &str) -> Result<Self, CredentialNameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > Self::LENGTH_MAX || !text.bytes().all(allowed) {
            return Err(CredentialNameError);
        }
        Ok(Self(text.into()))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one that is set without a name.
    pub fn is_default(&self) -> bool {
        self.as_str() == Self::DEFAULT
    }
}

impl Default for CredentialName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no name of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential's name has 1 to 32 characters out of a-z, 0-9, - and _")]
pub struct CredentialNameError;

impl TryFrom<String> for CredentialName {
    type Error = CredentialNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<CredentialName> for String {
    fn from(name: CredentialName) -> Self {
        name.as_str().to_owned()
    }
}

/// What vendors count apart: they bound what advertises, and leave free what the user waits for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What the user waits for: orders, alarms, chat. Vendors say private, system or service.
    #[default]
    Service,
    /// What the business wants to be seen. Vendors say public, operational or marketing.
    Marketing,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 2] = [Self::Service, Self::Marketing];

    /// The class that a vendor puts a message into by its category.
    pub fn of(vendor: VendorName, category: Option<&str>, priority: Priority) -> Self {
        const MARKETING: [&str; 5] = ["MARKETING", "NEWS", "CONTENT", "SOCIAL", "PROMOTION"];
        let is_named = category.is_some_and(|category| MARKETING.contains(&category));
        // HONOR has no categories but two levels of importance, which follow from both.
        let is_marketing = is_named || (vendor == VendorName::Honor && priority == Priority::Low);
        if is_marketing { Self::Marketing } else { Self::Service }
    }
}

/// One queue of pushes with its own rate and breaker: what happens to it concerns no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lane {
    /// The tenant.
    pub app: AppId,
    /// The push service.
    pub vendor: VendorName,
    /// Which of the app's credentials there.
    pub credential: CredentialName,
    /// What the vendor counts the pushes as.
    pub class: Class,
}

impl Lane {
    /// The lanes of one credential.
    pub fn all_of(app: &AppId, vendor: VendorName, credential: &CredentialName) -> [Self; 2] {
        Class::ALL.map(|class| Self { app: app.clone(), vendor, credential: credential.clone(), class })
    }

    /// What stands in keys behind app and vendor; `None` for the lane of the usual credential and class, so that its
    /// keys are those of the first format, which knew no other. `~` is in no name.
    pub fn suffix(&self) -> Option<String> {
        match (self.class, self.credential.is_default()) {
            (Class::Service, true) => None,
            (Class::Service, false) => Some(self.credential.to_string()),
            (Class::Marketing, _) => Some(format!("{}~marketing", self.credential)),
        }
    }

    /// Reads [`Lane::suffix`].
    pub fn from_suffix(app: AppId, vendor: VendorName, suffix: &str) -> Option<Self> {
        let (credential, class) = match suffix.strip_suffix("~marketing") {
            Some(credential) => (credential, Class::Marketing),
            None => (suffix, Class::Service),
        };
        let credential = if suffix.is_empty() { CredentialName::DEFAULT } else { credential };
        Some(Self { app, vendor, credential: CredentialName::parse(credential).ok()?, class })
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, vendor, credential, class } = self;
        let class = match class {
            Class::Service => "",
            Class::Marketing => ", marketing",
        };
        write!(f, "{app}/{vendor}/{credential}{class}")
    }
}

/// What a device token says of where it belongs, so that its credential is found among several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Home {
    /// The credential by its name. It wins over the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialName>,
    /// Which of the vendor's worlds the token is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The bundle id or package of the app on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_id: Option<String>,
}

/// The same as devices and business servers say it: a bundle id at Apple is a package elsewhere.
#[derive(Default, Deserialize)]
pub(crate) struct Registered {
    /// The credential by its name.
    pub credential: Option<CredentialName>,
    /// Which of the vendor's worlds the token is from.
    pub environment: Option<Environment>,
    /// The bundle id of the app on the device.
    pub bundle_id: Option<String>,
    /// The same under its other name.
    pub package: Option<String>,
}

impl Registered {
    /// Longest bundle id or package, in bytes.
    const BUNDLE_ID_MAX: usize = 255;

    /// Checks it once.
    ///
    /// # Errors
    /// The field that is of no use, and why.
    pub fn check(self) -> Result<Home, (&'static str, &'static str)> {
        let bundle_id = match (self.bundle_id, self.package) {
            (Some(_), Some(_)) => {
                return Err(("package", "is the other name of bundle_id: give one of them"));
            }
            (bundle_id, package) => bundle_id.or(package),
        };
        if bundle_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > Self::BUNDLE_ID_MAX) {
            return Err(("bundle_id", "has 1 to 255 bytes"));
        }
        Ok(Home { credential: self.credential, environment: self.environment, bundle_id })
    }
}

/// Which device tokens a credential is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// The credential.
    pub name: CredentialName,
    /// The world that it speaks to; `None` where the vendor has one only.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// The bundle id or package that it is for; `None` where the vendor does not ask.
    #[serde(default)]
    pub bundle_id: Option<String>,
}

impl Home {
    /// The credential of a token with this home, among those of its vendor: the one that it names; else the usual one
    /// if that fits, else the first by name that does. A token that says nothing belongs to the usual one.
    pub(crate) fn find(&self, addresses: &[Address]) -> Option<CredentialName> {
        if let Some(named) = &self.credential {
            return Some(named.clone());
        }
        if self.is_anywhere() {
            return Some(CredentialName::default());
        }
        let fitting = || addresses.iter().filter(|address| self.fits(address));
        let usual = fitting().find(|address| address.name.is_default());
        usual.or_else(|| fitting().next()).map(|address| address.name.clone())
    }

    /// Whether it says nothing that tells credentials apart.
    pub(crate) fn is_anywhere(&self) -> bool {
        self.environment.is_none() && self.bundle_id.is_none()
    }

    /// Where either says nothing, it fits.
    fn fits(&self, address: &Address) -> bool {
        let agree = |own: Option<&str>, other: Option<&str>| own.zip(other).is_none_or(|(a, b)| a == b);
        let worlds = self.environment.zip(address.environment);
        worlds.is_none_or(|(own, other)| own == other)
            && agree(self.bundle_id.as_deref(), address.bundle_id.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CredentialName {
        CredentialName::parse(text).unwrap()
    }

    #[test]
    fn a_lane_reads_its_suffix_and_the_usual_one_has_none() {
        let (app, vendor) = (AppId::default(), VendorName::Oppo);
        for (credential, class, wanted) in [
            ("default", Class::Service, None),
            ("default", Class::Marketing, Some("default~marketing")),
            ("second", Class::Service, Some("second")),
            ("second", Class::Marketing, Some("second~marketing")),
        ] {
            let lane = Lane { app: app.clone(), vendor, credential: name(credential), class };
            assert_eq!(lane.suffix().as_deref(), wanted);
            let read = Lane::from_suffix(app.clone(), vendor, wanted.unwrap_or_default());
            assert_eq!(read, Some(lane));
        }
        assert_eq!(Lane::from_suffix(app, vendor, "~marketing"), None);
    }

    #[test]
    fn a_name_is_short_and_plain() {
        for good in ["default", "ios-sandbox", "a", "7_"] {
            assert_eq!(name(good).as_str(), good);
        }
        for bad in ["", "A", "a b", "a~b", "a:test", "设备", &"a".repeat(33)] {
            assert_eq!(CredentialName::parse(bad), Err(CredentialNameError), "{bad}");
        }
    }

    #[test]
    fn a_token_finds_the_credential_of_its_home() {
        use Environment::{Production, Sandbox};
        let address = |text, environment, bundle: &str| Address {
            name: name(text),
            environment: Some(environment),
            bundle_id: Some(bundle.to_owned()),
        };
        let all = [
            address("a-sandbox", Sandbox, "com.a"),
            address("b", Production, "com.b"),
            address("default", Production, "com.a"),
        ];
        let home = |credential: Option<&str>, environment, bundle: Option<&str>| Home {
            credential: credential.map(name),
            environment,
            bundle_id: bundle.map(str::to_owned),
        };
        for (home, wanted) in [
            (home(None, None, None), Some("default")),
            (home(Some("b"), Some(Sandbox), None), Some("b")),
            (home(Some("gone"), None, None), Some("gone")),
            (home(None, Some(Sandbox), None), Some("a-sandbox")),
            (home(None, Some(Production), None), Some("default")),
            (home(None, None, Some("com.b")), Some("b")),
            (home(None, Some(Production), Some("com.b")), Some("b")),
            (home(None, Some(Sandbox), Some("com.b")), None),
        ] {
            assert_eq!(home.find(&all), wanted.map(name), "{home:?}");
        }
    }

    #[test]
    fn what_advertises_is_told_by_the_vendors_words() {
        for (vendor, category, priority, wanted) in [
            (VendorName::Oppo, Some("MARKETING"), Priority::Normal, Class::Marketing),
            (VendorName::Vivo, Some("NEWS"), Priority::High, Class::Marketing),
            (VendorName::Huawei, Some("WORK"), Priority::Low, Class::Service),
            (VendorName::Huawei, None, Priority::Low, Class::Service),
            (VendorName::Honor, None, Priority::Low, Class::Marketing),
            (VendorName::Honor, Some("MARKETING"), Priority::Normal, Class::Marketing),
        ] {
            assert_eq!(Class::of(vendor, category, priority), wanted, "{vendor} {category:?} {priority:?}");
        }
    }
}
