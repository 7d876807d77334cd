use super::*;
use proptest::prelude::*;

const WHO: Who<'_> = Who { user: Some("ann"), client_id: "phone-1", app: "shop" };

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text.to_owned()).unwrap()
}

fn rule(effect: Effect, actions: &[Action], text: &str) -> Rule {
    Rule { effect, actions: actions.iter().copied().collect(), pattern: pattern(text) }
}

#[test]
fn a_placeholder_stands_for_what_the_client_is_called() {
    let rows = [
        ("dev/%c/up", "dev/phone-1/up", true),
        ("dev/%c/up", "dev/phone-2/up", false),
        ("%a/%u/#", "shop/ann/x/y", true),
        ("%a/%u/#", "shop/bob/x", false),
        ("d-%c-x/+", "d-phone-1-x/1", true),
        ("d-%c-x/+", "d-phone-1/1", false),
        ("%u%c", "annphone-1", true),
        ("%u%c", "annphone-1x", false),
        ("100%%/%%u", "100%/%u", true),
        ("%%%u", "%ann", true),
        ("设备/%c", "设备/phone-1", true),
    ];
    for (text, name, wanted) in rows {
        assert_eq!(pattern(text).matches(&topic(name), WHO), wanted, "{text} {name}");
    }
    for bad in ["%x", "a/%", "a/%d/b", "%C"] {
        assert_eq!(Pattern::parse(bad), Err(PatternError::Placeholder), "{bad}");
    }
    assert_eq!(Pattern::parse("$share/g/a"), Err(PatternError::Share));
    assert!(matches!(Pattern::parse("a/#/b"), Err(PatternError::Topic(_))));
}

#[test]
fn a_value_that_would_reach_over_its_level_never_matches() {
    for value in ["+", "#", "a/b", "/", "", "$SYS", "a+", "a#"] {
        let who = Who { user: Some(value), client_id: value, app: "shop" };
        for text in ["dev/%c", "%u", "%u/#", "dev/%u/up"] {
            let with_value = text.replace("%c", value).replace("%u", value);
            if let Ok(name) = TopicName::parse(with_value.clone()) {
                assert!(!pattern(text).matches(&name, who), "{text} {value}");
            }
            if let Ok(filter) = TopicFilter::parse(with_value) {
                assert!(!pattern(text).covers(&filter, who), "{text} {value}");
            }
            assert!(!pattern(text).meets(&filter("#"), who), "{text} {value}");
        }
    }
    let nobody = Who { user: None, ..WHO };
    assert!(!pattern("u/%u").covers(&filter("u/ann"), nobody));
    assert!(pattern("c/%c").covers(&filter("c/phone-1"), nobody));
}

#[test]
fn the_first_rule_that_speaks_decides() {
    use Action::*;
    let acl = Acl::new(
        [
            rule(Effect::Deny, &[Publish, Subscribe], "dev/+/secret"),
            rule(Effect::Allow, &[Publish], "dev/%c/#"),
            rule(Effect::Allow, &[Subscribe], "dev/#"),
            rule(Effect::Allow, &[Subscribe], "news/#"),
            rule(Effect::Allow, &[Retain], "dev/+/state"),
            rule(Effect::Deny, &[Retain], "#"),
            rule(Effect::Deny, &[ReadRetained], "news/old/#"),
        ],
        Effect::Deny,
        OnDenied::Acknowledge,
    );
    let rows = [
        ("dev/phone-1/up", false, true),
        ("dev/phone-1/up", true, false),
        ("dev/phone-1/state", true, true),
        ("dev/phone-1/secret", false, false),
        ("dev/phone-2/up", false, false),
        ("elsewhere", false, false),
    ];
    for (name, retain, wanted) in rows {
        assert_eq!(acl.may_publish(WHO, &topic(name), retain), wanted, "{name} {retain}");
    }
    let rows = [
        ("dev/phone-1/up", true),
        ("dev/+/up", true),
        ("dev/+", true),
        ("dev/phone-1/secret", false),
        ("dev/+/+", false),
        ("dev/#", false),
        ("#", false),
        ("news/#", true),
        ("news/+/today", true),
        ("+/x", false),
    ];
    for (text, wanted) in rows {
        assert_eq!(acl.may_subscribe(WHO, &filter(text)), wanted, "{text}");
    }
    assert!(acl.may_read_retained(WHO, &topic("news/new")));
    assert!(!acl.may_read_retained(WHO, &topic("news/old/1")));
}

#[test]
fn the_last_allowed_topic_is_not_an_answer_for_others() {
    let rules = [rule(Effect::Allow, &[Action::Publish], "a/#"), rule(Effect::Deny, &[Action::Retain], "#")];
    let acl = Acl::new(rules, Effect::Deny, OnDenied::Acknowledge);
    let mut last = LastAllowed::default();
    for (name, retain, wanted) in [
        ("a/1", false, true),
        ("a/1", false, true),
        ("a/1", true, false),
        ("b", false, false),
        ("a/1", false, true),
    ] {
        assert_eq!(last.may_publish(&acl, WHO, &topic(name), retain), wanted, "{name} {retain}");
    }
}

/// Levels in small worlds: `z` stands for every text that no filter names.
fn filters() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just("a"), Just("b"), Just("+"), Just("$s"), Just("")];
    (prop::collection::vec(level, 0..4), any::<bool>()).prop_filter_map("empty", |(mut levels, has_rest)| {
        if has_rest {
            levels.push("#");
        }
        Some(levels.join("/")).filter(|text| !text.is_empty())
    })
}

/// Every topic of up to four levels, one more than the filters name, over the alphabet of [`filters`].
fn every_topic() -> Vec<TopicName> {
    const LEVELS: [&str; 5] = ["a", "b", "z", "$s", ""];
    const DEPTH: usize = 4;
    let mut all: Vec<String> = Vec::new();
    let mut layer: Vec<String> = LEVELS.map(str::to_owned).to_vec();
    for _ in 0..DEPTH {
        all.extend(layer.iter().filter(|text| !text.is_empty()).cloned());
        layer = layer.iter().flat_map(|front| LEVELS.map(|level| format!("{front}/{level}"))).collect();
    }
    all.into_iter().map(|text| topic(&text)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn covering_and_meeting_are_what_looking_at_every_topic_says(rule in filters(), asked in filters()) {
        thread_local!(static TOPICS: Vec<TopicName> = every_topic());
        let (compiled, asked_filter) = (pattern(&rule), filter(&asked));
        TOPICS.with(|topics| {
            let mut asked_for = topics.iter().filter(|name| asked_filter.matches(name));
            let covers = asked_for.clone().all(|name| compiled.matches(name, WHO));
            let meets = asked_for.any(|name| compiled.matches(name, WHO));
            let (says_covers, says_meets) =
                (compiled.covers(&asked_filter, WHO), compiled.meets(&asked_filter, WHO));
            assert!(covers || !says_covers, "{rule} covers {asked}");
            assert!(says_meets || !meets, "{rule} meets {asked}");
            // Exact but for the empty topic, which `/#` would match if it existed: there they err to the safe side.
            if !rule.starts_with('/') && !asked.starts_with('/') {
                assert_eq!((says_covers, says_meets), (covers, meets), "{rule} and {asked}");
            }
        });
    }

    #[test]
    fn a_pattern_without_placeholders_matches_what_its_filter_matches(text in filters()) {
        for name in every_topic().iter().take(800) {
            assert_eq!(pattern(&text).matches(name, WHO), filter(&text).matches(name), "{text} {name}");
        }
    }

    #[test]
    fn a_subscription_that_is_allowed_gets_nothing_that_is_denied(
        rules in prop::collection::vec((any::<bool>(), filters()), 0..5),
        asked in filters(),
    ) {
        thread_local!(static TOPICS: Vec<TopicName> = every_topic());
        let rules = rules.iter().map(|(allows, text)| {
            rule(if *allows { Effect::Allow } else { Effect::Deny }, &[Action::Subscribe, Action::Publish], text)
        });
        let acl = Acl::new(rules, Effect::Deny, OnDenied::Acknowledge);
        let asked = filter(&asked);
        if acl.may_subscribe(WHO, &asked) {
            TOPICS.with(|topics| {
                for name in topics.iter().filter(|name| asked.matches(name)) {
                    assert!(acl.may_publish(WHO, name, false), "{asked} gets {name}");
                }
            });
        }
    }
}
