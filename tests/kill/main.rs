//! SIGKILL at random moments, under load and while draining: what was acknowledged arrives, QoS 2 once, in order.
//!
//! `REVEILLE_SEED=n` repeats the moments of an earlier run (not the machine's speed).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod audience;
mod idempotency;
mod ledger;
mod power;
mod publisher;
mod schedules;
mod sender;
mod subscriber;
mod vendors;
mod webhooks;

use ledger::Ledger;
use publisher::Publisher;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reveille_proto::mqtt::QoS;
use reveille_tests::PATIENCE;
use reveille_tests::program::Reveille;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use subscriber::Subscriber;

/// How often the broker is killed under load.
const KILLS_UNDER_LOAD: usize = 24;
/// How often it is killed while an offline queue is drained.
const KILLS_WHILE_DRAINING: usize = 12;
/// Queues must take all of a run: a refusal would be right, but it is another test's matter.
const CONFIG: &str = "[broker.limits]\nqueue_messages_max = 1000000\nqueue_max_bytes = 1000000000\n";

const PUBLISHERS: [(&str, QoS); 4] =
    [("p1", QoS::AtLeastOnce), ("p2", QoS::ExactlyOnce), ("p3", QoS::AtLeastOnce), ("p4", QoS::ExactlyOnce)];

#[test]
fn a_broker_killed_under_load_loses_nothing_acknowledged_and_doubles_no_qos_2() {
    let mut random = seeded("under load");
    let mut reveille = Reveille::start_broker_with(CONFIG);
    let mut publishers = PUBLISHERS.map(|(name, qos)| Publisher::new(name, qos));
    let mut online = Subscriber::new("online-设备");
    let mut offline = Subscriber::new("offline-设备");
    for subscriber in [&mut online, &mut offline] {
        subscriber.subscribe(reveille.mqtt(), "kill/#");
    }

    for _ in 0..KILLS_UNDER_LOAD {
        let moment = Duration::from_millis(random.random_range(5..400));
        load_until_killed(&mut reveille, &mut publishers, &mut online, moment);
        reveille.start_again();
    }
    let address = reveille.mqtt();
    thread::scope(|scope| {
        publishers.iter_mut().for_each(|publisher| drop(scope.spawn(|| publisher.finish(address))))
    });

    for subscriber in [&mut online, &mut offline] {
        subscriber.drain(address, &publishers);
        let ledger = Ledger::of(&publishers, subscriber);
        ledger.print(KILLS_UNDER_LOAD);
        ledger.check();
    }
}

#[test]
fn a_broker_killed_while_a_session_drains_loses_nothing_and_doubles_no_qos_2() {
    let mut random = seeded("while draining");
    let mut reveille = Reveille::start_broker_with(CONFIG);
    let mut publishers = PUBLISHERS.map(|(name, qos)| Publisher::new(name, qos));
    let mut offline = Subscriber::new("drain-设备");
    offline.subscribe(reveille.mqtt(), "kill/#");
    for publisher in &mut publishers {
        publisher.send_some(reveille.mqtt(), 1000);
    }

    for _ in 0..KILLS_WHILE_DRAINING {
        let moment = Duration::from_millis(random.random_range(1..60));
        kill_while(&mut reveille, moment, |address, _| offline.receive_until_lost(address));
        reveille.start_again();
    }
    offline.drain(reveille.mqtt(), &publishers);
    let ledger = Ledger::of(&publishers, &offline);
    ledger.print(KILLS_WHILE_DRAINING);
    ledger.check();
}

/// All publish and the online subscriber receives, until the broker is killed.
fn load_until_killed(
    reveille: &mut Reveille,
    publishers: &mut [Publisher],
    online: &mut Subscriber,
    moment: Duration,
) {
    kill_while(reveille, moment, |address, is_killed| load(publishers, online, address, is_killed));
}

fn load(publishers: &mut [Publisher], online: &mut Subscriber, address: SocketAddr, is_killed: &AtomicBool) {
    thread::scope(|scope| {
        for publisher in publishers {
            scope.spawn(move || publisher.send_until_lost(address, is_killed));
        }
        online.receive_until_lost(address);
    });
}

/// Kills the broker a moment after the work began; the work ends with its connections.
fn kill_while(reveille: &mut Reveille, moment: Duration, work: impl FnOnce(SocketAddr, &AtomicBool) + Send) {
    while_working(reveille, moment, Reveille::kill, work);
}

/// The same with an end of the caller's choice, after which the process is gone.
fn while_working(
    reveille: &mut Reveille,
    moment: Duration,
    end: impl FnOnce(&mut Reveille),
    work: impl FnOnce(SocketAddr, &AtomicBool) + Send,
) {
    let address = reveille.mqtt();
    let is_killed = Arc::new(AtomicBool::new(false));
    let (begun, has_begun) = channel();
    thread::scope(|scope| {
        let is_killed_too = Arc::clone(&is_killed);
        let worker = scope.spawn(move || {
            begun.send(()).unwrap();
            work(address, &is_killed_too);
        });
        has_begun.recv_timeout(PATIENCE).unwrap();
        thread::park_timeout(moment); // the random moment is the test itself
        end(reveille);
        is_killed.store(true, Ordering::SeqCst);
        worker.join().unwrap();
    });
}

fn seeded(test: &str) -> SmallRng {
    let given = std::env::var("REVEILLE_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(rand::random);
    println!("kill test {test}: REVEILLE_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}
