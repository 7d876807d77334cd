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
    assert_eq!(config.listen.unwrap().to_string(), "127.0.0.1:1883");
    assert!(config.internal.ip().is_loopback());
    assert!(config.http.is_none());
    assert!(config.admits_anonymous());
    assert!(config.shard_count() >= 1);
    assert_eq!(format!("{:?}", config.limits.core()), format!("{:?}", Limits::default()));
}

#[test]
fn what_is_wrong_is_named_in_one_line() {
    let rows = [
        ("listen = '0.0.0.0:1883'", "allow_anonymous = true"),
        ("listen = '[::]:1883'", "no users"),
        ("no_such_key = 1", "no_such_key"),
        ("[limits]\nno_such_key = 1", "no_such_key"),
        ("[limits]\nreceive_maximum = 0", "limits.receive_maximum"),
        ("[[control.rewrites]]\nfrom = 'a'\nto = 'b/$1'", "$1"),
        ("[[control.rewrites]]\nfrom = 'a/#/b'\nto = 'b'", "control.rewrites.from"),
        ("[[control.auto_subscriptions]]\nfilter = 'a/#/%c'", "control.auto_subscriptions.filter"),
        ("[[control.auto_subscriptions]]\nfilter = 'a'\nqos = 3", "qos is 0, 1 or 2"),
        ("[control.shared]\nstrategy = 'luck'", "round_robin"),
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

const LISTENER: &str = "[[listeners]]\nname = 'l'\n";

#[test]
fn what_is_wrong_with_a_listener_is_named_in_one_line() {
    let rows = [
        ("kind = 'quic'\naddress = '127.0.0.1:1'", "unknown variant `quic`"),
        ("kind = 'tcp'", "\"tcp\" needs the key address"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1'\npath = '/x'", "path means nothing"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1'\ncertificate = 'x'", "certificate means nothing"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1'\norigins = ['x']", "origins means nothing"),
        ("kind = 'unix'", "\"unix\" needs the key path"),
        ("kind = 'unix'\npath = '/x'\nmode = '0888'", "octal"),
        ("kind = 'unix'\npath = '/x'\nproxy_protocol = true", "proxy_protocol means nothing"),
        ("kind = 'tls'\naddress = '127.0.0.1:1'", "needs the key certificate"),
        ("kind = 'tls'\naddress = '127.0.0.1:1'\ncertificate = 'c'", "needs the key key"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1'\nproxy_protocol = true", "without proxy_trusted"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1'\nproxy_trusted = ['10.0.0.0/8']", "without proxy_protocol"),
        (
            "kind = 'tcp'\naddress = '127.0.0.1:1'\nproxy_protocol = true\nproxy_trusted = ['10.0.0.0/33']",
            "a network looks like",
        ),
        ("kind = 'tcp'\naddress = '0.0.0.0:1'", "client_ca"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1883'", "the place of another listener"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1'\nhandshakes_max = 0", "handshakes_max"),
        ("kind = 'tcp'\naddress = '127.0.0.1:1'\nlimits = { no_such_key = 0 }", "no_such_key"),
    ];
    for (text, wanted) in rows {
        let error = check(&format!("{LISTENER}{text}")).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
    for (text, wanted) in [
        ("listen = 'off'", "nobody could connect"),
        ("listen = 'of'", "or \"off\""),
        ("[[listeners]]\nname = 'internal'\nkind = 'unix'\npath = '/x'", "neither"),
        (
            "[[listeners]]\nname = 'a'\nkind = 'unix'\npath = '/x'\n\
             [[listeners]]\nname = 'a'\nkind = 'unix'\npath = '/y'",
            "the same name",
        ),
        (
            "[[listeners]]\nname = 'a'\nkind = 'unix'\npath = '/x'\n\
             [[listeners]]\nname = 'b'\nkind = 'unix'\npath = '/x'",
            "/x is the place",
        ),
    ] {
        let error = check(text).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_listener_that_asks_for_nothing_odd_is_taken() {
    for text in [
        "kind = 'unix'\npath = '/run/mqtt.sock'\nmode = '0600'",
        "kind = 'tcp'\naddress = '0.0.0.0:1884'\nallow_anonymous = true",
        "kind = 'tcp'\naddress = '127.0.0.1:0'\nproxy_protocol = true\nproxy_trusted = ['10.0.0.0/8', '::1']",
    ] {
        check(&format!("listen = 'off'\n{LISTENER}{text}")).expect(text);
    }
}

#[test]
fn a_network_holds_the_addresses_that_begin_like_it() {
    let rows = [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("0.0.0.0/0", "203.0.113.9", true),
        ("0.0.0.0/0", "::1", false),
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "192.0.2.6", false),
        ("fd00::/8", "fd12::1", true),
        ("fd00::/8", "fe00::1", false),
        ("::/0", "2001:db8::1", true),
        ("::1", "::1", true),
    ];
    for (network, address, wanted) in rows {
        let network: Network = network.parse().unwrap();
        assert_eq!(network.contains(address.parse().unwrap()), wanted, "{network:?} {address}");
    }
    for text in ["", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/33", "::/129", "example.org"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
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
    let keys = include_str!("../config.rs").lines();
    let keys = keys
        .chain(include_str!("limits.rs").lines())
        .chain(include_str!("auth.rs").lines())
        .chain(include_str!("listeners.rs").lines());
    let keys = keys.chain(include_str!("control.rs").lines()).chain(include_str!("heartbeat.rs").lines());
    let fields =
        keys.filter_map(|line| line.strip_prefix("    pub ")?.split_once(": ").map(|(name, _)| name));
    let mut count = 0;
    for key in fields.filter(|name| !name.contains(['(', ' '])) {
        assert!(page.contains(&format!("`{key}`")), "docs/configuration.md does not name `{key}`");
        count += 1;
    }
    assert!(count > 30, "only {count} keys were found");
}

#[test]
fn what_operators_see_of_a_configuration_has_no_secret() {
    let key = "5ec1".repeat(16);
    let text = format!(
        r#"
        internal_password = "SECRET-1"
        users = [{{ name = "ann", password = "SECRET-2" }}, {{ name = "bob", password = "$argon2id$SECRET-3" }}]
        admin.keys = [{{ name = "night-shift", sha256 = "{key}" }}]
        [auth.jwt]
        algorithm = "HS256"
        secret = "SECRET-4"
        [auth.http]
        url = "https://SECRET-5:SECRET-6@SECRET-7@hook.example:8443/ask?token=SECRET-8#SECRET-9"
        authorization = "Bearer SECRET-10"
        [[listeners]]
        name = "proxied"
        kind = "unix"
        path = "/run/mqtt"
        mode = "0600"
        proxy_protocol = true
        proxy_trusted = ["10.0.0.0/8"]
        "#
    );
    let config: Config = toml::from_str(&text).unwrap();
    let shown = serde_json::to_value(&config).unwrap();
    let all = shown.to_string();
    assert!(!all.contains("SECRET") && !all.contains("5ec1"), "{all}");
    let rows = [
        ("/internal_password", "***"),
        ("/users/0/name", "ann"),
        ("/users/0/password", "***"),
        ("/admin/keys/0/name", "night-shift"),
        ("/auth/jwt/secret", "***"),
        ("/auth/http/url", "https://hook.example:8443/ask"),
        ("/auth/http/authorization", "***"),
        ("/listeners/0/mode", "0600"),
        ("/listeners/0/proxy_trusted/0", "10.0.0.0/8"),
        ("/listen", "127.0.0.1:1883"),
    ];
    for (pointer, wanted) in rows {
        assert_eq!(shown.pointer(pointer).and_then(|value| value.as_str()), Some(wanted), "{pointer}");
    }
}
