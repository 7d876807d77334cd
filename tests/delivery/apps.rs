//! Tenants: made by the program's own command, and invisible to each other.

use crate::device::push_id;
use reveille_proto::mqtt::{Packet, QoS};
use reveille_tests::api::Api;
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::{Reveille, run_to_end};
use serde_json::json;

/// One credential in each of two apps.
const USERS: &str = "[[broker.users]]\nname = 'in-shop'\npassword = 'tulip'\napp = 'shop'\n\
                     [[broker.users]]\nname = 'in-default'\npassword = 'rose'\n";

fn connect(reveille: &Reveille, name: &str, user: &str, password: &'static str) -> Client {
    let mut options = Options::persistent(name);
    options.connect.username = Some(user.into());
    options.connect.password = Some(password.as_bytes().into());
    Client::connect(reveille.mqtt(), &options)
}

/// Runs `app create`; its output in lines, or its complaint.
fn create(reveille: &Reveille, app: &str, admin_key: &str) -> Result<Vec<String>, String> {
    let url = format!("http://{}", reveille.http());
    let output = run_to_end(&["app", "create", app, "--http", &url, "--admin-key", admin_key]);
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()),
        Some(1) => Err(String::from_utf8(output.stderr).unwrap()),
        other => panic!("{other:?}: {output:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_the_program_made_is_opened_by_its_key_and_by_no_other_apps_devices() {
    let reveille = Reveille::start_with(USERS);
    let lines = create(&reveille, "shop", reveille.admin_key()).unwrap();
    let key = lines.iter().find_map(|line| line.strip_prefix("key ")).unwrap();
    let api = Api::new(reveille.http(), key);
    let mut ours = connect(&reveille, "twin", "in-shop", "tulip");
    let mut theirs = connect(&reveille, "twin", "in-default", "rose");

    let body = json!({"audience": {"devices": ["twin"]}, "notification": {"title": "t"}});
    let id = api.post("/v1/apps/shop/messages", body.clone()).await["id"].clone();
    assert_eq!(push_id(&ours.take()), id.as_str().unwrap());
    assert_eq!(theirs.ping(), [], "the same client id in another app is another device");
    let (status, _) = api.ask(hyper::Method::POST, "/v1/apps/default/messages", Some(body)).await;
    assert_eq!(status, 403);
    theirs.subscribe("#", QoS::AtLeastOnce);
    assert!(!ours.publish("内部", "x", QoS::AtLeastOnce).is_failure());
    theirs.send(&Packet::PingReq).unwrap();
    assert_eq!(theirs.receive().unwrap(), Packet::PingResp, "topics of one app are invisible in another");
}

#[test]
fn an_app_that_exists_and_a_wrong_key_are_refused_in_one_line() {
    let reveille = Reveille::start();
    create(&reveille, "shop", reveille.admin_key()).unwrap();
    for (app, key, word) in [
        ("shop", reveille.admin_key(), "409"),
        ("No App", reveille.admin_key(), "422"),
        ("other", "0123456789abcdef.wrong", "401"),
    ] {
        let complaint = create(&reveille, app, key).unwrap_err();
        assert!(complaint.contains(word) && complaint.trim_end().lines().count() == 1, "{app}: {complaint}");
    }
}
