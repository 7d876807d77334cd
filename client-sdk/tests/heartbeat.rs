//! The learned heartbeat against a scripted server: what CONNECT says, what a beat is, what a broker's window does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot prepare its scene must fail"
)]

mod support;

use reveille_client::{Client, Label, Learning, Network, NetworkState, Options, Radio};
use reveille_proto::heartbeat::{Config, Gap, Quantiles, REPORT_TOPIC, Report};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PingResp, Publish};
use std::time::Duration;
use support::{Connection, FakeServer, id, properties, soon};

/// A minute lasts 60 ms.
const SPEED: u32 = 1_000;

fn network() -> Network {
    Network { radio: Radio::G4, label: Label::parse("46000").unwrap() }
}

fn options(server: &FakeServer) -> Options {
    server.options("phone").learned_heartbeat(Learning::on(network()).speed(SPEED))
}

fn advice() -> Config {
    Config { quantiles: Some(Quantiles([290, 300, 310, 320, 330].map(Gap))), ttl_s: 60, ..Config::default() }
}

/// Accepts as a broker that takes part.
async fn accept_with(server: &FakeServer, advice: Config) -> Connection {
    let mut properties = properties();
    properties.user_properties = vec![("hb-cfg".to_owned(), advice.to_string())];
    server.accept_with(true, properties).await
}

/// The next beat with something to tell, not acknowledged; beats without are answered.
async fn report(connection: &mut Connection) -> (u16, Report) {
    loop {
        match connection.receive().await {
            Packet::PingReq(_) => connection.send(Packet::PingResp(PingResp)).await,
            Packet::Publish(publish) if publish.topic == REPORT_TOPIC => {
                let text = std::str::from_utf8(&publish.payload).unwrap();
                return (publish.pkid, Report::parse(text).expect("a report"));
            }
            other => panic!("wanted a beat, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn connect_tells_the_network_and_asks_for_the_longest_keep_alive() {
    let server = FakeServer::start().await;
    let (_client, _messages) =
        Client::connect(server.options("phone").learned_heartbeat(Learning::on(network()))).unwrap();
    let connection = server.accept(false).await;
    assert_eq!(connection.connect.keep_alive, 1_680);
    let said = connection.connect.properties.clone().unwrap().user_properties;
    let said: Vec<String> = said.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(said, ["hb=1", "hb-net=4g,46000", "hb-late=15"]);
}

#[tokio::test]
async fn a_broker_that_takes_part_is_told_in_place_of_a_ping_until_there_is_no_news() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(options(&server)).unwrap();
    let mut connection = accept_with(&server, advice()).await;
    let (packet_id, first) = report(&mut connection).await;
    assert_eq!((first.network, first.observations.len()), (network(), 0));
    assert!(first.next.is_some_and(|next| next < Gap(310)), "{:?}", first.next);
    connection.puback(packet_id).await;
    let (packet_id, second) = report(&mut connection).await;
    assert!(second.observations.iter().all(|seen| seen.survived), "{:?}", second.observations);
    connection.puback(packet_id).await;
    client.close().await;
}

#[tokio::test]
async fn a_broker_that_does_not_take_part_sees_pings_only() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(options(&server)).unwrap();
    let mut connection = server.accept(false).await;
    for _ in 0..5 {
        assert!(matches!(connection.receive().await, Packet::PingReq(_)));
        connection.send(Packet::PingResp(PingResp)).await;
    }
    client.close().await;
}

#[tokio::test]
async fn advice_during_a_connection_is_the_librarys_and_not_a_message() {
    let server = FakeServer::start().await;
    let (client, mut messages) = Client::connect(options(&server)).unwrap();
    let mut connection = server.accept(false).await;
    let advice = Publish::new("$hb/cfg", QoS::AtMostOnce, advice().to_string(), None);
    connection.send(Packet::Publish(advice)).await;
    // It takes part from here on, so it is told.
    let (packet_id, _) = report(&mut connection).await;
    connection.puback(packet_id).await;
    client.close().await;
    assert!(messages.recv().await.is_none());
}

#[tokio::test]
async fn a_death_that_the_next_connection_proves_is_told_to_the_broker() {
    let server = FakeServer::start().await;
    let options = options(&server).ping_timeout(Duration::from_millis(50));
    let (client, _messages) = Client::connect(options).unwrap();
    let mut connection = accept_with(&server, advice()).await;
    report(&mut connection).await; // and no answer
    assert!(connection.next().await.is_none(), "it gives the connection up");
    let mut connection = accept_with(&server, advice()).await;
    loop {
        let (packet_id, said) = report(&mut connection).await;
        connection.puback(packet_id).await;
        if said.observations.iter().any(|seen| !seen.survived) {
            break; // the first report was that of the last connection, repeated
        }
    }
    client.close().await;
}

#[tokio::test]
async fn a_vendors_push_makes_a_silent_connection_answer_or_go() {
    let server = FakeServer::start().await;
    let slow = server.options("phone").learned_heartbeat(Learning::on(network()));
    let (client, _messages) = Client::connect(slow).unwrap();
    let mut connection = server.accept(false).await;
    client.online().await.unwrap();
    client.vendor_push_received(id(1)).await.unwrap();
    assert!(matches!(connection.receive().await, Packet::PingReq(_)));
    assert!(connection.next().await.is_none(), "no answer: the connection is given up");
    server.accept(true).await;
}

#[tokio::test]
async fn after_the_brokers_end_a_device_comes_back_within_the_window_that_it_asked_for() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(options(&server)).unwrap();
    let connection = accept_with(&server, Config { window_s: 25, ..advice() }).await;
    let mut network = client.network();
    soon("online", network.wait_for(NetworkState::is_online)).await.unwrap();
    drop(connection);
    let waiting = |state: &NetworkState| matches!(state, NetworkState::Waiting { .. });
    let state = soon("the loss", network.wait_for(waiting)).await.unwrap().clone();
    let NetworkState::Waiting { retry_in, .. } = state else { panic!("{state:?}") };
    assert!(retry_in > Duration::ZERO && retry_in <= Duration::from_secs(25), "{retry_in:?}");
}

#[tokio::test]
async fn what_was_learned_outlives_the_app() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start().await;
    let options = || {
        let learning = Learning::on(network()).speed(SPEED).file(dir.path().join("heartbeat"));
        server.options("phone").learned_heartbeat(learning)
    };
    let (client, _messages) = Client::connect(options()).unwrap();
    let mut connection = server.accept(false).await;
    for _ in 0..3 {
        assert!(matches!(connection.receive().await, Packet::PingReq(_)));
        connection.send(Packet::PingResp(PingResp)).await;
    }
    let mut heartbeat = client.heartbeat();
    soon("the evidence", heartbeat.wait_for(|state| state.survived > Duration::ZERO)).await.unwrap();
    client.close().await;
    let (_client, _messages) = Client::connect(options()).unwrap();
    let connection = server.accept(true).await;
    let said = connection.connect.properties.clone().unwrap().user_properties;
    assert!(
        said.iter().any(|(name, value)| name == "hb-lo" && value.parse::<u16>().unwrap() > 60),
        "{said:?}"
    );
}
