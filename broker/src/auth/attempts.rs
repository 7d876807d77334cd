//! How many wrong credentials an address and a user name may still send. Right ones cost nothing, so that a million phones
//! behind one address of a mobile network come in.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Addresses, and user names, that are remembered. Whoever failed longest ago goes first.
const ENTRIES_MAX: usize = 65_536;

/// Bytes of a user name that tell it from others here.
const NAME_BYTES: usize = 64;

/// How much is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Failures of one address at once; 0: no bound.
    pub(crate) address: u32,
    /// Failures for one user name at once; 0: no bound.
    pub(crate) user: u32,
    /// After so long one more.
    pub(crate) recovery: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Attempts {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    addresses: HashMap<IpAddr, Failures>,
    users: HashMap<String, Failures>,
}

/// A token bucket that is counted from the other side: failures, of which time takes some away.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Failures {
    fn left(self, recovery: Duration, now: Instant) -> u32 {
        let recovered = now.saturating_duration_since(self.since).as_millis() / recovery.as_millis().max(1);
        self.count.saturating_sub(u32::try_from(recovered).unwrap_or(u32::MAX))
    }

    fn add(&mut self, recovery: Duration, now: Instant) {
        let left = self.left(recovery, now);
        if left < self.count {
            self.since = now; // what was begun of the next recovery is lost, to the loss of whoever fails
        }
        self.count = left.saturating_add(1);
    }
}

impl Attempts {
    /// Nobody failed yet.
    pub(crate) fn new() -> Self {
        Self { tables: Mutex::default() }
    }

    /// Whether a credential from there, for this name, is looked at.
    pub(crate) fn may_try(
        &self,
        allowed: Allowed,
        address: Option<IpAddr>,
        user: Option<&str>,
        now: Instant,
    ) -> bool {
        let tables = self.lock();
        let left =
            |failures: Option<&Failures>| failures.map_or(0, |failures| failures.left(allowed.recovery, now));
        let address_left = address.map_or(0, |address| left(tables.addresses.get(&network(address))));
        let user_left = user.map_or(0, |user| left(tables.users.get(shorten(user))));
        (allowed.address == 0 || address_left < allowed.address)
            && (allowed.user == 0 || user_left < allowed.user)
    }

    /// A credential was wrong.
    pub(crate) fn failed(&self, allowed: Allowed, address: Option<IpAddr>, user: Option<&str>, now: Instant) {
        let mut tables = self.lock();
        if let Some(address) = address.filter(|_| allowed.address > 0) {
            add(&mut tables.addresses, network(address), allowed.recovery, now);
        }
        if let Some(user) = user.filter(|_| allowed.user > 0) {
            add(&mut tables.users, shorten(user).to_owned(), allowed.recovery, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add<K: Hash + Eq + Clone>(table: &mut HashMap<K, Failures>, key: K, recovery: Duration, now: Instant) {
    if table.len() >= ENTRIES_MAX && !table.contains_key(&key) {
        make_room(table, recovery, now);
    }
    table.entry(key).or_insert(Failures { count: 0, since: now }).add(recovery, now);
}

/// Forgets whom time forgave. If that is nobody, the older half goes: a flood from everywhere is what other bounds are for.
fn make_room<K: Hash + Eq + Clone>(table: &mut HashMap<K, Failures>, recovery: Duration, now: Instant) {
    table.retain(|_, failures| failures.left(recovery, now) > 0);
    if table.len() < ENTRIES_MAX {
        return;
    }
    let mut times: Vec<Instant> = table.values().map(|failures| failures.since).collect();
    let half = times.len() / 2;
    let (_, middle, _) = times.select_nth_unstable(half);
    let middle = *middle;
    table.retain(|_, failures| failures.since > middle);
}

/// Whoever has one address of IPv6 usually has the whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

fn shorten(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowed = Allowed { address: 3, user: 2, recovery: Duration::from_secs(10) };

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn whoever_fails_too_often_waits_and_others_do_not() {
        let attempts = Attempts::new();
        let now = Instant::now();
        let (here, there) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..3 {
            assert!(attempts.may_try(ALLOWED, here, None, now));
            attempts.failed(ALLOWED, here, None, now);
        }
        assert!(!attempts.may_try(ALLOWED, here, None, now));
        assert!(attempts.may_try(ALLOWED, there, None, now));
        assert!(!attempts.may_try(ALLOWED, here, None, now + Duration::from_secs(9)));
        let later = now + Duration::from_secs(10);
        assert!(attempts.may_try(ALLOWED, here, None, later));
        attempts.failed(ALLOWED, here, None, later);
        assert!(!attempts.may_try(ALLOWED, here, None, later), "one more, not three more");
        assert!(attempts.may_try(Allowed { address: 0, ..ALLOWED }, here, None, later), "no bound");
    }

    #[test]
    fn a_user_name_is_watched_from_wherever_it_is_tried() {
        let attempts = Attempts::new();
        let now = Instant::now();
        attempts.failed(ALLOWED, address("192.0.2.1"), Some("ann"), now);
        attempts.failed(ALLOWED, address("192.0.2.2"), Some("ann"), now);
        assert!(!attempts.may_try(ALLOWED, address("192.0.2.3"), Some("ann"), now));
        assert!(attempts.may_try(ALLOWED, address("192.0.2.3"), Some("bob"), now));
        let (long, longer) = ("x".repeat(100), "x".repeat(200));
        attempts.failed(ALLOWED, None, Some(&long), now);
        attempts.failed(ALLOWED, None, Some(&longer), now);
        assert!(
            !attempts.may_try(ALLOWED, None, Some(&long), now),
            "a long name costs no more than a short one"
        );
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let attempts = Attempts::new();
        let now = Instant::now();
        for host in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"] {
            attempts.failed(ALLOWED, address(host), None, now);
        }
        assert!(!attempts.may_try(ALLOWED, address("2001:db8::9"), None, now));
        assert!(attempts.may_try(ALLOWED, address("2001:db8:0:1::9"), None, now));
        attempts.failed(ALLOWED, address("::ffff:192.0.2.1"), None, now);
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), network("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn the_table_has_a_bound() {
        let mut table = HashMap::new();
        let now = Instant::now();
        for no in 0..u32::try_from(ENTRIES_MAX).unwrap() + 100 {
            add(&mut table, no, Duration::from_secs(10), now + Duration::from_micros(u64::from(no)));
        }
        assert!(table.len() <= ENTRIES_MAX, "{}", table.len());
        assert!(table.contains_key(&(u32::try_from(ENTRIES_MAX).unwrap() + 99)), "the newest stays");
    }
}
