//! SIGUSR1: the clients leave, then the process does.

use reveille_proto::mqtt::{Packet, QoS};
use reveille_proto::reason::ReasonCode;
use reveille_tests::PATIENCE;
use reveille_tests::api::Api;
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::Reveille;

#[test]
fn a_drain_ends_the_process_and_neither_session_nor_will_is_lost() {
    let mut reveille = Reveille::start_with("[broker.drain]\nover_s = 1\n");
    let mut watcher = Client::connect(reveille.mqtt(), &Options::persistent("watcher"));
    watcher.subscribe("wills/#", QoS::AtLeastOnce);
    watcher.disconnect();
    let will = Options::persistent("mortal").will("wills/mortal", "gone", QoS::AtLeastOnce);
    let mut mortal = Client::connect(reveille.mqtt(), &will);
    mortal.subscribe("d/#", QoS::AtLeastOnce);
    reveille.signal("USR1");
    match mortal.receive().unwrap() {
        Packet::Disconnect(goodbye) => assert_eq!(goodbye.reason, ReasonCode::SERVER_SHUTTING_DOWN),
        other => panic!("{other:?}"),
    }
    let (status, errors) = reveille.wait();
    assert_eq!(status.code(), Some(0), "{errors}");

    reveille.start_again();
    let mut watcher = Client::connect(reveille.mqtt(), &Options::persistent("watcher"));
    assert_eq!(&watcher.take().payload[..], b"gone", "its client did not come back");
    let mortal = Client::connect(reveille.mqtt(), &Options::persistent("mortal"));
    assert!(mortal.session_present());
}

#[tokio::test]
async fn a_program_that_drains_is_not_ready_any_more() {
    let mut reveille = Reveille::start_with("[broker.drain]\nover_s = 600\n");
    let api = Api::new(reveille.http(), reveille.admin_key());
    until_ready(&api, 200, true).await; // the feed connects by itself
    // The first leaves at once, the others over ten minutes.
    let connect = |number| Client::connect(reveille.mqtt(), &Options::persistent(&format!("waits-{number}")));
    let _clients: Vec<Client> = (0..20).map(connect).collect();
    reveille.signal("USR1");
    until_ready(&api, 503, false).await;
    let (status, errors) = reveille.terminate();
    assert_eq!(status.code(), Some(0), "{errors}");
}

/// Asks until the answer has this status; its broker must be as said then.
async fn until_ready(api: &Api, wanted: u16, is_broker_ready: bool) {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let (status, ready) = api.ask(hyper::Method::GET, "/readyz", None).await;
        if status == wanted && ready["broker"] == is_broker_ready {
            return;
        }
        assert!(std::time::Instant::now() < end, "{status} {ready}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
