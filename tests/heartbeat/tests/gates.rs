//! What the heartbeat must reach, in a small world of fixed seed: so these are numbers, not chance.
#![allow(clippy::unwrap_used, reason = "a test")]

use reveille_heartbeat_sim::{Outcome, RuleName, Scenario, World};
use std::thread;

fn world(scenario: Scenario) -> World {
    World { scenario, phones: 72, days: 21, seed: 7, liars: false, punctual: false }
}

/// Runs at the same time: the worlds do not know of each other.
fn outcomes<const N: usize>(runs: [(World, RuleName); N]) -> [Outcome; N] {
    thread::scope(|scope| {
        runs.map(|(world, rule)| scope.spawn(move || world.run(rule))).map(|run| run.join().unwrap())
    })
}

#[test]
fn one_seed_is_one_run() {
    let short = World { phones: 12, days: 2, ..world(Scenario::Global) };
    let [first, second] = outcomes([(short, RuleName::Ours), (short, RuleName::Ours)]);
    assert_eq!(first.summary(), second.summary());
    let other = World { seed: 8, ..short };
    assert_ne!(first.summary(), other.run(RuleName::Ours).summary());
}

#[test]
fn phones_use_less_energy_than_mars_and_are_dead_less_than_with_the_additive_search() {
    for (scenario, energy_max) in [(Scenario::Global, 0.70), (Scenario::China, 0.85)] {
        let world = world(scenario);
        let liars = World { liars: true, ..world };
        let punctual = World { punctual: true, ..world };
        let [ours, mars, additive, deceived, punctual] = outcomes([
            (world, RuleName::Ours),
            (world, RuleName::Mars),
            (world, RuleName::Additive),
            (liars, RuleName::Ours),
            (punctual, RuleName::Ours),
        ]);
        let (all, mars, additive) = (ours.summary(), mars.summary(), additive.summary());
        assert!(
            all.joules <= energy_max * mars.joules,
            "{scenario:?}: {} J, mars {} J",
            all.joules,
            mars.joules
        );
        assert!(
            all.dead_s <= additive.dead_s,
            "{scenario:?}: {} s, additive {} s",
            all.dead_s,
            additive.dead_s
        );
        // A new phone on networks that the fleet knows does as well as one that has been there for days.
        let (first, later) = ours.new_phones();
        assert!(first <= 1.2 * later, "{scenario:?}: {first} s on the first day, {later} s later");
        assert!(all.bridge_s.2 <= 23.01, "{scenario:?}: a message took {} s", all.bridge_s.2);
        let deceived = deceived.summary();
        let (energy, dead) = (deceived.joules / all.joules, deceived.dead_s / all.dead_s);
        assert!((0.95..1.05).contains(&energy), "{scenario:?}: liars move the energy by {energy}");
        assert!(dead < 1.2, "{scenario:?}: liars move the dead time by {dead}");
        // Nothing rests on alarms being late, although late ones help to find longer intervals.
        let punctual = punctual.summary();
        assert!(
            punctual.joules <= energy_max * mars.joules,
            "{scenario:?}: punctual phones use {} J",
            punctual.joules
        );
    }
}
