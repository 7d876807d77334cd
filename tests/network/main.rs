//! The heartbeat on a real network: the program, the library, and between them a NAT of the kernel that forgets.
//!
//! Times pass three hundred times faster than real on both ends: a timeout of ten minutes lasts two seconds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod device;
mod namespaces;

use device::Device;
use namespaces::{BROKER, Network, PREFIX, missing};
use reveille_tests::program::{Reveille, run_to_end};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How many times faster than real.
const SPEED: u32 = 300;

/// The NAT's timeout: ten minutes of the protocol.
const TIMEOUT_S: u32 = 2;
const TIMEOUT: Duration = Duration::from_secs(TIMEOUT_S as u64);

/// What the library asks for at this speed: the longest interval, 28 minutes.
const KEEP_ALIVE: Duration = Duration::from_millis(5_600);

/// So many devices make up most of what is told about a network.
const DEVICES: usize = 8;

/// Learning takes dozens of beats.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker behind the NAT, and an operator beside it.
struct Stage {
    reveille: Reveille,
    network: Network,
}

impl Stage {
    fn new() -> Self {
        let network = Network::new(TIMEOUT_S);
        let config = format!(
            "[broker]\nlisten = 'off'\nhttp = '127.0.0.1:0'\n\
             users = [{{ name = 'u', password = 'p' }}]\n\
             heartbeat = {{ speed = {SPEED}, voter_age_s = 0, devices_min = 1 }}\n\
             [[broker.admin.keys]]\nname = 'ops'\nrole = 'admin'\nsha256 = '{KEY_HASH}'\n\
             [[broker.listeners]]\nname = 'l'\nkind = 'tcp'\naddress = '{BROKER}:1883'\n"
        );
        let reveille = network.broker.within(move || Reveille::start_broker_with(&config));
        Self { reveille, network }
    }

    /// One of the broker's counters.
    fn count(&self, name: &str) -> Option<u64> {
        self.ask("stats").pop()?["counters"][name].as_u64()
    }

    /// What operators see of the devices' network.
    fn seen(&self) -> Option<Value> {
        let networks = self.ask("networks");
        networks.into_iter().find(|line| line["network"] == PREFIX && line["radio"] == "4g")
    }

    fn ask(&self, what: &str) -> Vec<Value> {
        let http = format!("http://{}", self.reveille.http());
        let args = ["ctl", "--http", &http, "--admin-key", KEY, "--json", what].map(str::to_owned);
        let output = self.network.broker.within(move || run_to_end(&args.each_ref().map(String::as_str)));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A key for the operations API, and its hash.
const KEY: &str = "a-key-of-256-random-bits-would-stand-here";
const KEY_HASH: &str = "72f3be8a405ecc213c4f58fbbdf1d7d9b45eba74f0e5c812905031c18eb104d5";

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(100)); // what a remote observer has to do between two looks
    }
}

#[test]
fn devices_find_the_timeout_of_their_nat_and_the_next_one_begins_near_it() {
    if let Some(why) = missing() {
        return eprintln!("SKIPPED: {why}");
    }
    let stage = Stage::new();
    let devices: Vec<Device> = (0..DEVICES).map(|number| Device::start(&stage.network, number)).collect();
    for device in &devices {
        device.settles(TIMEOUT / 2..TIMEOUT);
    }
    let seen = wait_for("all votes", || {
        stage.seen().filter(|seen| seen["counted"].as_u64() >= Some(DEVICES as u64))
    });
    let next = Device::start(&stage.network, DEVICES);
    let first = next.interval();
    assert!(first < TIMEOUT, "{first:?}, {seen}");
    assert!(
        first > TIMEOUT / 2,
        "a device that is told nothing begins at 0.6 s, this one at {first:?}: {seen}"
    );
    next.settles(TIMEOUT / 2..TIMEOUT);

    // The network changes: every connection dies at its next beat, and each device finds that and the new interval.
    let before: Vec<usize> = devices.iter().map(Device::losses).collect();
    let shorter = Duration::from_secs(1);
    stage.network.forgets_after(1);
    for (device, before) in devices.iter().zip(before) {
        device.settles(Duration::ZERO..shorter);
        assert!(device.losses() > before, "it cannot know without a loss");
    }
    wait_for("a death to be believed", || stage.seen()?["deaths"].as_u64().filter(|deaths| *deaths > 0));
}

#[test]
fn a_device_that_vanishes_is_found_at_its_announced_beat_and_not_at_one_and_a_half_keep_alives() {
    if let Some(why) = missing() {
        return eprintln!("SKIPPED: {why}");
    }
    let stage = Stage::new();
    let device = Device::start(&stage.network, 0);
    let interval = device.interval();
    wait_for("a report", || stage.count("heartbeat_reports").filter(|reports| *reports > 0));
    stage.network.cut();
    let cut = Instant::now();
    wait_for("the broker to notice", || stage.count("sessions_online").filter(|online| *online == 0));
    assert!(cut.elapsed() < KEEP_ALIVE * 3 / 2, "{interval:?} was announced, it took {:?}", cut.elapsed());
}
