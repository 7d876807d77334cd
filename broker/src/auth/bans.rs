//! Who must not connect, whatever its credential: client ids, users, addresses. Kept in a small file in the data directory.

use crate::auth::password_file::replace;
use reveille_broker_core::message::Time;
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

/// Bans at once: all of them are written at each change.
pub const BANS_MAX: usize = 10_000;

/// Characters of a reason.
pub const REASON_MAX: usize = 256;

/// The file's name.
const FILE: &str = "bans.json";

/// Whom a ban is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Banned {
    /// A client id, in one app or in all.
    ClientId {
        /// The app; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<String>,
        /// The client id.
        client_id: String,
    },
    /// A user name, in one app or in all.
    User {
        /// The app; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<String>,
        /// The name.
        user: String,
    },
    /// An address, or all that begin with the same bits.
    Address {
        /// As in `192.0.2.7` and `2001:db8::/32`.
        network: Subnet,
    },
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Whom it is about.
    #[serde(flatten)]
    pub banned: Banned,
    /// Until when, in milliseconds since 1970; absent: until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A client, as far as bans look at it.
#[derive(Clone, Copy, Debug)]
pub struct Suspect<'a> {
    /// Its tenant.
    pub app: &'a str,
    /// Its client identifier.
    pub client_id: &'a str,
    /// The user name of its credential.
    pub user: Option<&'a str>,
    /// Where it comes from; `None` for a Unix socket.
    pub address: Option<IpAddr>,
}

/// Why a ban is not in force.
#[derive(Debug, thiserror::Error)]
pub enum BanError {
    /// Too many.
    #[error("there are {BANS_MAX} bans already")]
    TooMany,
    /// The app is none, the name is empty, or the reason too long.
    #[error(
        "a ban names an app id, a name that is not empty, and a reason of at most {REASON_MAX} characters"
    )]
    Form,
    /// The file cannot be written. Nothing changed.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The file says something else than we wrote.
    #[error("{}: {error}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: serde_json::Error,
    },
}

/// All bans. Its lock is held for a look-up, and while an operator's change is written.
#[derive(Debug)]
pub struct Bans {
    path: Option<PathBuf>,
    table: RwLock<Table>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    bans: BTreeMap<Banned, Ban>,
    /// Lengths of the networks in it, so that an address is looked up a few times instead of compared with each.
    lengths: HashMap<(bool, u8), usize>,
}

impl Bans {
    /// In memory only.
    pub(crate) fn in_memory() -> Self {
        Self { path: None, table: RwLock::default() }
    }

    /// Those of a data directory.
    ///
    /// # Errors
    /// [`BanError`] names the file: a broker that cannot read its bans does not let everybody in.
    pub(crate) fn open(directory: &Path) -> Result<Self, BanError> {
        let path = directory.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => b"[]".to_vec(),
            Err(error) => return Err(BanError::Io { path, error }),
        };
        let bans: Vec<Ban> =
            serde_json::from_slice(&text).map_err(|error| BanError::Damaged { path: path.clone(), error })?;
        let mut table = Table::default();
        bans.into_iter().for_each(|ban| table.insert(ban));
        Ok(Self { path: Some(path), table: RwLock::new(table) })
    }

    /// Whether a client may not connect now.
    pub fn is_banned(&self, suspect: Suspect<'_>, now: Time) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        !table.bans.is_empty() && table.finds(suspect, now)
    }

    /// Puts a ban in force, instead of an earlier one about the same. It is on disk when this returns; blocks for that
    /// long. Whoever is connected is the caller's to end.
    ///
    /// # Errors
    /// [`BanError`]; nothing changed then.
    pub(crate) fn add(&self, ban: Ban, now: Time) -> Result<(), BanError> {
        ban.check()?;
        self.change(|table| {
            table.forget_over(now);
            if table.bans.len() >= BANS_MAX && !table.bans.contains_key(&ban.banned) {
                return Err(BanError::TooMany);
            }
            table.insert(ban);
            Ok(())
        })
    }

    /// Lifts a ban; whether there was one. Blocks until that is on disk.
    ///
    /// # Errors
    /// [`BanError::Io`]; nothing changed then.
    pub fn remove(&self, banned: &Banned) -> Result<bool, BanError> {
        self.change(|table| Ok(table.remove(banned)))
    }

    /// What is in force, in a fixed order, behind `after`.
    pub fn list(&self, after: Option<&Banned>, limit: usize, now: Time) -> Vec<Ban> {
        use std::ops::Bound::{Excluded, Unbounded};
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Unbounded, Excluded);
        let in_force =
            table.bans.range((from, Unbounded)).map(|(_, ban)| ban).filter(|ban| !ban.is_over(now));
        in_force.take(limit).cloned().collect()
    }

    /// Memory follows the disk, not the other way round.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> Result<T, BanError>) -> Result<T, BanError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = table.clone();
        let result = change(&mut new)?;
        if let Some(path) = &self.path {
            let all: Vec<&Ban> = new.bans.values().collect();
            let written = serde_json::to_string_pretty(&all).map_err(io::Error::from);
            written
                .and_then(|text| replace(path, &text))
                .map_err(|error| BanError::Io { path: path.clone(), error })?;
        }
        *table = new;
        Ok(result)
    }
}

impl Ban {
    fn is_over(&self, now: Time) -> bool {
        self.until_ms.is_some_and(|until| until <= now.0)
    }

    fn check(&self) -> Result<(), BanError> {
        let (app, name) = match &self.banned {
            Banned::ClientId { app, client_id } => (app.as_ref(), client_id.as_str()),
            Banned::User { app, user } => (app.as_ref(), user.as_str()),
            Banned::Address { .. } => (None, "-"),
        };
        let is_app = app.is_none_or(|app| AppId::parse(app).is_ok());
        match is_app && !name.is_empty() && self.reason.chars().count() <= REASON_MAX {
            true => Ok(()),
            false => Err(BanError::Form),
        }
    }
}

impl Banned {
    /// Whether it is about this client.
    pub fn means(&self, suspect: Suspect<'_>) -> bool {
        let is_app = |app: &Option<String>| app.as_ref().is_none_or(|app| app == suspect.app);
        match self {
            Self::ClientId { app, client_id } => client_id == suspect.client_id && is_app(app),
            Self::User { app, user } => suspect.user == Some(user.as_str()) && is_app(app),
            Self::Address { network } => suspect.address.is_some_and(|address| network.contains(address)),
        }
    }
}

impl Table {
    fn insert(&mut self, ban: Ban) {
        self.remove(&ban.banned);
        if let Banned::Address { network } = &ban.banned {
            *self.lengths.entry((network.address.is_ipv4(), network.bits)).or_default() += 1;
        }
        self.bans.insert(ban.banned.clone(), ban);
    }

    fn remove(&mut self, banned: &Banned) -> bool {
        let was_there = self.bans.remove(banned).is_some();
        if let (true, Banned::Address { network }) = (was_there, banned) {
            let length = (network.address.is_ipv4(), network.bits);
            if let Some(count) = self.lengths.get_mut(&length) {
                *count = count.saturating_sub(1);
            }
            self.lengths.retain(|_, count| *count > 0);
        }
        was_there
    }

    fn forget_over(&mut self, now: Time) {
        let over: HashSet<Banned> =
            self.bans.values().filter(|ban| ban.is_over(now)).map(|ban| ban.banned.clone()).collect();
        for banned in over {
            self.remove(&banned);
        }
    }

    fn finds(&self, suspect: Suspect<'_>, now: Time) -> bool {
        let is_in_force = |banned: &Banned| self.bans.get(banned).is_some_and(|ban| !ban.is_over(now));
        let apps = [None, Some(suspect.app.to_owned())];
        let is_named = apps.into_iter().any(|app| {
            is_in_force(&Banned::ClientId { app: app.clone(), client_id: suspect.client_id.to_owned() })
                || suspect.user.is_some_and(|user| is_in_force(&Banned::User { app, user: user.to_owned() }))
        });
        is_named
            || suspect.address.map(|address| address.to_canonical()).is_some_and(|address| {
                let lengths = self.lengths.keys().filter(|(is_v4, _)| *is_v4 == address.is_ipv4());
                lengths
                    .map(|(_, bits)| Subnet::new(address, *bits))
                    .any(|network| is_in_force(&Banned::Address { network }))
            })
    }
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address, as in 192.0.2.7, or its beginning, as in 192.0.2.0/24")]
pub struct NoSubnet;

impl Subnet {
    fn new(address: IpAddr, bits: u8) -> Self {
        let address = match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        Self { address, bits }
    }

    /// Whether an address is in it. An IPv4 address that came through a socket of IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.bits) == *self
    }
}

impl FromStr for Subnet {
    type Err = NoSubnet;

    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = address.parse::<IpAddr>().map_err(|_| NoSubnet)?.to_canonical();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(longest), |bits| bits.parse::<u8>().map_err(|_| NoSubnet))?;
        if bits > longest {
            return Err(NoSubnet);
        }
        Ok(Self::new(address, bits))
    }
}

impl TryFrom<String> for Subnet {
    type Error = NoSubnet;

    fn try_from(text: String) -> Result<Self, NoSubnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(network: Subnet) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        match self.bits == longest {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000);

    fn suspect<'a>(app: &'a str, client_id: &'a str, user: Option<&'a str>, address: &str) -> Suspect<'a> {
        Suspect { app, client_id, user, address: address.parse().ok() }
    }

    fn ban(banned: Banned, until_ms: Option<u64>) -> Ban {
        Ban { banned, until_ms, reason: "test".into() }
    }

    fn client(app: Option<&str>, client_id: &str) -> Banned {
        Banned::ClientId { app: app.map(str::to_owned), client_id: client_id.to_owned() }
    }

    fn network(text: &str) -> Banned {
        Banned::Address { network: text.parse().unwrap() }
    }

    #[test]
    fn a_ban_finds_whom_it_means() {
        let bans = Bans::in_memory();
        let user = |app: Option<&str>, user: &str| Banned::User {
            app: app.map(str::to_owned),
            user: user.to_owned(),
        };
        for banned in [
            client(None, "everywhere"),
            client(Some("shop"), "one"),
            user(Some("shop"), "ann"),
            network("192.0.2.0/24"),
            network("2001:db8::/32"),
            network("198.51.100.7"),
        ] {
            bans.add(ban(banned, None), NOW).unwrap();
        }
        let rows = [
            (suspect("bank", "everywhere", None, ""), true),
            (suspect("shop", "one", None, ""), true),
            (suspect("bank", "one", None, ""), false),
            (suspect("shop", "x", Some("ann"), ""), true),
            (suspect("bank", "x", Some("ann"), ""), false),
            (suspect("shop", "ann", Some("one"), ""), false),
            (suspect("shop", "x", None, "192.0.2.200"), true),
            (suspect("shop", "x", None, "::ffff:192.0.2.1"), true),
            (suspect("shop", "x", None, "192.0.3.1"), false),
            (suspect("shop", "x", None, "2001:db8:1::1"), true),
            (suspect("shop", "x", None, "2001:db9::1"), false),
            (suspect("shop", "x", None, "198.51.100.7"), true),
            (suspect("shop", "x", None, "198.51.100.8"), false),
        ];
        for (suspect, wanted) in rows {
            assert_eq!(bans.is_banned(suspect, NOW), wanted, "{suspect:?}");
            let means = bans.list(None, 99, NOW).iter().any(|ban| ban.banned.means(suspect));
            assert_eq!(means, wanted, "{suspect:?}");
        }
    }

    #[test]
    fn a_ban_ends_when_it_said_and_when_it_is_lifted() {
        let bans = Bans::in_memory();
        bans.add(ban(client(None, "c"), Some(2_000)), NOW).unwrap();
        bans.add(ban(network("10.0.0.0/8"), None), NOW).unwrap();
        let here = suspect("a", "x", None, "10.1.1.1");
        assert!(bans.is_banned(suspect("a", "c", None, ""), Time(1_999)));
        assert!(!bans.is_banned(suspect("a", "c", None, ""), Time(2_000)));
        assert_eq!(bans.list(None, 9, Time(2_000)).len(), 1);
        assert!(bans.is_banned(here, NOW));
        assert!(bans.remove(&network("10.0.0.0/8")).unwrap());
        assert!(!bans.remove(&network("10.0.0.0/8")).unwrap());
        assert!(!bans.is_banned(here, NOW));
    }

    #[test]
    fn bans_outlive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let bans = Bans::open(directory.path()).unwrap();
        bans.add(ban(client(Some("shop"), "设备"), Some(9_000)), NOW).unwrap();
        bans.add(ban(network("2001:db8::/32"), None), NOW).unwrap();
        bans.add(ban(client(None, "gone"), None), NOW).unwrap();
        bans.remove(&client(None, "gone")).unwrap();
        let again = Bans::open(directory.path()).unwrap();
        assert_eq!(again.list(None, 9, NOW), bans.list(None, 9, NOW));
        assert!(again.is_banned(suspect("a", "x", None, "2001:db8::1"), NOW));
        let first = again.list(None, 1, NOW);
        assert_eq!(again.list(Some(&first[0].banned), 9, NOW).len(), 1, "the rest");
        std::fs::write(directory.path().join(FILE), "[{").unwrap();
        assert!(matches!(Bans::open(directory.path()), Err(BanError::Damaged { .. })));
    }

    #[test]
    fn a_ban_that_says_nothing_is_refused() {
        let bans = Bans::in_memory();
        for banned in [client(None, ""), client(Some("No App"), "x")] {
            assert!(matches!(bans.add(ban(banned, None), NOW), Err(BanError::Form)));
        }
        let long = Ban { reason: "x".repeat(257), ..ban(client(None, "x"), None) };
        assert!(matches!(bans.add(long, NOW), Err(BanError::Form)));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0", "10.0.0.0/-1", "10.0.0.0/x"] {
            assert_eq!(bad.parse::<Subnet>(), Err(NoSubnet), "{bad}");
        }
        assert_eq!("10.1.2.3/8".parse::<Subnet>().unwrap().to_string(), "10.0.0.0/8");
    }
}
