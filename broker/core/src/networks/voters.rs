//! Who says what about one network: a bracket for each device, and how much each of them counts.
//!
//! Nobody votes twice, nobody votes on his first day's first hour, and all devices behind one address together count for
//! a fifth at most: so a liar has to have devices at many addresses of one network, and spoils no other.

use super::Device;
use crate::message::Time;
use reveille_proto::heartbeat::Bracket;
use std::collections::HashMap;
use std::time::Duration;

/// Voters of one network. A sample of so many tells a fifth percentile to two percent, and a network that has more
/// devices keeps the newest.
pub(super) const VOTERS_MAX: usize = 128;

/// How long a vote counts: networks are rebuilt.
const VOTE_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The share that devices behind one address may have together.
const ADDRESS_SHARE_MAX: f64 = 0.2;

/// What one device knows of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Which device.
    pub device: Device,
    /// A number for the address that it came from last.
    pub address: u32,
    /// When it was first heard of here.
    pub since: Time,
    /// When it was last heard of here.
    pub seen: Time,
    /// What it knows.
    pub bracket: Bracket,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Voters(Vec<Voter>);

impl Voters {
    pub fn recovered(mut voters: Vec<Voter>) -> Self {
        voters.truncate(VOTERS_MAX);
        Self(voters)
    }

    pub fn as_slice(&self) -> &[Voter] {
        &self.0
    }

    /// The bracket of a device, to be changed.
    pub fn bracket(&mut self, device: Device, address: u32, now: Time) -> &mut Bracket {
        let at = match self.0.iter().position(|voter| voter.device == device) {
            Some(at) => at,
            None => {
                self.make_room();
                self.0.push(Voter { device, address, since: now, seen: now, bracket: Bracket::default() });
                self.0.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "found by its position, or pushed just now")]
        let voter = &mut self.0[at];
        (voter.address, voter.seen) = (address, now);
        &mut voter.bracket
    }

    /// Who was silent for the longest goes, among those of the address that has the most: a crowd displaces itself.
    fn make_room(&mut self) {
        if self.0.len() < VOTERS_MAX {
            return;
        }
        let counts = self.by_address(|_| true);
        let oldest = |(_, voter): &(usize, &Voter)| {
            let crowd = counts.get(&voter.address).copied().unwrap_or(0);
            (std::cmp::Reverse(crowd), voter.seen)
        };
        if let Some((at, _)) = self.0.iter().enumerate().min_by_key(oldest) {
            self.0.swap_remove(at);
        }
    }

    fn by_address(&self, counts: impl Fn(&Voter) -> bool) -> HashMap<u32, usize> {
        let mut found = HashMap::new();
        for voter in self.0.iter().filter(|voter| counts(voter)) {
            *found.entry(voter.address).or_default() += 1;
        }
        found
    }

    /// Forgets those that were not heard of for a month.
    pub fn forget_old(&mut self, now: Time) {
        self.0.retain(|voter| now.since(voter.seen) < VOTE_AGE_MAX);
    }

    /// Whether somebody will vote who does not yet.
    pub fn has_younger(&self, age_min: Duration, now: Time) -> bool {
        self.0.iter().any(|voter| now.since(voter.since) < age_min)
    }

    /// Brackets that count, with their weights: at most 1 each.
    pub fn counted(&self, age_min: Duration, now: Time) -> Vec<(Bracket, f64)> {
        let is_counted = |voter: &Voter| now.since(voter.since) >= age_min && voter.bracket.vote().is_some();
        let counts = self.by_address(is_counted);
        let share = address_share(counts.values().copied().collect());
        let weight = |voter: &Voter| {
            let crowd = counts.get(&voter.address).copied().unwrap_or(1) as f64;
            (voter.bracket, crowd.min(share) / crowd)
        };
        self.0.iter().filter(|voter| is_counted(voter)).map(weight).collect()
    }
}

/// How many votes of one address count: the most for which none has more than its share of all that count. Where there
/// are fewer than five addresses they are all equal, because no other split is fairer.
fn address_share(mut counts: Vec<usize>) -> f64 {
    counts.sort_unstable();
    let (addresses, mut below, mut best) = (counts.len(), 0, 0);
    let share = ADDRESS_SHARE_MAX.max(1.0 / addresses.max(1) as f64);
    for (at, count) in counts.into_iter().enumerate() {
        // With `count` as the bound, those before count in full and those from here on for `count` each.
        let sum = below + count * (addresses - at);
        if count as f64 <= share * sum as f64 + 1e-9 {
            best = count;
        }
        below += count;
    }
    best as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_proto::heartbeat::Gap;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn told(voters: &mut Voters, device: u64, address: u32, lo: u16, now: Time) {
        voters.bracket(Device(device), address, now).survived(Gap(lo));
    }

    #[test]
    fn a_device_votes_once_and_after_an_hour() {
        let mut voters = Voters::default();
        let start = Time(1_000_000);
        for lo in [100, 300, 200] {
            told(&mut voters, 7, 1, lo, start);
        }
        assert_eq!(voters.as_slice().len(), 1);
        assert!(voters.counted(HOUR, start + HOUR / 2).is_empty());
        let counted = voters.counted(HOUR, start + HOUR);
        assert_eq!(
            counted.iter().map(|(bracket, weight)| (bracket.lo, *weight)).collect::<Vec<_>>(),
            [(Gap(300), 1.0)]
        );
        voters.forget_old(start + VOTE_AGE_MAX);
        assert!(voters.as_slice().is_empty(), "after a month");
    }

    #[test]
    fn one_address_counts_for_a_fifth_however_many_devices_it_has() {
        let mut voters = Voters::default();
        for honest in 0..10 {
            told(&mut voters, honest, honest as u32, 300, Time(0));
        }
        for liar in 0..90 {
            told(&mut voters, 1_000 + liar, 99, 2_000, Time(0));
        }
        let counted = voters.counted(Duration::ZERO, Time(1));
        let weight = |lo| counted.iter().filter(|(b, _)| b.lo == Gap(lo)).map(|(_, w)| w).sum::<f64>();
        assert!((weight(300) - 10.0).abs() < 1e-9, "the honest count in full");
        let share = weight(2_000) / (weight(300) + weight(2_000));
        assert!(share <= ADDRESS_SHARE_MAX, "{share}");
    }

    #[test]
    fn few_addresses_count_alike() {
        for (counts, wanted) in [
            (vec![], 0.0),
            (vec![100], 100.0),
            (vec![90, 10], 10.0),
            (vec![5, 5, 5], 5.0),
            (vec![1, 1, 1, 1, 1, 1, 1, 1, 100], 1.0),
            (vec![4, 4, 4, 4, 4, 4], 4.0),
        ] {
            assert_eq!(address_share(counts.clone()), wanted, "{counts:?}");
        }
    }

    #[test]
    fn a_crowd_displaces_itself_and_not_the_others() {
        let mut voters = Voters::default();
        for honest in 0..20 {
            told(&mut voters, honest, honest as u32, 300, Time(honest));
        }
        for liar in 0..10_000 {
            told(&mut voters, 1_000 + liar, 99, 2_000, Time(1_000 + liar));
        }
        assert_eq!(voters.as_slice().len(), VOTERS_MAX);
        assert_eq!(voters.as_slice().iter().filter(|voter| voter.address != 99).count(), 20);
    }
}
