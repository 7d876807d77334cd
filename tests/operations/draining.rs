//! SIGUSR1: the clients leave, then the process does.

use reveille_proto::mqtt::{Packet, QoS};
use reveille_proto::reason::ReasonCode;
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
