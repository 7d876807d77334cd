//! The log of the real program.

use reveille_tests::program::Reveille;
use serde_json::Value;

#[test]
fn a_log_in_json_has_one_object_a_line_with_its_fields_at_the_top() {
    let mut reveille = Reveille::start_with("log = 'info'\nlog_format = 'json'\n");
    let (status, errors) = reveille.terminate();
    assert!(status.success());
    let lines: Vec<Value> = errors.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let serves =
        lines.iter().find(|line| line["message"] == "the broker serves").expect("a line of the start");
    assert_eq!(serves["level"], "INFO");
    assert_eq!(serves["target"], "reveille_broker::server");
    assert!(serves["mqtt"].as_str().unwrap().starts_with("127.0.0.1:"), "{serves}");
    assert!(serves["timestamp"].is_string(), "{serves}");
}

#[test]
fn all_is_well_and_nothing_is_said() {
    let mut reveille = Reveille::start();
    assert_eq!(reveille.terminate().1, "");
}
