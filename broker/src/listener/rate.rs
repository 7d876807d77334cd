//! How many connections may come in a second: token buckets for a listener and for each address.

use super::TurnedAway;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Addresses remembered for one listener, at some 50 bytes each. When so many have come within a second or two, those that
/// are not among them share one bucket.
const ADDRESSES_MAX: usize = 65_536;

/// The rates of one listener.
#[derive(Debug)]
pub(super) struct Rates {
    all: Option<Mutex<Bucket>>,
    by_address: Option<Mutex<ByAddress>>,
}

impl Rates {
    /// So many a second, at least one, in all and from one address; absent: as many as come.
    pub(super) fn new(all: Option<u32>, of_address: Option<u32>) -> Self {
        Self {
            all: all.map(|rate| Mutex::new(Bucket::new(rate))),
            by_address: of_address.map(|rate| Mutex::new(ByAddress::new(rate))),
        }
    }

    /// Counts one connection. That of an address comes first: one that floods shall not use up what others may.
    pub(super) fn take(&self, address: Option<IpAddr>, now: Instant) -> Result<(), TurnedAway> {
        if let Some(address) = address {
            self.take_of_address(address, now)?;
        }
        match &self.all {
            Some(bucket) if !lock(bucket).take(now) => Err(TurnedAway::Rate),
            Some(_) | None => Ok(()),
        }
    }

    /// Counts one connection of an address.
    pub(super) fn take_of_address(&self, address: IpAddr, now: Instant) -> Result<(), TurnedAway> {
        match &self.by_address {
            Some(table) if !lock(table).take(address, now) => Err(TurnedAway::AddressRate),
            Some(_) | None => Ok(()),
        }
    }
}

/// A panic elsewhere leaves a bucket whole: it is two numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tokens that come back with time, at most those of one second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    per_second: u32,
    /// When it is full again: a time instead of a count, so that nothing has to be filled up. Absent: it is full.
    full_at: Option<Instant>,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1); // refused by the configuration's check
        Self { per_second, full_at: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        let token = Duration::from_secs(1) / self.per_second;
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + token;
        // A nanosecond for each token: a second does not divide evenly.
        let is_there = full_at.saturating_duration_since(now) <= Duration::from_secs(1);
        if is_there {
            self.full_at = Some(full_at);
        }
        is_there
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[derive(Debug)]
struct ByAddress {
    per_second: u32,
    buckets: HashMap<IpAddr, Bucket>,
    /// Of addresses that found no room.
    others: Bucket,
    /// When full buckets were forgotten last.
    swept_at: Option<Instant>,
}

impl ByAddress {
    fn new(per_second: u32) -> Self {
        Self { per_second, buckets: HashMap::new(), others: Bucket::new(per_second), swept_at: None }
    }

    fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let key = subscriber(address);
        if self.buckets.len() >= ADDRESSES_MAX && !self.buckets.contains_key(&key) && !self.make_room(now) {
            return self.others.take(now);
        }
        self.buckets.entry(key).or_insert(Bucket::new(self.per_second)).take(now)
    }

    /// A full bucket says no more than none. Looks through them once a second at most: a flood shall not make us look
    /// again for each connection.
    fn make_room(&mut self, now: Instant) -> bool {
        const PAUSE: Duration = Duration::from_secs(1);
        if self.swept_at.is_some_and(|swept_at| now.saturating_duration_since(swept_at) < PAUSE) {
            return false;
        }
        self.swept_at = Some(now);
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        self.buckets.len() < ADDRESSES_MAX
    }
}

/// What one subscriber of a network has: an IPv4 address, or a /64 of IPv6, in which it picks addresses as it likes.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_bucket_gives_what_a_second_holds_and_then_as_much_as_comes_back() {
        for per_second in [1, 3, 7, 1_000] {
            let (mut bucket, now) = (Bucket::new(per_second), Instant::now());
            let at_once = (0..2 * per_second).filter(|_| bucket.take(now)).count();
            assert_eq!(at_once, per_second as usize);
            assert!(!bucket.is_full(now));
            let later = now + Duration::from_secs(1) / per_second + Duration::from_nanos(1);
            assert!(bucket.take(later), "one came back");
            assert!(!bucket.take(later));
            assert!(bucket.is_full(later + Duration::from_secs(2)));
        }
    }

    #[test]
    fn an_address_that_floods_takes_nothing_from_others() {
        let (rates, now) = (Rates::new(Some(4), Some(2)), Instant::now());
        let [noisy, calm] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        assert_eq!(rates.take(Some(noisy), now), Ok(()));
        assert_eq!(rates.take(Some(noisy), now), Ok(()));
        for _ in 0..10 {
            assert_eq!(rates.take(Some(noisy), now), Err(TurnedAway::AddressRate));
        }
        assert_eq!(rates.take(Some(calm), now), Ok(()));
        assert_eq!(rates.take(None, now), Ok(()));
        assert_eq!(rates.take(Some(calm), now), Err(TurnedAway::Rate), "four in all");
    }

    #[test]
    fn one_network_of_ipv6_is_one_subscriber() {
        let address = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let (mut table, now) = (ByAddress::new(1), Instant::now());
        let address = |no: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(no).unwrap()));
        for no in 0..ADDRESSES_MAX {
            assert!(table.take(address(no), now));
        }
        assert!(table.take(address(ADDRESSES_MAX), now), "the one bucket of the others");
        assert!(!table.take(address(ADDRESSES_MAX + 1), now));
        assert_eq!(table.buckets.len(), ADDRESSES_MAX);
        let later = now + Duration::from_secs(2);
        assert!(table.take(address(ADDRESSES_MAX + 1), later), "those that are full again made room");
        assert_eq!(table.buckets.len(), 1);
    }
}
