use super::*;
use reveille_proto::heartbeat::{Bracket, Quantiles};

const KEEP_ALIVE: Duration = Duration::from_secs(1_680);
const ANSWER_MAX: Duration = Duration::from_secs(10);
const TODAY: Day = Day(20_000);

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(1_000_000 + seconds))
}

fn network(radio: Radio) -> Network {
    Network { radio, label: Label::default() }
}

fn learning() -> Heartbeat {
    let learning = Learning::on(network(Radio::G4));
    Heartbeat::new(Some((&learning, Heartbeat::beginner())), ANSWER_MAX)
}

fn advice(quantiles: [u16; 5]) -> Config {
    Config { quantiles: Some(Quantiles(quantiles.map(Gap))), ..Config::default() }
}

/// Beats at its deadline; the moment of it.
fn beat_at_deadline(heartbeat: &mut Heartbeat) -> (Moment, Beat) {
    let now = heartbeat.deadline().unwrap();
    assert_eq!(heartbeat.due(now), Due::Beat);
    let beat = heartbeat.beat();
    heartbeat.asked(now);
    (now, beat)
}

#[test]
fn a_fixed_keep_alive_pings_after_our_own_silence_and_waits_ten_seconds_for_an_answer() {
    let mut heartbeat = Heartbeat::new(None, ANSWER_MAX);
    heartbeat.connected(Duration::from_secs(60), None, TODAY, at(0));
    heartbeat.received(at(50)); // what the broker sends does not count for it [MQTT5-3.1.2-20]
    assert_eq!(heartbeat.deadline(), Some(at(60)));
    let (now, beat) = beat_at_deadline(&mut heartbeat);
    assert_eq!((now, beat), (at(60), Beat::Ping));
    heartbeat.wrote(at(65)); // our own writes prove nothing
    assert_eq!(heartbeat.deadline(), Some(at(70)));
    assert_eq!(heartbeat.due(at(69)), Due::Wait);
    assert_eq!(heartbeat.due(at(70)), Due::Dead);
    assert_eq!(heartbeat.hello(), None);
}

#[test]
fn without_advice_a_device_begins_cautiously_and_climbs() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, None, TODAY, at(0));
    let first = heartbeat.deadline().unwrap().since(at(0));
    assert!(first <= Duration::from_secs(200), "{first:?}");
    let mut last = first;
    for _ in 0..20 {
        let (now, beat) = beat_at_deadline(&mut heartbeat);
        assert_eq!(beat, Beat::Ping, "a broker that does not take part hears no reports");
        heartbeat.received(now.after(Duration::from_secs(1)));
        last = heartbeat.interval();
    }
    assert!(last > first * 3 / 2, "{last:?} after {first:?}");
}

#[test]
fn a_new_device_begins_near_what_the_fleet_found() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, Some(&advice([880, 890, 900, 910, 920])), TODAY, at(0));
    let interval = heartbeat.interval().as_secs();
    assert!((600..=890).contains(&interval), "{interval} s");
}

#[test]
fn the_first_beat_announces_and_the_wait_never_exceeds_what_was_announced() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, Some(&advice([290, 300, 310, 320, 330])), TODAY, at(0));
    let (now, beat) = beat_at_deadline(&mut heartbeat);
    let Beat::Report(text) = beat else { panic!("the broker takes part, so it is told: {beat:?}") };
    let announced = Report::parse(&text).unwrap().next.unwrap();
    heartbeat.received(now);
    heartbeat.report_acknowledged();
    // Better advice does not stretch the wait that was announced; the next beat announces anew.
    heartbeat.advised(&advice([1_500, 1_600, 1_650, 1_700, 1_800]));
    assert_eq!(heartbeat.interval(), announced.duration());
    let (_, beat) = beat_at_deadline(&mut heartbeat);
    let Beat::Report(text) = beat else { panic!("{beat:?}") };
    assert!(Report::parse(&text).unwrap().next.unwrap() > announced);
}

#[test]
fn a_report_that_was_on_its_way_binds_the_next_connection_where_it_is_repeated() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, Some(&advice([290, 300, 310, 320, 330])), TODAY, at(0));
    let (now, beat) = beat_at_deadline(&mut heartbeat);
    let Beat::Report(text) = beat else { panic!("{beat:?}") };
    heartbeat.lost();
    heartbeat.connected(KEEP_ALIVE, Some(&advice([1_500, 1_600, 1_650, 1_700, 1_800])), TODAY, now);
    assert_eq!(Some(heartbeat.interval()), Report::parse(&text).unwrap().next.map(Gap::duration));
}

/// One beat without an answer, and the next connection after `pause`.
fn die(heartbeat: &mut Heartbeat, pause: Duration, on: Option<Network>) -> Gap {
    let began = heartbeat.deadline().unwrap();
    let (now, _) = beat_at_deadline(heartbeat);
    let dead = heartbeat.deadline().unwrap();
    assert_eq!(dead.since(now), ANSWER_MAX);
    assert_eq!(heartbeat.due(dead), Due::Dead);
    heartbeat.lost();
    if let Some(network) = on {
        heartbeat.network_changed(network);
    }
    heartbeat.connected(KEEP_ALIVE, None, TODAY, dead.after(pause));
    Gap::fatal(began.since(at(0)))
}

#[test]
fn a_death_counts_only_when_the_same_network_takes_the_next_connection_at_once() {
    let soon = Duration::from_secs(2);
    for (pause, on, deaths) in [
        (soon, None, 1),
        (Duration::from_secs(600), None, 0), // out of coverage, or an outage
        (soon, Some(network(Radio::G4)), 0), // the operating system told of a change
        (soon, Some(network(Radio::Wifi)), 0),
    ] {
        let mut heartbeat = learning();
        heartbeat.connected(KEEP_ALIVE, None, TODAY, at(0));
        die(&mut heartbeat, pause, on.clone());
        assert_eq!(
            heartbeat.learner().unwrap().bracket_on(&network(Radio::G4)).deaths,
            deaths,
            "{pause:?} {on:?}"
        );
    }
}

#[test]
fn a_network_that_kills_within_a_minute_is_told_of_with_the_next_connection() {
    let (mut heartbeat, mut now) = (learning(), at(0));
    heartbeat.set_foreground(true, now); // beats each minute
    for is_hopeless in [false, false, true] {
        heartbeat.connected(KEEP_ALIVE, None, TODAY, now);
        assert_eq!(heartbeat.hello().unwrap().is_hopeless, is_hopeless);
        beat_at_deadline(&mut heartbeat);
        let dead = heartbeat.deadline().unwrap();
        assert_eq!(heartbeat.due(dead), Due::Dead);
        heartbeat.lost();
        now = dead.after(Duration::from_secs(2));
    }
    heartbeat.network_changed(network(Radio::Wifi));
    assert!(!heartbeat.hello().unwrap().is_hopeless, "nothing is known of that one");
    let known = |lo, hi| Bracket { lo: Gap(lo), hi: Some(Gap(hi)), deaths: 2, doubt: None };
    assert!(known(0, 62).is_hopeless(), "a beat is a little late");
    assert!(!known(60, 62).is_hopeless() && !known(0, 90).is_hopeless());
}

#[test]
fn one_death_within_what_was_proven_keeps_the_interval_and_the_second_one_shortens_it() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, None, TODAY, at(0));
    for _ in 0..20 {
        let (now, _) = beat_at_deadline(&mut heartbeat);
        heartbeat.received(now);
    }
    let proven = heartbeat.learner().unwrap().bracket().lo;
    heartbeat.set_foreground(true, at(0)); // beats well below what is proven
    let mut known = heartbeat.learner().unwrap().clone();
    known.died(Gap(100));
    assert_eq!(known.bracket().lo, proven);
    known.died(Gap(100));
    assert_eq!(known.bracket(), Bracket { lo: Gap(0), hi: Some(Gap(100)), deaths: 2, doubt: None });
    assert!(known.stay() < Gap(100), "{:?}", known.stay());
}

#[test]
fn in_the_foreground_beats_come_every_minute_and_patience_is_short() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, Some(&advice([880, 890, 900, 910, 920])), TODAY, at(0));
    heartbeat.set_foreground(true, at(5));
    let (now, _) = beat_at_deadline(&mut heartbeat);
    assert_eq!(now, at(0), "at once: the user looks");
    assert_eq!(heartbeat.deadline(), Some(now.after(CHECK_ANSWER_MAX)));
    heartbeat.received(now);
    let (later, _) = beat_at_deadline(&mut heartbeat);
    assert_eq!(later.since(now), FOREGROUND.duration());
    assert_eq!(heartbeat.deadline().unwrap().since(later), FOREGROUND_ANSWER_MAX);
}

#[test]
fn a_vendors_push_makes_the_connection_prove_itself_within_two_seconds() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, None, TODAY, at(0));
    heartbeat.check(at(30));
    assert_eq!(heartbeat.due(at(30)), Due::Beat);
    heartbeat.beat();
    heartbeat.asked(at(30));
    assert_eq!(heartbeat.deadline(), Some(at(32)));
    assert_eq!(heartbeat.due(at(32)), Due::Dead);
    heartbeat.connected(KEEP_ALIVE, None, TODAY, at(33));
    assert_eq!(heartbeat.learner().unwrap().bracket().deaths, 0, "half a minute of silence says nothing");
}

#[test]
fn a_beat_that_is_nearly_due_goes_with_whatever_wakes_the_radio() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, Some(&advice([880, 890, 900, 910, 920])), TODAY, at(0));
    let (from, to) = heartbeat.state().wake.unwrap();
    heartbeat.received(at(1));
    assert_eq!(heartbeat.deadline(), Some(to), "a packet too early changes nothing");
    heartbeat.received(from);
    assert_eq!(heartbeat.due(from), Due::Beat);
}

#[test]
fn sleep_is_part_of_the_silence_and_is_followed_by_a_beat_at_once() {
    let mut heartbeat = learning();
    heartbeat.connected(KEEP_ALIVE, None, TODAY, at(0));
    heartbeat.slept();
    assert_eq!(heartbeat.due(at(500)), Due::Beat);
    heartbeat.beat();
    heartbeat.asked(at(500));
    heartbeat.received(at(501));
    assert_eq!(heartbeat.learner().unwrap().bracket().lo, Gap(500));
}

#[test]
fn no_interval_exceeds_the_keep_alive_in_force() {
    let mut heartbeat = learning();
    heartbeat.connected(
        Duration::from_secs(100),
        Some(&advice([1_500, 1_600, 1_650, 1_700, 1_800])),
        TODAY,
        at(0),
    );
    assert!(heartbeat.interval() <= Duration::from_secs(100));
    heartbeat.connected(Duration::from_secs(20), None, TODAY, at(0));
    assert_eq!(heartbeat.interval(), Duration::from_secs(20));
}

#[test]
fn at_another_speed_everything_passes_that_much_faster() {
    let learning = Learning::on(network(Radio::G4)).speed(60);
    let mut heartbeat = Heartbeat::new(Some((&learning, Heartbeat::beginner())), ANSWER_MAX);
    heartbeat.connected(KEEP_ALIVE / 60, None, TODAY, at(0));
    assert!(heartbeat.interval() <= Duration::from_secs(4), "{:?}", heartbeat.interval());
    let (now, _) = beat_at_deadline(&mut heartbeat);
    heartbeat.received(now);
    assert!(heartbeat.learner().unwrap().bracket().lo >= Gap(55));
}
