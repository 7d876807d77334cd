//! A well-behaved client: it sends messages to itself for as long as an attack lasts, and must always get them.

use reveille_proto::mqtt::{Ack, Packet, QoS};
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options, publish};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long one round trip may take on a machine that builds, and is attacked. [`Client::receive`] gives up later.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(30);

pub struct Witness {
    is_over: Arc<AtomicBool>,
    talking: JoinHandle<Served>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    pub round_trips: u64,
    pub slowest: Duration,
}

impl Served {
    pub fn and(self, other: Self) -> Self {
        Self { round_trips: self.round_trips + other.round_trips, slowest: self.slowest.max(other.slowest) }
    }
}

impl Witness {
    /// Connects and starts to talk.
    pub fn start(broker: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut client = Client::connect(broker, &Options::clean("witness"));
        client.subscribe("witness", QoS::AtLeastOnce);
        let over = Arc::clone(&is_over);
        let talking = thread::spawn(move || {
            let mut served = Served::default();
            while !over.load(Ordering::Relaxed) || served.round_trips == 0 {
                let started = Instant::now();
                round_trip(&mut client, served.round_trips);
                served.round_trips += 1;
                served.slowest = served.slowest.max(started.elapsed());
            }
            client.disconnect();
            served
        });
        Self { is_over, talking }
    }

    /// Ends it; panics when it was not served.
    pub fn stop(self) -> Served {
        self.is_over.store(true, Ordering::Relaxed);
        let served = self.talking.join().expect("the witness was served");
        assert!(served.slowest < ROUND_TRIP_MAX, "{served:?}");
        served
    }
}

/// Publishes with QoS 1 and waits for both PUBACK and the message.
fn round_trip(client: &mut Client, number: u64) {
    let (packet_id, payload) = (client.fresh_id(), number.to_string());
    client
        .send(&publish("witness", payload.clone().into(), QoS::AtLeastOnce, Some(packet_id), false))
        .unwrap();
    let (mut is_acknowledged, mut has_come) = (false, false);
    while !(is_acknowledged && has_come) {
        match client.receive().expect("the witness is served") {
            Packet::PubAck(ack) => {
                assert_eq!((ack.packet_id, ack.reason), (packet_id, ReasonCode::SUCCESS));
                is_acknowledged = true;
            }
            Packet::Publish(publish) => {
                assert_eq!(publish.payload, payload);
                client
                    .send(&Packet::PubAck(Ack::new(publish.packet_id.unwrap(), ReasonCode::SUCCESS)))
                    .unwrap();
                has_come = true;
            }
            other => panic!("{other:?}"),
        }
    }
}
