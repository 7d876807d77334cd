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
    api.get_until("/readyz", |ready| ready["broker"] == true).await;
    let _client = Client::connect(reveille.mqtt(), &Options::persistent("waits-for-its-turn"));
    reveille.signal("USR1");
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let (status, ready) = api.ask(hyper::Method::GET, "/readyz", None).await;
        if status == 503 {
            assert_eq!((&ready["broker"], &ready["store"]), (&false.into(), &true.into()), "{ready}");
            break;
        }
        assert!(std::time::Instant::now() < end, "{status} {ready}");
    }
    let (status, errors) = reveille.terminate();
    assert_eq!(status.code(), Some(0), "{errors}");
}
