//! Prints the table of `docs/heartbeat.md`.

use clap::Parser;
use reveille_heartbeat_sim::{REPLACEMENT_DAY, RuleName, SHIFT_DAY, Scenario, World};

/// Compares heartbeat rules.
#[derive(Debug, Parser)]
struct Arguments {
    /// Phones in each world.
    #[arg(long, default_value_t = 120)]
    phones: usize,
    /// Days.
    #[arg(long, default_value_t = 21)]
    days: usize,
    /// The seed of the world.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

fn main() {
    let arguments = Arguments::parse();
    for scenario in Scenario::ALL {
        println!("\n{}", scenario.name());
        println!(
            "| rule | beats/d | cellular | J/d | of mars | reconnects/d | dead s/d | late % | mean, p99 s | with bridge | max | new, first day | new, later | shift |"
        );
        let world = World {
            scenario,
            phones: arguments.phones,
            days: arguments.days,
            seed: arguments.seed,
            liars: false,
            punctual: false,
        };
        let mars = world.run(RuleName::Mars).summary().joules;
        for rule in RuleName::ALL {
            row(&world, rule, &rule.name(), mars);
        }
        let liars = World { liars: true, ..world };
        row(&liars, RuleName::Ours, "ours, 20 % liars", mars);
        let punctual = World { punctual: true, ..world };
        row(&punctual, RuleName::Ours, "ours, punctual", mars);
        row(&punctual, RuleName::Local, "ours local, punctual", mars);
    }
}

fn row(world: &World, rule: RuleName, name: &str, mars: f64) {
    let outcome = world.run(rule);
    let all = outcome.summary();
    let first = outcome.of_replaced(REPLACEMENT_DAY..REPLACEMENT_DAY + 1).dead_s;
    let later = outcome.of_replaced(REPLACEMENT_DAY + 1..SHIFT_DAY as usize).dead_s;
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.2} | {:.1} | {:.0} | {:.2} | {:.1}, {:.0} | {:.2}, {:.1} | {:.1} | {first:.0} | {later:.0} | {:.0} |",
        all.beats,
        all.cellular_beats,
        all.joules,
        all.joules / mars,
        all.reconnects,
        all.dead_s,
        all.late_percent,
        all.socket_s.0,
        all.socket_s.1,
        all.bridge_s.0,
        all.bridge_s.1,
        all.bridge_s.2,
        outcome.of_day(SHIFT_DAY as usize).dead_s,
    );
}
