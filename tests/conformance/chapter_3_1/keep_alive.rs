//! Section 3.1.2.10: keep alive.

use crate::harness::{Client, Connect, PATIENCE, Stage, VERSIONS, publish, subscribe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;

/// Covers: MQTT3-3.1.2-24, MQTT5-3.1.2-22, MQTT5-3.2.2-22
#[test]
fn a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    for stage in Stage::everywhere(&VERSIONS) {
        let started = Instant::now();
        let mut client = stage.accepted(Connect::new("c").keep_alive(1));
        client.expect_goodbye(KEEP_ALIVE_TIMEOUT);
        assert!(started.elapsed().as_millis() >= 1500, "never earlier: {:?}", started.elapsed());
    }
}

/// Covers: MQTT3-3.1.2-24, MQTT5-3.1.2-22
/// Trap: the keep-alive deadline counts received packets only: what the broker sends does not restart it
#[test]
fn a_client_that_only_receives_is_silent() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut silent = stage.accepted(Connect::new("silent").keep_alive(1));
        silent.subscribe("t", 0);
        let started = Instant::now();
        loop {
            sender.send(publish("t", "x"));
            match silent.next_or_end() {
                Some(frame) if frame.first >> 4 == 3 => {}
                Some(frame) => break assert_eq!(frame.disconnect().code, KEEP_ALIVE_TIMEOUT),
                None => break assert!(!stage.is_v5(), "5.0 hears why"),
            }
            assert!(started.elapsed() < PATIENCE, "the messages keep it alive");
        }
    }
}

/// Sends one packet after the other until told to stop; every one of them is answered.
fn chatter(mut client: Client, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        client.expect_nothing();
        client.send(subscribe(1, "t", 0));
        client.next();
        client.publish("elsewhere", "x");
    }
    client.leave();
}

/// Covers: MQTT3-3.1.2-24, MQTT5-3.1.2-22
/// Trap: keep alive 0 refused
/// Also: section 3.1.2.10, a keep alive of 0 turns it off
#[test]
fn a_client_that_talks_lives_and_so_does_one_without_keep_alive() {
    for stage in Stage::each(&VERSIONS) {
        let talker = stage.accepted(Connect::new("talker").keep_alive(1));
        let mut calm = stage.accepted(Connect::new("calm").keep_alive(0));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| chatter(talker, &is_over));
            // Two that are silent, one after the other: longer than the talker would live without talking.
            for id in ["silent", "silent too"] {
                stage.accepted(Connect::new(id).keep_alive(1)).expect_goodbye(KEEP_ALIVE_TIMEOUT);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        calm.expect_nothing();
    }
}
