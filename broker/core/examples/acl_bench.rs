//! What the rules cost a publish: `cargo run --release -p reveille-broker-core --example acl_bench`.
//!
//! Prints nanoseconds for one question, with the answer remembered from the last publish and without.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement that fails has nothing to say"
)]

use reveille_broker_core::acl::{Acl, Action, Effect, LastAllowed, OnDenied, Pattern, Rule, Who};
use reveille_proto::topic::TopicName;
use std::hint::black_box;
use std::time::Instant;

const QUESTIONS: u32 = 1_000_000;

/// The rule that allows comes last, behind others that nearly match.
fn acl(count: usize) -> Acl {
    let other = |no: usize| format!("factory/line-{no}/%c/state");
    let patterns = (1..count).map(other).chain(["factory/+/%c/#".to_owned()]);
    let rule = |text: String| Rule {
        effect: Effect::Allow,
        actions: [Action::Publish].into_iter().collect(),
        pattern: Pattern::parse(&text).unwrap(),
    };
    Acl::new(patterns.map(rule), Effect::Deny, OnDenied::Acknowledge)
}

fn nanoseconds(ask: &mut dyn FnMut(usize) -> bool) -> f64 {
    let started = Instant::now();
    for no in 0..QUESTIONS as usize {
        assert!(black_box(ask(no)));
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(QUESTIONS)
}

fn main() {
    let who = Who { user: Some("ann"), client_id: "device-0042", app: "default" };
    let names = ["temperature", "humidity", "power", "speed", "state", "door", "lamp", "fan"];
    let topics = names.map(|name| TopicName::parse(format!("factory/hall-7/device-0042/{name}")).unwrap());
    println!("rules  same topic  four topics in turn  eight topics in turn");
    for count in [1, 10, 100, 1_000] {
        let acl = acl(count);
        let mut last = LastAllowed::default();
        let same = nanoseconds(&mut |_| last.may_publish(&acl, who, &topics[0], false));
        let four = nanoseconds(&mut |no| last.may_publish(&acl, who, &topics[no % 4], false));
        let eight = nanoseconds(&mut |no| last.may_publish(&acl, who, &topics[no % 8], false));
        println!("{count:5}  {same:7.1} ns  {four:17.1} ns  {eight:18.1} ns");
    }
}
