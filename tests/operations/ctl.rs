//! `reveille ctl` against `reveille run`: the first admin key opens the broker's API on the bridge's address.

use reveille_proto::mqtt::QoS;
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::{Reveille, run_to_end_with};

fn ctl_with(reveille: &Reveille, key: &str, args: &[&str]) -> (bool, String) {
    let url = format!("http://{}", reveille.http());
    let args: Vec<&str> = ["ctl"].into_iter().chain(args.iter().copied()).collect();
    let output = run_to_end_with(&args, &[("REVEILLE_URL", &url), ("REVEILLE_ADMIN_KEY", key)]);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn ctl(reveille: &Reveille, args: &[&str]) -> String {
    let (is_well, text) = ctl_with(reveille, reveille.admin_key(), args);
    assert!(is_well, "{args:?}: {text}");
    text
}

#[test]
fn an_operator_finds_a_client_and_sends_it_away() {
    let reveille = Reveille::start();
    let mut device = Client::connect(reveille.mqtt(), &Options::persistent("设备/1"));
    device.subscribe("a/#", QoS::AtLeastOnce);
    let table = ctl(&reveille, &["sessions", "--client-id", "设*"]);
    assert!(table.lines().nth(1).unwrap().contains("设备/1"), "{table}");
    let json = ctl(&reveille, &["sessions", "--client-id", "设*", "--json"]);
    let session: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((&session["online"], &session["subscriptions"]), (&true.into(), &1.into()));
    assert!(ctl(&reveille, &["receivers", "a/b"]).contains("a/#"));
    assert!(ctl(&reveille, &["publish", "a/b", "醒"]).contains("has_receivers: true"));
    assert_eq!(device.take().payload, "醒");
    assert_eq!(ctl(&reveille, &["kick", "设备/1", "--reason", "server_busy"]).trim(), "done");
    assert_eq!(device.wait_end(), Some(ReasonCode::SERVER_BUSY));
    assert!(ctl(&reveille, &["publish", "a/b", "later"]).contains("true"));
    assert!(ctl(&reveille, &["queue", "设备/1"]).contains("later"));
    assert!(ctl(&reveille, &["queues"]).contains("设备/1"));
    assert!(ctl(&reveille, &["purge", "设备/1"]).contains("dropped: 1"));
    assert_eq!(ctl(&reveille, &["end", "设备/1"]).trim(), "done");
    let (is_well, text) = ctl_with(&reveille, reveille.admin_key(), &["session", "设备/1"]);
    assert!(!is_well && text.contains("No such session"), "{text}");
}

fn export(reveille: &Reveille) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(reveille.http()).unwrap();
    let key = reveille.admin_key();
    write!(socket, "GET /v1/audit/export HTTP/1.0\r\nAuthorization: Bearer {key}\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn an_operator_sees_whether_the_audit_log_is_what_it_was() {
    let reveille = Reveille::start();
    let verify = |more: &[&str]| {
        let args = [&["audit", "verify"], more].concat();
        ctl_with(&reveille, reveille.admin_key(), &args)
    };
    for name in ["a", "b", "c"] {
        ctl(&reveille, &["ban", "user", name]);
    }
    let (is_well, text) = verify(&[]);
    assert!(is_well && text.starts_with("whole: "), "{text}");
    let noted = text.lines().find_map(|line| line.strip_prefix("newest hash: ")).unwrap().to_owned();
    ctl(&reveille, &["ban", "user", "d"]);
    let exported = export(&reveille);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    std::fs::write(path, &exported).unwrap();
    let (is_well, text) = verify(&["--file", path, "--head", &noted, "--json"]);
    assert!(is_well && text.contains("\"is_whole\":true"), "{text}");
    let (last, text) = (exported.lines().count(), exported.replacen("/v1/broker/bans", "/v1/broker/bins", 1));
    std::fs::write(path, text).unwrap();
    let (is_well, text) = verify(&["--file", path]);
    assert!(!is_well && text.contains("its text was changed") && text.lines().count() == 1, "{text}");
    let cut: String = exported.lines().take(last - 2).map(|line| format!("{line}\n")).collect();
    std::fs::write(path, cut).unwrap();
    let (is_well, text) = verify(&["--file", path, "--head", &noted]);
    assert!(!is_well && text.contains("ends before it"), "{text}");
}

#[test]
fn an_operator_changes_the_log_and_reads_what_runs() {
    let reveille = Reveille::start();
    assert!(ctl(&reveille, &["log", "info,reveille_broker=debug"]).contains("debug"));
    assert!(ctl(&reveille, &["log"]).contains("debug"));
    assert!(ctl(&reveille, &["listeners"]).contains(&reveille.mqtt().to_string()));
    let banned = ctl(&reveille, &["ban", "user", "mallory", "--reason", "guesses"]);
    assert!(ctl(&reveille, &["bans"]).contains("mallory"));
    assert_eq!(ctl(&reveille, &["unban", banned.trim().strip_prefix("id: ").unwrap()]).trim(), "done");
    assert!(ctl(&reveille, &["shards"]).contains("LAG US"));
    assert!(ctl(&reveille, &["stats"]).contains("counters.connects"));
    let (is_well, text) = ctl_with(&reveille, reveille.admin_key(), &["reload"]);
    assert!(!is_well && text.contains("no configuration file"), "{text}");
    for key in ["", "nonsense", "0123456789abcdef.nonsense"] {
        let (is_well, text) = ctl_with(&reveille, key, &["stats"]);
        assert!(!is_well && text.contains("401"), "{key}: {text}");
    }
}

#[test]
fn an_operator_follows_a_client_and_empties_the_broker() {
    let reveille = Reveille::start();
    let added = ctl(&reveille, &["trace", "add", "--client-id", "设备", "--for-s", "600"]);
    let number = added.trim().strip_prefix("number: ").unwrap();
    assert!(ctl(&reveille, &["trace", "list"]).contains("设备"));
    assert_eq!(ctl(&reveille, &["trace", "remove", number]).trim(), "done");
    assert!(!ctl(&reveille, &["trace", "list"]).contains("设备"));
    assert!(!ctl_with(&reveille, reveille.admin_key(), &["trace", "remove", number]).0);
    assert!(ctl(&reveille, &["config"]).contains("drain.over_s: 30"));
    let mut device = Client::connect(reveille.mqtt(), &Options::persistent("device"));
    let drain = ["drain", "--server-reference", "elsewhere.example:1883", "--over-s", "0"];
    assert_eq!(ctl(&reveille, &drain).trim(), "done");
    assert_eq!(device.wait_end(), Some(ReasonCode::USE_ANOTHER_SERVER));
}

#[test]
fn a_broker_alone_asks_for_the_keys_of_its_configuration() {
    let output = run_to_end_with(&["ctl", "new-key", "--name", "ops", "--role", "admin"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let key = text.lines().next().unwrap().strip_prefix("key ").unwrap().to_owned();
    let table = text.split_once("\n\n").unwrap().1;
    let reveille = Reveille::start_broker_with(&format!("[broker]\nhttp = '127.0.0.1:0'\n{table}"));
    let (is_well, text) = ctl_with(&reveille, &key, &["sessions"]);
    assert!(is_well && text.starts_with("APP"), "{text}");
    assert!(!ctl_with(&reveille, "wrong", &["sessions"]).0);
}
