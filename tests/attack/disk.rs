//! A disk that fills up to its last byte under a broker that has messages on it.

use crate::rounds;
use crate::target::{Bounds, Damage, Target};
use reveille_proto::mqtt::QoS;
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::wait_for;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// More than the reserve below which the broker refuses messages.
const DISK: &str = "size=400m";
const BYTES: usize = 20_000;
const BEFORE: usize = 20;
const REFUSED: usize = 50;

/// A file system of its own; unmounted at the end.
struct Disk {
    place: TempDir,
}

impl Disk {
    fn mount() -> Self {
        let place = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(place.path()).status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a small disk is needed: run as root, who may mount one"
        );
        Self { place }
    }

    fn directory(&self) -> TempDir {
        TempDir::new_in(self.place.path()).unwrap()
    }

    fn fill(&self) -> PathBuf {
        let path = self.place.path().join("filler");
        let mut filler = File::create(&path).unwrap();
        let chunk = vec![7; 1 << 20];
        while filler.write_all(&chunk).is_ok() {}
        while filler.write(&chunk[..1024]).is_ok_and(|count| count > 0) {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.place.path()).status();
    }
}

/// Publishes with QoS 1 for the sleeper; says whether the broker took it.
fn publish(client: &mut Client, number: usize) -> bool {
    let payload = format!("{number:0BYTES$}");
    match client.publish("睡/1", payload, QoS::AtLeastOnce) {
        ReasonCode::SUCCESS => true,
        ReasonCode::QUOTA_EXCEEDED => false,
        other => panic!("{other:?}"),
    }
}

fn run(target: &Target, fill: impl Fn() -> PathBuf) -> Damage {
    let mut sleeper = Client::connect(target.address(), &Options::persistent("sleeper"));
    sleeper.subscribe("睡/#", QoS::AtLeastOnce);
    sleeper.disconnect();
    let mut talker = Client::connect(target.address(), &Options::clean("talker"));
    let mut kept: Vec<usize> = (0..BEFORE).filter(|number| publish(&mut talker, *number)).collect();
    assert_eq!(kept.len(), BEFORE);

    let filler = fill();
    let mut next = BEFORE;
    // The last pages that the store has already are used up first.
    wait_for("the broker to refuse", || {
        next += 1;
        let is_taken = publish(&mut talker, next);
        kept.extend(is_taken.then_some(next));
        (!is_taken).then_some(())
    });
    for _ in 0..REFUSED {
        next += 1;
        kept.extend(publish(&mut talker, next).then_some(next));
    }
    std::fs::remove_file(filler).unwrap();
    wait_for("the broker to take messages again", || {
        next += 1;
        publish(&mut talker, next).then(|| kept.push(next))
    });
    talker.disconnect();
    drains(target, &kept);
    Damage { what: "publishes around a full disk", count: next }
}

/// Everything that was acknowledged is there, in order, and nothing that was refused.
fn drains(target: &Target, kept: &[usize]) {
    let mut sleeper = Client::connect(target.address(), &Options::persistent("sleeper"));
    assert!(sleeper.session_present());
    for number in kept {
        let payload = sleeper.take().payload;
        assert_eq!(payload, format!("{number:0BYTES$}"), "{number}");
    }
    assert_eq!(sleeper.ping(), []);
    drop(sleeper);
    Client::connect(target.address(), &Options::clean("sleeper")).disconnect();
}

#[test]
fn a_full_disk_refuses_and_recovers_without_losing_what_was_acknowledged() {
    let disk = Disk::mount();
    let bounds = Bounds { session_expiry_max_s: 3600, ..Bounds::default() };
    Target::start_in(disk.directory(), bounds)
        .suffer("full disk", rounds(), |target| run(target, || disk.fill()));
}
