//! Acknowledged means durable: what clients hear while the store is slow, full or broken.

use crate::client::{Client, PATIENCE, connect, durable, publish};
use crate::config;
use reveille_broker::Broker;
use reveille_broker_store::{Memory, Store, StoreError};
use reveille_proto::mqtt::{Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

fn start_on(store: &Arc<Memory>) -> Broker {
    reveille_broker::start_on(config(""), Arc::clone(store) as Arc<dyn Store>).unwrap()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// A session that is offline: what it is to get must go to the disk.
fn park_device(broker: &Broker) {
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, "device"));
    device.subscribe("t", QoS::AtLeastOnce);
    device.send(&Packet::Disconnect(Box::new(reveille_proto::mqtt::Disconnect::new(ReasonCode::SUCCESS))));
    assert_eq!(device.receive_or_end(), None);
}

/// Syncs the store while nobody holds `arm`. Whoever holds it knows that no sync runs, not even one that began before.
fn spin_disk(store: &Arc<Memory>, arm: &Arc<Mutex<()>>) -> std::thread::JoinHandle<()> {
    let (store, arm) = (Arc::clone(store), Arc::clone(arm));
    std::thread::spawn(move || {
        while Arc::strong_count(&arm) > 1 {
            let free = arm.lock().unwrap();
            store.sync();
            drop(free);
            std::thread::yield_now();
        }
    })
}

/// Stops the disk at a moment at which it has nothing left to write.
fn hold_idle<'arm>(store: &Memory, arm: &'arm Mutex<()>) -> MutexGuard<'arm, ()> {
    let started = Instant::now();
    loop {
        let held = arm.lock().unwrap();
        if store.pending() == 0 {
            return held;
        }
        drop(held);
        assert!(started.elapsed() < PATIENCE, "the store is never idle");
        std::thread::yield_now();
    }
}

#[test]
fn no_acknowledgement_leaves_before_the_commit_ended() {
    let store = Arc::new(Memory::manual());
    let arm = Arc::new(Mutex::new(()));
    let broker = start_on(&store);
    let disk = spin_disk(&store, &arm);
    park_device(&broker);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    let held = hold_idle(&store, &arm);
    sender.send(&publish("t", b"x", QoS::AtLeastOnce, 1));
    wait_for("a commit", || store.pending() > 0);
    sender.ping(); // answered; were the PUBACK on its way, it would have come first
    assert!(store.pending() > 0);
    drop(held);
    assert!(matches!(sender.receive(), Packet::PubAck(ack) if ack.reason == ReasonCode::SUCCESS));
    broker.stop();
    drop(arm);
    disk.join().unwrap();
}

#[test]
fn a_full_disk_refuses_publishes_and_the_broker_recovers_by_itself() {
    let store = Arc::new(Memory::new());
    let broker = start_on(&store);
    park_device(&broker);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    assert_eq!(sender.publish("t", b"1", 1), ReasonCode::SUCCESS);
    store.fail_next(StoreError::Full);
    assert_eq!(sender.publish("t", b"lost", 2), ReasonCode::QUOTA_EXCEEDED);
    assert!(!broker.is_ready());
    let started = Instant::now();
    while sender.publish("t", b"2", 3) != ReasonCode::SUCCESS {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20)); // as a publisher that was refused does
    }
    assert!(broker.is_ready());
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, "device"));
    for wanted in [b"1", b"2"] {
        let got = device.receive_publish();
        assert_eq!(&got.payload[..], wanted, "what was refused must not come");
        device.acknowledge(&got);
    }
    device.ping();
}

#[test]
fn a_publisher_that_cannot_hear_no_is_closed_whoever_s_disk_refused() {
    let store = Arc::new(Memory::new());
    let broker = start_on(&store);
    park_device(&broker);
    let mut prober = Client::connect(broker.mqtt_addr(), connect(Version::V5, "prober", true));
    for n in 0..3 {
        // The device's shard commits. Some of these publishers belong to another one.
        let sender = connect(Version::V3_1_1, &format!("sender-{n}"), true);
        let mut sender = Client::connect(broker.mqtt_addr(), sender);
        store.fail_next(StoreError::Full);
        sender.send(&publish("t", b"lost", QoS::AtLeastOnce, 1));
        assert_eq!(sender.receive_or_end(), None, "a PUBACK of 3.1.1 always means success: sender-{n}");
        wait_for("recovery", || prober.publish("t", b"x", 1) == ReasonCode::SUCCESS);
    }
}

#[test]
fn a_broken_store_stops_nobody_from_talking() {
    let store = Arc::new(Memory::new());
    let broker = start_on(&store);
    park_device(&broker);
    let mut reader = Client::connect(broker.mqtt_addr(), connect(Version::V5, "reader", true));
    reader.subscribe("live", QoS::AtLeastOnce);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    (0..100).for_each(|_| store.fail_next(StoreError::Broken));
    assert_eq!(sender.publish("t", b"x", 1), ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(sender.publish("live", b"y", 2), ReasonCode::SUCCESS);
    assert_eq!(&reader.receive_publish().payload[..], b"y");
}

#[test]
fn a_delayed_message_comes_after_a_crash() {
    let store = Arc::new(Memory::new());
    let broker = start_on(&store);
    park_device(&broker);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    assert_eq!(sender.publish("$delayed/1/t", "醒".as_bytes(), 1), ReasonCode::SUCCESS);
    let crashed = Arc::new(store.crash()); // what was acknowledged is all that is left
    broker.stop();
    let broker = start_on(&crashed);
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, "device"));
    let Packet::Publish(publish) = device.receive() else { panic!("not the message") };
    assert_eq!((publish.topic.unwrap().as_str(), &*publish.payload), ("t", "醒".as_bytes()));
    broker.stop();
}
