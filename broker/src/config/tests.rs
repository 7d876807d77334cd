use super::*;
use reveille_broker_core::limits::Limits;

fn check(text: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn an_empty_file_listens_on_loopback_only_and_admits_anonymous_clients() {
    let config = check("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:1883");
    assert!(config.internal.ip().is_loopback());
    assert!(config.http.is_none());
    assert!(config.admits_anonymous());
    assert!(config.shard_count() >= 1);
    assert_eq!(config.limits.core(), Limits::default());
}

#[test]
fn what_is_wrong_is_named_in_one_line() {
    let rows = [
        ("listen = '0.0.0.0:1883'", "allow_anonymous = true"),
        ("listen = '[::]:1883'", "no users"),
        ("no_such_key = 1", "no_such_key"),
        ("[limits]\nno_such_key = 1", "no_such_key"),
        ("[limits]\nreceive_maximum = 0", "limits.receive_maximum"),
        ("[limits]\nmaximum_qos = 3", "limits.maximum_qos"),
        ("[apps.shop.limits]\nsesions_max = 3", "sesions_max"),
        ("[apps.'No App'.limits]", "no app id"),
        ("[user_limits.a]\nin_flight_max = 0", "limits.in_flight_max"),
        ("[limits]\nqueue_full = 'explode'", "refuse_newest"),
        ("shards = 129", "shards"),
        ("internal_password = ''", "internal_password"),
        ("[[users]]\nname = ''\npassword = 'x'", "users"),
        ("[[users]]\nname = 'a'\npassword = ''", "empty password"),
        ("[[users]]\nname = 'a'\npassword = 'x'\n[[users]]\nname = 'a'\npassword = 'y'", "twice"),
        ("[[users]]\nname = 'a'\npassword = 'x'\napp = 'No App'", "no app id"),
        ("[[push_rules]]\nfilter = 'a/#/b'\ntitle = ''\nbody = ''", "no topic filter"),
    ];
    for (text, wanted) in rows {
        let error = check(text).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn everyone_is_admitted_from_elsewhere_only_when_asked_for_in_words() {
    assert!(check("listen = '0.0.0.0:1883'\nallow_anonymous = true").unwrap().admits_anonymous());
    let with_users = "listen = '0.0.0.0:1883'\n[[users]]\nname = 'a'\npassword = 'x'";
    assert!(!check(with_users).unwrap().admits_anonymous());
    let on_loopback = "[[users]]\nname = 'a'\npassword = 'x'";
    assert!(!check(on_loopback).unwrap().admits_anonymous(), "users shut the door for everyone else");
}

#[test]
fn a_password_is_never_shown() {
    let config = check("internal_password = 'sesame'\n[[users]]\nname = 'a'\npassword = 'tulip'").unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("sesame") && !shown.contains("tulip"), "{shown}");
    assert!(shown.contains("***"));
}

#[test]
fn a_push_rule_becomes_one_of_the_core() {
    let text =
        "[[push_rules]]\nfilter = 'alarm/#'\ntitle = 'Alarm'\nbody = '{payload}'\nstrategy = 'both_dedup'";
    let rules = check(text).unwrap().core_push_rules();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].strategy, Strategy::BothDedup);
    assert_eq!(rules[0].app, AppId::default());
}

#[test]
fn every_key_is_explained_to_operators() {
    let page = include_str!("../../../docs/configuration.md");
    let keys = include_str!("../config.rs").lines().chain(include_str!("limits.rs").lines());
    let fields =
        keys.filter_map(|line| line.strip_prefix("    pub ")?.split_once(": ").map(|(name, _)| name));
    let mut count = 0;
    for key in fields.filter(|name| !name.contains(['(', ' '])) {
        assert!(page.contains(&format!("`{key}`")), "docs/configuration.md does not name `{key}`");
        count += 1;
    }
    assert!(count > 30, "only {count} keys were found");
}
