//! A publisher against a scripted server: nothing unacknowledged is lost, a refusal is an error.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot prepare its scene must fail"
)]

mod support;

use reveille_client::{
    LossReason, NetworkState, PublishError, Publisher, PushHints, QoS, ReasonCode, Strategy,
};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Packet, PubAckReason, PubComp, PubRec, PubRecReason,
    Publish,
};
use std::collections::HashSet;
use std::time::Duration;
use support::{Connection, FakeServer, properties, soon};

const QOS1: QoS = QoS::AtLeastOnce;
const QOS2: QoS = QoS::ExactlyOnce;

async fn receive_payload(connection: &mut Connection) -> (u16, bool, String) {
    let publish = connection.receive_publish().await;
    (publish.pkid, publish.dup, String::from_utf8(publish.payload.to_vec()).unwrap())
}

#[tokio::test]
async fn a_cut_connection_resumes_and_repeats_what_was_not_acknowledged_in_order() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p")).unwrap();
    let hints = PushHints::default();
    let publishing = async {
        tokio::join!(
            publisher.publish("设备/1", "a", QOS1, &hints),
            publisher.publish("设备/1", "b", QOS1, &hints),
            publisher.publish("设备/1", "c", QOS1, &hints),
        )
    };
    let serving = async {
        let mut connection = server.accept(false).await;
        assert!(connection.connect.clean_start, "a publisher begins anew");
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(receive_payload(&mut connection).await);
        }
        connection.puback(sent.first().unwrap().0).await;
        drop(connection);
        let mut connection = server.accept(true).await;
        assert!(!connection.connect.clean_start, "and resumes");
        for (packet_id, _, payload) in sent.into_iter().skip(1) {
            assert_eq!(receive_payload(&mut connection).await, (packet_id, true, payload));
            connection.puback(packet_id).await;
        }
        connection
    };
    let (results, _connection) = tokio::join!(publishing, serving);
    assert_eq!(results, (Ok(()), Ok(()), Ok(())));
}

#[tokio::test]
async fn a_lost_session_gets_unacknowledged_publishes_as_new_ones() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p")).unwrap();
    let hints = PushHints::default();
    let serving = async {
        receive_payload(&mut server.accept(false).await).await;
        let mut connection = server.accept(false).await;
        let (packet_id, dup, payload) = receive_payload(&mut connection).await;
        assert_eq!((dup, payload.as_str()), (false, "a"));
        connection.puback(packet_id).await;
        connection
    };
    let (result, _connection) = tokio::join!(publisher.publish("t", "a", QOS1, &hints), serving);
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn a_refusal_is_an_error_with_the_brokers_reason_and_harms_no_other_publish() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p")).unwrap();
    let hints = PushHints::default();
    let publishing = async {
        assert_eq!(
            publisher.publish("t", "a", QOS1, &hints).await,
            Err(PublishError::Refused(ReasonCode::QUOTA_EXCEEDED))
        );
        assert_eq!(publisher.publish("t", "b", QOS1, &hints).await, Ok(()), "no subscriber is no failure");
        let unwanted = publisher.publish("t", "c", QOS2, &hints).await;
        assert_eq!(unwanted, Err(PublishError::Refused(ReasonCode::QUOTA_EXCEEDED)));
        assert_eq!(publisher.publish("t", "d", QoS::AtMostOnce, &hints).await, Ok(()));
    };
    let serving = async {
        let mut connection = server.accept(false).await;
        let (packet_id, ..) = receive_payload(&mut connection).await;
        connection.refuse(packet_id, PubAckReason::QuotaExceeded).await;
        let (packet_id, ..) = receive_payload(&mut connection).await;
        connection.refuse(packet_id, PubAckReason::NoMatchingSubscribers).await;
        let (packet_id, ..) = receive_payload(&mut connection).await;
        let refused = PubRec { pkid: packet_id, reason: PubRecReason::QuotaExceeded, properties: None };
        connection.send(Packet::PubRec(refused)).await;
        assert_eq!(receive_payload(&mut connection).await.2, "d");
    };
    tokio::join!(publishing, serving);
}

#[tokio::test]
async fn many_refused_qos_2_publishes_do_not_stop_the_publisher() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p").in_flight_max(2)).unwrap();
    let hints = PushHints::default();
    let publishing = async {
        for _ in 0..40 {
            assert!(publisher.publish("t", "a", QOS2, &hints).await.is_err());
        }
        publisher.publish("t", "b", QOS1, &hints).await
    };
    let serving = async {
        let mut session_present = false;
        loop {
            let mut connection = server.accept(session_present).await;
            session_present = true;
            while let Some(packet) = connection.next().await {
                match packet {
                    Packet::Publish(Publish { qos: QOS2, pkid, .. }) => {
                        let refused = PubRec { pkid, reason: PubRecReason::QuotaExceeded, properties: None };
                        connection.send(Packet::PubRec(refused)).await;
                    }
                    Packet::Publish(publish) => connection.puback(publish.pkid).await,
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    };
    tokio::select! {
        result = publishing => assert_eq!(result, Ok(())),
        () = serving => {}
    }
}

#[tokio::test]
async fn qos_2_goes_through_both_steps_and_repeats_the_second_after_a_cut() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p")).unwrap();
    let hints = PushHints::default();
    let serving = async {
        let mut connection = server.accept(false).await;
        let (packet_id, ..) = receive_payload(&mut connection).await;
        connection.send(Packet::PubRec(PubRec::new(packet_id, None))).await;
        assert!(matches!(connection.receive().await, Packet::PubRel(release) if release.pkid == packet_id));
        drop(connection);
        let mut connection = server.accept(true).await;
        assert!(matches!(connection.receive().await, Packet::PubRel(release) if release.pkid == packet_id));
        connection.send(Packet::PubComp(PubComp::new(packet_id, None))).await;
        connection
    };
    let (result, _connection) = tokio::join!(publisher.publish("t", "a", QOS2, &hints), serving);
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn a_session_lost_between_the_two_steps_of_qos_2_is_told() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p")).unwrap();
    let hints = PushHints::default();
    let serving = async {
        let mut connection = server.accept(false).await;
        let (packet_id, ..) = receive_payload(&mut connection).await;
        connection.send(Packet::PubRec(PubRec::new(packet_id, None))).await;
        connection.receive().await;
        drop(connection);
        server.accept(false).await
    };
    let (result, _connection) = tokio::join!(publisher.publish("t", "a", QOS2, &hints), serving);
    assert_eq!(result, Err(PublishError::OutcomeUnknown));
}

#[tokio::test]
async fn a_small_receive_maximum_and_late_acknowledgements_lose_nothing() {
    let server = FakeServer::start().await;
    let publisher = std::sync::Arc::new(Publisher::connect(server.options("p")).unwrap());
    let publishing: Vec<_> = (0..30)
        .map(|n: u32| {
            let publisher = publisher.clone();
            let qos = if n.is_multiple_of(3) { QOS2 } else { QOS1 };
            tokio::spawn(
                async move { publisher.publish("t", n.to_string(), qos, &PushHints::default()).await },
            )
        })
        .collect();
    let serving = async {
        let properties = ConnAckProperties { receive_max: Some(4), ..properties() };
        let mut connection = server.accept_with(false, properties).await;
        let (mut held, mut in_use, mut payloads) = (Vec::new(), HashSet::new(), Vec::new());
        while payloads.len() < 30 || !in_use.is_empty() {
            match connection.receive().await {
                Packet::Publish(publish) => {
                    assert!(in_use.insert(publish.pkid), "an identifier in use");
                    assert!(in_use.len() <= 4, "more in flight than Receive Maximum");
                    payloads
                        .push(String::from_utf8(publish.payload.to_vec()).unwrap().parse::<u32>().unwrap());
                    held.push((publish.pkid, publish.qos));
                }
                Packet::PubRel(release) => {
                    connection.send(Packet::PubComp(PubComp::new(release.pkid, None))).await;
                    in_use.remove(&release.pkid);
                }
                other => panic!("unexpected {other:?}"),
            }
            if held.len() < 2 {
                continue;
            }
            for (packet_id, qos) in held.drain(..).rev() {
                if qos == QOS2 {
                    connection.send(Packet::PubRec(PubRec::new(packet_id, None))).await;
                } else {
                    in_use.remove(&packet_id);
                    connection.puback(packet_id).await;
                }
            }
        }
        payloads.sort_unstable();
        assert_eq!(payloads, (0..30).collect::<Vec<_>>());
        connection
    };
    let _connection = serving.await;
    for publish in publishing {
        assert_eq!(soon("an answer", publish).await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn a_packet_above_the_brokers_limit_is_refused_here_and_the_connection_stays() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p")).unwrap();
    let hints = PushHints::default();
    let serving = async {
        let properties = ConnAckProperties { max_packet_size: Some(100), ..properties() };
        let mut connection = server.accept_with(false, properties).await;
        let (packet_id, _, payload) = receive_payload(&mut connection).await;
        assert_eq!(payload, "small");
        connection.puback(packet_id).await;
        connection
    };
    let publishing = async {
        let large = publisher.publish("t", vec![b'x'; 100], QOS1, &hints).await;
        assert!(matches!(large, Err(PublishError::TooLarge { max: 100, .. })), "{large:?}");
        publisher.publish("t", "small", QOS1, &hints).await
    };
    let (_connection, result) = tokio::join!(serving, publishing);
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn push_hints_travel_as_user_properties_and_expiry() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p")).unwrap();
    let hints = PushHints {
        title: Some("报警".to_owned()),
        body: Some("温度过高".to_owned()),
        strategy: Some(Strategy::VendorFirst),
        collapse: Some("k".to_owned()),
        ttl: Some(Duration::from_secs(60)),
    };
    let serving = async {
        let mut connection = server.accept(false).await;
        let publish = connection.receive_publish().await;
        connection.puback(publish.pkid).await;
        (publish, connection)
    };
    let (result, (publish, _connection)) = tokio::join!(publisher.publish("t", "x", QOS1, &hints), serving);
    assert_eq!(result, Ok(()));
    let properties = publish.properties.unwrap();
    assert_eq!(properties.message_expiry_interval, Some(60));
    let wanted = [
        ("push-title", "报警"),
        ("push-body", "温度过高"),
        ("push-strategy", "vendor_first"),
        ("push-collapse", "k"),
    ];
    assert_eq!(properties.user_properties, wanted.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[tokio::test]
async fn a_refused_connection_is_told_and_tried_again() {
    let server = FakeServer::start().await;
    let publisher = Publisher::connect(server.options("p").credentials("u", "wrong")).unwrap();
    let mut connection = server.accept_silently().await;
    connection
        .send(Packet::ConnAck(ConnAck {
            session_present: false,
            code: ConnectReturnCode::BadUserNamePassword,
            properties: None,
        }))
        .await;
    let mut network = publisher.network();
    let told =
        soon("the reason", network.wait_for(|state| matches!(state, NetworkState::Waiting { .. }))).await;
    let reason = LossReason::Refused(ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    assert!(matches!(&*told.unwrap(), NetworkState::Waiting { reason: told, .. } if *told == reason));
    let _connection = server.accept(false).await;
    publisher.online().await.unwrap();
}
