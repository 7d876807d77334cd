//! Topics over the push server's API, with the keys of apps.

use reveille_proto::mqtt::QoS;
use reveille_tests::api::Api;
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::Reveille;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_app_reads_its_own_topics_with_its_own_key_and_no_other() {
    let reveille = Reveille::start_with("[[broker.history]]\nfilter = 'plant/#'\nvalue = 'json:/temp'\n");
    let operator = Api::new(reveille.http(), reveille.admin_key());
    operator.post("/v1/apps", json!({"id": "shop", "name": "Shop"})).await;
    let mut keys = Vec::new();
    for app in ["default", "shop"] {
        let key = operator
            .post(&format!("/v1/apps/{app}/keys"), json!({"scopes": ["read"], "name": "dashboard"}))
            .await;
        keys.push(Api::new(reveille.http(), key["key"].as_str().unwrap()));
    }
    let [own, other] = [&keys[0], &keys[1]];
    let mut sensor = Client::connect(reveille.mqtt(), &Options::clean("sensor"));
    for temp in [20, 30] {
        assert!(!sensor.publish("plant/7", json!({"temp": temp}).to_string(), QoS::AtLeastOnce).is_failure());
    }
    let path = "/v1/apps/default/topics/plant%2F7";
    let history = own.get(&format!("{path}/history?step=300d&agg=avg")).await;
    assert_eq!(history["points"][0]["value"], 25.0);
    assert_eq!(own.get(&format!("{path}/last")).await["value"]["value"], 30.0);
    let get = reveille_tests::api::Method::GET;
    for (api, path, status, code) in [
        (other, format!("{path}/last"), 403, "key_forbidden"),
        (other, "/v1/apps/shop/topics/plant%2F7/last".to_owned(), 404, "topic_unknown"),
        (own, "/v1/apps/default/topics/nothing/last".to_owned(), 404, "topic_unknown"),
        (own, "/v1/apps/default/topics/nothing/history".to_owned(), 404, "no_history"),
        (other, "/v1/apps/default/topics/stream?filter=%23".to_owned(), 403, "key_forbidden"),
        (own, "/v1/apps/default/topics/stream".to_owned(), 400, "invalid_query"),
    ] {
        let (found, answer): (u16, Value) = api.ask(get.clone(), &path, None).await;
        assert_eq!((found, answer["code"].as_str()), (status, Some(code)), "{path}: {answer}");
    }
}
