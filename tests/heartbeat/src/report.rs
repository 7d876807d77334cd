//! The table and the plots of `docs/heartbeat.md`.

use crate::plot::{Axis, Plot};
use crate::{Outcome, REPLACEMENT_DAY, RuleName, SHIFT_DAY, Scenario, Summary, World};
use std::fmt::Write;

/// Plot file names with their contents.
pub type Plots = Vec<(String, String)>;

/// Runs every rule in one scenario.
pub fn report(scenario: Scenario, phones: usize, days: usize, seed: u64) -> (String, Plots) {
    let world = World { scenario, phones, days, seed, liars: false, punctual: false };
    let outcomes: Vec<(RuleName, Outcome)> =
        RuleName::ALL.into_iter().map(|rule| (rule, world.run(rule))).collect();
    let mars_j = outcomes.iter().find(|(rule, _)| *rule == RuleName::Mars);
    let mars_j = mars_j.map_or(1.0, |(_, outcome)| outcome.summary().joules);
    let mut table = HEAD.to_owned();
    for (rule, outcome) in &outcomes {
        row(&mut table, &rule.name(), outcome, mars_j);
    }
    let liars = World { liars: true, ..world };
    row(&mut table, "ours, a fifth of the phones lies", &liars.run(RuleName::Ours), mars_j);
    let punctual = World { punctual: true, ..world };
    row(&mut table, "ours, alarms never late", &punctual.run(RuleName::Ours), mars_j);
    row(&mut table, "ours without the broker, alarms never late", &punctual.run(RuleName::Local), mars_j);
    let plots = vec![
        (format!("heartbeat-{}.svg", scenario.name()), trade_off(scenario, &outcomes)),
        (format!("heartbeat-{}-days.svg", scenario.name()), by_day(scenario, &outcomes, days)),
        (format!("heartbeat-{}-search.svg", scenario.name()), search(scenario, &outcomes)),
    ];
    (table, plots)
}

const HEAD: &str = "\
| rule | beats/d | cellular | J/d | of mars | reconnects/d | dead s/d (%) | late % | socket: mean, p99 s | with bridge: mean, p99, max s | new phone: day 1, later | day after shift | beats to settle: empty fleet, full fleet |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

fn row(table: &mut String, name: &str, outcome: &Outcome, mars_j: f64) {
    let Summary { beats, cellular_beats, joules, reconnects, dead_s, late_percent, socket_s, bridge_s } =
        outcome.summary();
    let (first, later) = outcome.new_phones();
    let shift_s = outcome.of_day(SHIFT_DAY as usize).dead_s;
    let (empty, full) = (outcome.beats_to_settle(false), outcome.beats_to_settle(true));
    let _ = writeln!(
        table,
        "| {name} | {beats:.0} | {cellular_beats:.0} | {joules:.0} | {:.2} | {reconnects:.1} | {dead_s:.0} ({:.2}) | \
         {late_percent:.2} | {:.1}, {:.0} | {:.2}, {:.1}, {:.1} | {first:.0}, {later:.0} | {shift_s:.0} | {empty:.0}, {full:.0} |",
        joules / mars_j,
        dead_s / 864.0,
        socket_s.0,
        socket_s.1,
        bridge_s.0,
        bridge_s.1,
        bridge_s.2,
    );
}

impl Outcome {
    /// Dead seconds a day of the replaced phones: on their first day, and on the days until the shift.
    pub fn new_phones(&self) -> (f64, f64) {
        let first = self.of_replaced(REPLACEMENT_DAY..REPLACEMENT_DAY + 1).dead_s;
        let later = self.of_replaced(REPLACEMENT_DAY + 1..SHIFT_DAY as usize).dead_s;
        (first, later)
    }

    /// Beats over a cellular network until the interval is within a fifth of where it will settle, the median of the
    /// phones: of all on the first day, when nobody knows anything, or of those that replace others later.
    pub fn beats_to_settle(&self, is_full_fleet: bool) -> f64 {
        let from = if is_full_fleet { REPLACEMENT_DAY } else { 0 } as f64 * 86_400.0;
        let to = if is_full_fleet { SHIFT_DAY } else { REPLACEMENT_DAY as f64 } * 86_400.0;
        let phones = self
            .trails
            .iter()
            .enumerate()
            .filter(|(number, _)| !is_full_fleet || crate::is_replaced(*number));
        let beats = phones.filter_map(|(_, trail)| {
            let intervals: Vec<f64> = trail
                .iter()
                .filter(|beat| (from..to).contains(&beat.at_s))
                .map(|beat| f64::from(beat.interval_s))
                .collect();
            let settled = median(intervals.get(intervals.len().saturating_sub(20)..)?.to_vec())?;
            intervals.iter().position(|interval| (interval - settled).abs() <= 0.2 * settled)
        });
        median(beats.map(|beats| beats as f64).collect()).unwrap_or_default()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn trade_off(scenario: Scenario, outcomes: &[(RuleName, Outcome)]) -> String {
    let x = Axis {
        title: "radio energy, J a day",
        from: 200.0,
        to: 5_000.0,
        marks: &[200.0, 300.0, 500.0, 1_000.0, 2_000.0, 5_000.0],
        is_logarithmic: true,
    };
    let y = Axis {
        title: "dead and unnoticed, s a day",
        from: 50.0,
        to: 20_000.0,
        marks: &[50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 20_000.0],
        is_logarithmic: true,
    };
    let mut plot = Plot::new(&format!("Energy against dead time, {}", scenario.name()), x, y);
    for (rule, outcome) in outcomes {
        let all = outcome.summary();
        plot.point(rule.name().trim_matches('*'), all.joules, all.dead_s, *rule == RuleName::Ours);
    }
    plot.finish()
}

fn by_day(scenario: Scenario, outcomes: &[(RuleName, Outcome)], days: usize) -> String {
    let x = Axis {
        title: "day (10: a third of the phones is replaced; 14: two carriers change)",
        from: 0.0,
        to: 21.0,
        marks: &[0.0, 3.0, 7.0, 10.0, 14.0, 17.0, 21.0],
        is_logarithmic: false,
    };
    let y = Axis {
        title: "dead and unnoticed, s a day",
        from: 20.0,
        to: 5_000.0,
        marks: &[20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0],
        is_logarithmic: true,
    };
    let mut plot = Plot::new(&format!("Dead time day by day, {}", scenario.name()), x, y);
    let shown = [RuleName::Mars, RuleName::Ours, RuleName::Additive, RuleName::Binary, RuleName::Oracle];
    for (rule, outcome) in outcomes.iter().filter(|(rule, _)| shown.contains(rule)) {
        let points = (0..days).map(|day| (day as f64, outcome.of_day(day).dead_s));
        plot.line(rule.name().trim_matches('*'), points);
    }
    plot.finish()
}

/// Beats that the search plot shows.
const SEARCH_BEATS: usize = 100;

fn search(scenario: Scenario, outcomes: &[(RuleName, Outcome)]) -> String {
    let x = Axis {
        title: "beats over the carrier's network since the first",
        from: 0.0,
        to: SEARCH_BEATS as f64,
        marks: &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0],
        is_logarithmic: false,
    };
    let y = Axis {
        title: "interval as a share of the oracle's, median",
        from: 0.0,
        to: 1.2,
        marks: &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2],
        is_logarithmic: false,
    };
    let mut plot = Plot::new(&format!("The search, beat by beat, {}", scenario.name()), x, y);
    let shown = [RuleName::Mars, RuleName::Local, RuleName::Ours, RuleName::Additive];
    for (rule, outcome) in outcomes.iter().filter(|(rule, _)| shown.contains(rule)) {
        plot.line(rule.name().trim_matches('*'), searched(outcome, 0.0, |_| true));
    }
    let ours = outcomes.iter().find(|(rule, _)| *rule == RuleName::Ours);
    if let Some((_, outcome)) = ours {
        let from = REPLACEMENT_DAY as f64 * 86_400.0;
        plot.line("ours, in a full fleet", searched(outcome, from, crate::is_replaced));
    }
    plot.finish()
}

fn searched(
    outcome: &Outcome,
    from: f64,
    is_meant: impl Fn(usize) -> bool,
) -> impl Iterator<Item = (f64, f64)> {
    let phones = outcome.trails.iter().enumerate().filter(|(number, _)| is_meant(*number));
    let shares: Vec<Vec<f64>> = phones
        .map(|(_, trail)| {
            let beats = trail.iter().filter(|beat| beat.at_s >= from).take(SEARCH_BEATS);
            beats.map(|beat| f64::from(beat.interval_s / beat.oracle_s)).collect()
        })
        .collect();
    (0..SEARCH_BEATS).filter_map(move |beat| {
        let at: Vec<f64> = shares.iter().filter_map(|phone| phone.get(beat).copied()).collect();
        Some((beat as f64, median(at)?))
    })
}
