//! What other languages must compute: `tests/fixtures/heartbeat.json`, made by the rules in `proto`, read by their ports.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot make its vectors must fail"
)]

use reveille_proto::heartbeat::{
    Bracket, Config, Costs, Gap, Hello, Label, Lateness, Network, Observation, Quantiles, Radio, Range,
    Report, Timeouts, best_interval,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u16) -> u16 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(end)) as u16
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn gap(&mut self) -> Gap {
        Gap(self.below(2_300))
    }
}

fn events(dice: &mut Dice) -> Vec<(bool, Gap)> {
    (0..dice.below(12)).map(|_| (dice.below(3) > 0, dice.gap())).collect()
}

fn bracket_of(events: &[(bool, Gap)]) -> Bracket {
    let mut bracket = Bracket::default();
    for (survived, gap) in events {
        if *survived {
            bracket.survived(*gap);
        } else {
            bracket.died(*gap);
        }
    }
    bracket
}

fn lateness_of(late_ms: &[u64]) -> Lateness {
    let mut lateness = Lateness::default();
    late_ms.iter().for_each(|late_ms| lateness.note(Duration::from_millis(*late_ms)));
    lateness
}

fn late_ms(dice: &mut Dice) -> Vec<u64> {
    let count = dice.below(700);
    (0..count).map(|_| u64::from(dice.below(20)).pow(4) * 2).collect()
}

fn network(dice: &mut Dice) -> Network {
    let radio = Radio::ALL[usize::from(dice.below(7))];
    let label = ["", "46000", "home_5-x"][usize::from(dice.below(3))];
    Network { radio, label: Label::parse(label).unwrap() }
}

fn bracket_json(bracket: &Bracket) -> Value {
    json!({
        "lo": bracket.lo.0,
        "hi": bracket.hi.map(|gap| gap.0),
        "deaths": bracket.deaths,
        "doubt": bracket.doubt.map(|gap| gap.0),
    })
}

fn network_json(network: &Network) -> Value {
    json!({"radio": network.radio.as_str(), "label": network.label.as_str()})
}

fn brackets(dice: &mut Dice) -> Vec<Value> {
    let one = |_| {
        let events = events(dice);
        let told: Vec<_> = events.iter().map(|(survived, gap)| json!([survived, gap.0])).collect();
        json!({"events": told, "bracket": bracket_json(&bracket_of(&events))})
    };
    (0..60).map(one).collect()
}

fn lateness(dice: &mut Dice) -> Vec<Value> {
    let one = |_| {
        let late_ms = late_ms(dice);
        let lateness = lateness_of(&late_ms);
        json!({"late_ms": late_ms, "counts": lateness.counts(), "p95_s": lateness.p95_s()})
    };
    (0..4).map(one).collect()
}

fn choice(dice: &mut Dice) -> Value {
    let quantiles = dice.maybe(|dice| {
        let mut gaps = [(); 5].map(|()| dice.gap());
        gaps.sort_unstable();
        Quantiles(gaps)
    });
    let bracket = bracket_of(&events(dice));
    let lateness = lateness_of(&late_ms(dice));
    let radio = Radio::ALL[usize::from(dice.below(7))];
    let range = dice.maybe(|dice| Range { floor: Gap(30 + dice.below(60)), ceiling: dice.gap() });
    let range = range.unwrap_or_default();
    let prior = quantiles.as_ref().map_or_else(Timeouts::default, Timeouts::from_quantiles);
    let costs = Costs::of(radio);
    let stay = best_interval(&prior, &bracket, lateness, &costs, range);
    json!({
        "quantiles": quantiles.map(|quantiles| quantiles.0.map(|gap| gap.0)),
        "bracket": bracket_json(&bracket),
        "late": lateness.counts(),
        "radio": radio.as_str(),
        "floor": range.floor.0,
        "ceiling": range.ceiling.0,
        "stay": stay.0,
    })
}

fn hello(dice: &mut Dice) -> Value {
    let (network, lo, late_s) = (network(dice), dice.maybe(Dice::gap), dice.below(300));
    let hello = Hello { network, lo, late_s, is_hopeless: late_s % 2 == 0 };
    let properties: serde_json::Map<_, _> =
        hello.properties().into_iter().map(|(name, value)| (name, value.into())).collect();
    json!({
        "network": network_json(&hello.network), "lo": hello.lo.map(|gap| gap.0), "late": hello.late_s,
        "hopeless": hello.is_hopeless, "properties": properties,
    })
}

fn configs(dice: &mut Dice) -> Vec<Value> {
    let mut texts: Vec<String> = (0..20)
        .map(|_| {
            let quantiles =
                dice.maybe(|dice| Quantiles([10, 20, 30, 40, 50].map(|base| Gap(base + dice.below(10)))));
            let config = Config {
                ceiling: dice.maybe(Dice::gap),
                stay: dice.maybe(Dice::gap),
                quantiles,
                ttl_s: u32::from(dice.below(60_000)) * 60_000,
                window_s: dice.below(600),
            };
            config.to_string()
        })
        .collect();
    let others = [
        "",
        ";;",
        "colour=blue;ttl=5;;x",
        "stay=",
        "stay=-1",
        "stay=+1",
        "stay= 1",
        "stay=65535",
        "stay=65536",
        "stay=1e2",
        "q=1,2,3,4",
        "q=1,2,3,4,5,6",
        "q=5,4,3,2,1",
        "q=1,1,1,1,1",
        "q=1,2,3,4,",
        "ttl=4294967295",
        "ttl=4294967296",
        "stay=1=2",
        "stay",
        "stay=1;stay=2",
        "window=007",
        "toString=1",
        "stay=６０",
    ];
    texts.extend(others.map(str::to_owned));
    texts.push("x;".repeat(128));
    texts.push("x;".repeat(129));
    texts
        .into_iter()
        .map(|text| json!({"config": Config::parse(&text).map(config_json), "text": text}))
        .collect()
}

fn config_json(config: Config) -> Value {
    let gap = |gap: Option<Gap>| gap.map(|gap| gap.0);
    json!({
        "ceiling": gap(config.ceiling), "stay": gap(config.stay),
        "q": config.quantiles.map(|quantiles| quantiles.0.map(|gap| gap.0)),
        "ttl": config.ttl_s, "window": config.window_s,
    })
}

fn report(dice: &mut Dice) -> Value {
    let count = dice.below(11);
    let observations: Vec<_> =
        (0..count).map(|_| Observation { gap: dice.gap(), survived: dice.below(2) == 0 }).collect();
    let report = Report {
        next: dice.maybe(Dice::gap),
        network: network(dice),
        lo: dice.maybe(Dice::gap),
        late_s: dice.below(300),
        observations,
        is_hopeless: dice.below(2) == 0,
    };
    let seen: Vec<_> = report.observations.iter().map(|seen| json!([seen.survived, seen.gap.0])).collect();
    json!({
        "next": report.next.map(|gap| gap.0), "network": network_json(&report.network), "lo": report.lo.map(|gap| gap.0),
        "late": report.late_s, "hopeless": report.is_hopeless, "observations": seen, "text": report.to_string(),
    })
}

fn fixture() -> String {
    let mut dice = Dice(20_261_125);
    let parts = [
        ("brackets", brackets(&mut dice)),
        ("lateness", lateness(&mut dice)),
        ("choices", (0..400).map(|_| choice(&mut dice)).collect()),
        ("hellos", (0..10).map(|_| hello(&mut dice)).collect()),
        ("configs", configs(&mut dice)),
        ("reports", (0..20).map(|_| report(&mut dice)).collect()),
    ];
    // One case a line, so that a change of the rules can be read in the difference.
    let parts = parts.map(|(name, cases)| {
        let cases: Vec<_> = cases.iter().map(Value::to_string).collect();
        format!("\"{name}\": [\n{}\n]", cases.join(",\n"))
    });
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

/// `REVEILLE_WRITE_FIXTURES=1` writes the file anew after a change of the rules.
#[test]
fn the_vectors_for_other_languages_are_those_of_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/heartbeat.json");
    if std::env::var_os("REVEILLE_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, fixture()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept == fixture(), "{} is not current: REVEILLE_WRITE_FIXTURES=1", path.display());
}
