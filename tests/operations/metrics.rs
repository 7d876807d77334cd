//! The metrics of the real program, its documentation, the dashboard and the alarms know the same names.

use reveille_tests::program::Reveille;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

fn metrics(reveille: &Reveille) -> String {
    let mut socket = TcpStream::connect(reveille.http()).unwrap();
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// The name of the metric of which this is a line.
fn family(name: &str) -> &str {
    ["_total", "_info", "_bucket", "_count", "_sum"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// Every name of ours in a text, whatever stands around it.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let is_ours = |word: &&str| {
        ["reveille_broker_", "reveille_bridge_", "reveille_build", "process_"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
    };
    words.filter(is_ours).map(|word| family(word).to_owned()).collect()
}

/// What stands first in a row of a table of the page.
fn rows() -> BTreeSet<String> {
    let document = read("docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split(['`', '{']).next()).map(str::to_owned).collect()
}

fn documented() -> BTreeSet<String> {
    let rows = rows();
    let names = rows.iter().filter(|row| row.starts_with("reveille_") || row.starts_with("process_"));
    names.map(|name| family(name).to_owned()).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let text = metrics(&Reveille::start());
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let printed: BTreeSet<String> =
        kinds.map(|line| family(line.split(' ').next().unwrap()).to_owned()).collect();
    let documented = documented();
    let missing: Vec<_> = printed.difference(&documented).collect();
    // The push server prints a metric with a label once it counted something.
    let gone = documented.difference(&printed).filter(|name| !name.starts_with("reveille_bridge_"));
    let gone: Vec<_> = gone.collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in docs/metrics.md: {missing:?}, only there: {gone:?}"
    );
}

#[test]
fn the_dashboard_the_alarms_and_the_runbook_ask_for_metrics_that_exist() {
    let documented = documented();
    for file in ["docs/grafana/reveille.json", "deploy/prometheus/alerts.yml", "docs/operations.md"] {
        let asked = names_in(&read(file));
        let unknown: Vec<_> = asked.difference(&documented).collect();
        assert!(!asked.is_empty() && unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn each_panel_of_the_dashboard_asks_something() {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana/reveille.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{panel}"));
        assert!(targets.iter().all(|target| !target["expr"].as_str().unwrap().is_empty()), "{panel}");
    }
    assert!(panels.len() > 10);
}
