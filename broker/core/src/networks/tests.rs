//! What is believed, what is not, and what comes out of it.

use super::*;
use reveille_proto::heartbeat::Network;

const S: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Networks with a clock.
struct Bench {
    networks: Networks,
    now: Time,
}

fn bench() -> Bench {
    bench_with(NetworkRules::default())
}

fn bench_with(rules: NetworkRules) -> Bench {
    Bench { networks: Networks::new(rules), now: Time(1_790_000_000_000) }
}

fn at(address: &str, network: Option<&str>) -> Origin {
    Origin { address: address.parse().unwrap(), network: network.map(|text| Network::parse(text).unwrap()) }
}

/// One of the devices, at an address of its own in one /24.
fn of(device: u64, network: Option<&str>) -> (u64, Origin) {
    (device, at(&format!("203.0.113.{}", device % 256), network))
}

impl Bench {
    fn see(&mut self, (device, origin): &(u64, Origin), seen: Seen) {
        let sighting = Sighting { device: Device(*device), origin: origin.clone(), is_known: true, seen };
        self.networks.handle(&sighting, self.now);
    }

    fn wait(&mut self, length: Duration) {
        self.now = self.now + length;
        for key in self.networks.tick(self.now) {
            self.networks.estimate(&key, self.now);
        }
    }

    /// Goes silent and comes back after a while, somewhere.
    fn dies(&mut self, who: &(u64, Origin), idle: Duration, back: &(u64, Origin)) {
        self.see(who, Seen::Left(Leaving::Silent(idle)));
        self.now = self.now + 30 * S;
        self.see(back, Seen::Came);
        self.wait(11 * S);
    }

    fn bracket(&self, device: u64) -> Option<Bracket> {
        let known = self.networks.known.values();
        let voters = known.flat_map(|known| known.voters.as_slice());
        voters.filter(|voter| voter.device == Device(device)).map(|voter| voter.bracket).next()
    }

    fn advice(&self, origin: &Origin) -> Advice {
        self.networks.advice(origin).unwrap()
    }
}

#[test]
fn a_silence_that_was_survived_is_known_for_both_networks_and_outlives_a_restart() {
    let mut bench = bench();
    let device = of(1, Some("4g"));
    bench.see(&device, Seen::Came);
    bench.see(&device, Seen::Survived(300 * S));
    assert_eq!(bench.bracket(1).unwrap().lo, Gap(300));
    let keys: Vec<_> = bench.networks.list(None, 10).iter().map(|view| view.key.to_string()).collect();
    assert_eq!(keys, ["203.0.0.0/16 4g", "203.0.113.0/24 4g"]);
    let dirty = bench.networks.take_dirty(bench.now, true);
    assert_eq!(bench.networks.take_dirty(bench.now, true), [], "once");
    let mut next = bench_with(NetworkRules::default());
    for (key, record) in dirty {
        next.networks.recover(key, record.unwrap());
    }
    assert_eq!(next.bracket(1).unwrap().lo, Gap(300));
}

#[test]
fn only_a_silent_death_whose_device_returns_on_the_same_network_counts() {
    let here = of(1, None);
    let rows = [
        ("back at once", here.clone(), Leaving::Silent(400 * S), 30, Some(Gap(400))),
        ("back from another prefix", (1, at("198.51.100.1", None)), Leaving::Silent(400 * S), 30, None),
        ("back after eleven minutes", here.clone(), Leaving::Silent(400 * S), 660, None),
        ("told", here.clone(), Leaving::Told, 30, None),
        ("reset", here.clone(), Leaving::Reset, 30, None),
        ("taken over", here.clone(), Leaving::TakenOver { idle: 400 * S, is_unanswered: false }, 0, None),
        (
            "taken over, unanswered",
            here.clone(),
            Leaving::TakenOver { idle: 400 * S, is_unanswered: true },
            0,
            Some(Gap(400)),
        ),
    ];
    for (name, back, leaving, after_s, wanted) in rows {
        let mut bench = bench();
        bench.see(&here, Seen::Came);
        bench.see(&here, Seen::Left(leaving));
        bench.now = bench.now + after_s * S;
        bench.see(&back, Seen::Came);
        assert_eq!(bench.bracket(1), None, "{name}: not before the storm filter has seen it");
        bench.wait(11 * S);
        assert_eq!(bench.bracket(1).and_then(|bracket| bracket.hi), wanted, "{name}");
    }
}

#[test]
fn a_device_that_tunes_says_itself_at_which_gap_and_is_believed_as_far_as_the_broker_saw() {
    for (claim_s, wanted) in [(300, Some(Gap(300))), (402, Some(Gap(402))), (403, None), (60_000, None)] {
        let mut bench = bench();
        let device = of(1, Some("4g,46000"));
        bench.see(&device, Seen::Left(Leaving::TakenOver { idle: 400 * S, is_unanswered: false }));
        bench.see(&device, Seen::Came);
        bench.see(&device, Seen::Claimed(claim_s * S));
        bench.see(&device, Seen::Claimed(claim_s * S));
        bench.wait(11 * S);
        assert_eq!(bench.bracket(1).and_then(|bracket| bracket.hi), wanted, "{claim_s}");
        assert!(bench.bracket(1).is_none_or(|bracket| bracket.deaths == 1), "one death, one vote");
    }
    let mut bench = bench();
    bench.see(&of(1, Some("4g")), Seen::Claimed(300 * S));
    bench.wait(11 * S);
    assert_eq!((bench.bracket(1), bench.networks.counters().disbelieved), (None, 1), "no silence was seen");
}

#[test]
fn a_device_may_take_its_time_to_say_so_but_not_for_ever() {
    for (after_s, believed) in [(1_700, true), (3_700, false)] {
        let mut bench = bench();
        let device = of(1, Some("4g,46000"));
        bench.see(&device, Seen::Left(Leaving::Silent(400 * S)));
        bench.see(&device, Seen::Came);
        bench.wait(after_s / 2 * S);
        bench.see(&device, Seen::Left(Leaving::Told));
        bench.see(&device, Seen::Came);
        bench.wait(after_s / 2 * S);
        bench.see(&device, Seen::Claimed(350 * S));
        bench.wait(11 * S);
        assert_eq!(bench.bracket(1).is_some(), believed, "{after_s}");
        assert_eq!(bench.networks.counters().unreturned, 0);
    }
}

#[test]
fn a_device_of_3_1_1_says_its_network_later_and_is_believed_all_the_same() {
    let mut bench = bench();
    let told = of(1, Some("wifi,home"));
    bench.see(&told, Seen::Left(Leaving::Silent(400 * S)));
    bench.see(&of(1, None), Seen::Came);
    bench.see(&of(1, None), Seen::Left(Leaving::Told));
    bench.see(&told, Seen::Came);
    bench.see(&told, Seen::Claimed(350 * S));
    bench.wait(11 * S);
    assert_eq!(bench.bracket(1).and_then(|bracket| bracket.hi), Some(Gap(350)));
}

#[test]
fn a_storm_teaches_nothing() {
    for (deaths, believed) in [(3, 3), (4, 0), (200, 0)] {
        let mut bench = bench();
        for device in 0..deaths {
            bench.see(&of(device, None), Seen::Came);
            bench.see(&of(device, None), Seen::Left(Leaving::Silent(100 * S)));
        }
        for device in 0..deaths {
            bench.see(&of(device, None), Seen::Came);
        }
        bench.wait(11 * S);
        assert_eq!(bench.networks.counters().deaths, believed, "{deaths}");
        assert_eq!(bench.networks.counters().storms, deaths - believed);
    }
}

#[test]
fn who_shows_no_credential_has_no_vote() {
    for (trusts_unknown, wanted) in [(false, 0), (true, 2)] {
        let mut bench = bench_with(NetworkRules { trusts_unknown, ..NetworkRules::default() });
        let (device, origin) = of(1, None);
        let seen = Seen::Survived(300 * S);
        let sighting = Sighting { device: Device(device), origin, is_known: false, seen };
        bench.networks.handle(&sighting, bench.now);
        assert_eq!(bench.networks.list(None, 10).len(), wanted);
    }
}

/// Devices behind a timeout of five minutes who know that.
fn fleet(bench: &mut Bench, devices: std::ops::Range<u64>, network: Option<&str>) {
    for device in devices {
        let device = of(device, network);
        bench.see(&device, Seen::Came);
        bench.see(&device, Seen::Survived(280 * S));
        for _ in 0..2 {
            bench.see(&device, Seen::Left(Leaving::Silent(310 * S)));
            bench.see(&device, Seen::Came);
            bench.see(&device, Seen::Claimed(310 * S));
            bench.wait(60 * S);
        }
    }
}

#[test]
fn the_next_device_begins_near_the_right_interval_on_this_network_and_its_surroundings() {
    let mut bench = bench();
    let unknown = bench.advice(&of(99, Some("4g")).1);
    assert_eq!((unknown.config.stay, unknown.config.quantiles), (None, None));
    fleet(&mut bench, 0..20, Some("4g"));
    bench.wait(2 * HOUR);
    let near = bench.advice(&of(99, Some("4g")).1).config;
    assert!((200..=300).contains(&near.stay.unwrap().0), "{near}");
    let quantiles = near.quantiles.unwrap().0;
    assert!(quantiles[2] > Gap(250) && quantiles[3] < Gap(330), "{near}");
    let around = bench.advice(&at("203.0.7.7", Some("4g"))).config;
    assert!((200..=300).contains(&around.stay.unwrap().0), "the wider prefix: {around}");
    assert_eq!(bench.advice(&at("203.0.113.9", Some("wifi"))).config.stay, None, "another radio");
    assert_eq!(bench.advice(&at("198.51.100.1", Some("4g"))).config.stay, None, "another network");
}

#[test]
fn a_plain_client_gets_a_keep_alive_only_when_enough_devices_voted() {
    for (devices, is_told) in [(7, false), (8, true)] {
        let mut bench = bench();
        for device in 0..devices {
            let device = of(device, None);
            bench.see(&device, Seen::Came);
            bench.see(&device, Seen::Survived(200 * S));
            for _ in 0..2 {
                bench.dies(&device, 250 * S, &device);
            }
        }
        bench.wait(2 * HOUR);
        let keep_alive = bench.advice(&of(99, None).1).keep_alive;
        assert_eq!(keep_alive.is_some(), is_told, "{devices}: {keep_alive:?}");
        assert!(keep_alive.is_none_or(|seconds| (60..230).contains(&seconds)), "{keep_alive:?}");
    }
}

#[test]
fn liars_at_one_address_do_not_move_what_the_others_know() {
    let interval = |liars: u64| {
        let mut bench = bench();
        fleet(&mut bench, 0..20, Some("4g"));
        for liar in 0..liars {
            let liar = (1_000 + liar, at("203.0.113.200", Some("4g")));
            bench.see(&liar, Seen::Survived(2_400 * S));
        }
        bench.wait(2 * HOUR);
        bench.advice(&of(99, Some("4g")).1).config.stay.unwrap()
    };
    let (pure, lied_to) = (interval(0), interval(500));
    assert!(lied_to.0.abs_diff(pure.0) * 10 <= pure.0, "{pure:?} {lied_to:?}");
}

#[test]
fn an_operators_interval_wins_and_a_load_balancer_bounds_everything() {
    let named = |interval| NamedNetwork {
        name: "factory".into(),
        prefixes: vec!["10.0.0.0/8".parse().unwrap()],
        interval,
    };
    let rules = NetworkRules { named: vec![named(Some(Gap(120)))], ..NetworkRules::default() };
    let bench = bench_with(rules);
    let origin = at("10.1.2.3", None);
    let advice = bench.advice(&origin);
    assert_eq!((advice.config.stay, advice.keep_alive), (Some(Gap(120)), Some(120)));
    assert_eq!(bench.advice(&at("11.1.2.3", None)).keep_alive, None);
    let mut bench = bench_with(NetworkRules { idle_timeout: Some(Gap(350)), ..NetworkRules::default() });
    let advice = bench.advice(&origin);
    assert_eq!((advice.config.ceiling, advice.keep_alive), (Some(Gap(320)), Some(320)));
    bench.networks.set_rules(NetworkRules { is_on: false, ..NetworkRules::default() });
    assert_eq!(bench.networks.advice(&origin), None);
}

#[test]
fn the_window_grows_with_the_connections() {
    let mut bench = bench();
    for device in 0..10_000 {
        bench.see(&of(device, None), Seen::Came);
    }
    assert_eq!(bench.advice(&of(1, None).1).config.window_s, 12, "1.2 x 10,000 / 1,000 a second");
    for device in 0..10_000 {
        bench.see(&of(device, None), Seen::Left(Leaving::Told));
    }
    assert_eq!(bench.advice(&of(1, None).1).config.window_s, 0);
}

#[test]
fn a_flood_of_networks_displaces_those_that_nobody_voted_on() {
    let mut bench = bench();
    fleet(&mut bench, 0..1, Some("4g"));
    let flood = |number: u64| {
        let address = std::net::Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | (u128::from(number) << 80));
        (number, Origin { address: address.into(), network: None })
    };
    for number in 0..2 * NETWORKS_MAX as u64 {
        bench.see(&flood(number), Seen::Came);
        bench.see(&flood(number), Seen::Left(Leaving::Told));
    }
    assert!(bench.networks.counters().networks <= NETWORKS_MAX as u64);
    assert!(bench.bracket(0).is_some(), "what was learned is kept before what was only seen");
}

#[test]
fn all_times_pass_faster_in_a_test() {
    let mut bench = bench_with(NetworkRules { speed: 100, ..NetworkRules::default() });
    let device = of(1, None);
    bench.see(&device, Seen::Survived(3 * S));
    bench.see(&device, Seen::Left(Leaving::Silent(4 * S)));
    bench.now = bench.now + S;
    bench.see(&device, Seen::Came);
    bench.wait(S / 9);
    let bracket = bench.bracket(1).unwrap();
    assert_eq!((bracket.lo, bracket.hi), (Gap(300), Some(Gap(400))));
    assert_eq!(bench.networks.rules().silence_min(), Some(S * 60 / 100));
}

#[test]
fn a_network_of_which_nobody_was_heard_for_a_month_is_forgotten_on_disk_too() {
    let mut bench = bench();
    let device = of(1, Some("4g"));
    bench.see(&device, Seen::Survived(300 * S));
    bench.wait(HOUR);
    assert_eq!(bench.networks.take_dirty(bench.now, true).len(), 2);
    for _ in 0..31 {
        bench.wait(24 * HOUR);
    }
    assert_eq!(bench.networks.counters().networks, 0);
    let dirty = bench.networks.take_dirty(bench.now, true);
    assert!(dirty.len() == 2 && dirty.iter().all(|(_, record)| record.is_none()), "{dirty:?}");
}
