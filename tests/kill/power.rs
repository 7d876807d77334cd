//! The power goes: the data directory is on a file system of its own, which is shut down under load (EXT4_IOC_SHUTDOWN, as
//! the file system's own tests do it). Whatever the broker wrote and did not sync is gone, the end of a write may be torn,
//! and what was acknowledged must still be there.
//!
//! `REVEILLE_POWER_CUTS=n` says how often.

use crate::ledger::Ledger;
use crate::publisher::Publisher;
use crate::subscriber::Subscriber;
use crate::{CONFIG, PUBLISHERS, load, seeded, while_working};
use rand::RngExt as _;
use reveille_tests::program::Reveille;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How often the power goes when nobody says.
const CUTS: usize = 5;

/// Bytes of the file system: above what the broker wants to be free.
const DISK_BYTES: u64 = 1 << 30;

/// Shuts a file system down, when a line comes. The ioctl needs no `unsafe` in another language; that an interpreter starts
/// must not lie between the moment and the cut, so it starts before. Flags: 1 lets the file system's journal reach the
/// disk, 2 not even that.
const CUT: &str = "
import fcntl, os, struct, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
flags = int(sys.stdin.readline())
fcntl.ioctl(directory, 0x8004587D, struct.pack('I', flags))
print('cut', flush=True)
";

/// An ext4 in a file, mounted; unmounted with this value.
struct Disk {
    home: TempDir,
}

impl Disk {
    fn new() -> Self {
        let disk = Self { home: tempfile::tempdir().unwrap() };
        std::fs::File::create(disk.image()).unwrap().set_len(DISK_BYTES).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(disk.image()));
        std::fs::create_dir(disk.mounted()).unwrap();
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.mounted()));
    }

    /// After a cut: what is only in memory is forgotten, and the journal is played back.
    fn mount_again(&self) {
        run(Command::new("umount").arg(self.mounted()));
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Something that cuts the power when it is told.
struct Switch {
    child: std::process::Child,
    told: BufReader<std::process::ChildStdout>,
}

impl Switch {
    fn of(directory: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", CUT]).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        let mut switch = Self { child, told };
        switch.expect("ready");
        switch
    }

    fn cut(mut self, flags: u8) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{flags}").unwrap();
        self.expect("cut");
        assert!(self.child.wait().unwrap().success());
    }

    fn expect(&mut self, wanted: &str) {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), wanted);
    }
}

#[test]
#[ignore = "needs root and loop devices; test.sh runs it where both exist"]
fn a_broker_whose_power_is_cut_loses_nothing_acknowledged_and_doubles_no_qos_2() {
    let cuts = std::env::var("REVEILLE_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(CUTS);
    let mut random = seeded("power cuts");
    let disk = Disk::new();
    let directory = tempfile::tempdir_in(disk.mounted()).unwrap();
    let mut reveille = Reveille::start_broker_in(directory, CONFIG);
    let mut publishers = PUBLISHERS.map(|(name, qos)| Publisher::new(name, qos));
    publishers.iter_mut().for_each(|publisher| publisher.may_be_refused = true);
    let mut online = Subscriber::new("online-设备");
    let mut offline = Subscriber::new("offline-设备");
    for subscriber in [&mut online, &mut offline] {
        subscriber.subscribe(reveille.mqtt(), "kill/#");
    }
    run(&mut Command::new("sync")); // the configuration file is the test's, not the broker's

    for _ in 0..cuts {
        let moment = Duration::from_millis(random.random_range(5..400));
        let flags = random.random_range(1..=2);
        let switch = Switch::of(&disk.mounted());
        let end = |reveille: &mut Reveille| {
            // Without power nobody hears how a sync on its way ended. A file system that is shut down may say "done" to
            // one that was not (seen with a bare loop of append and fdatasync), so nobody may live to tell.
            reveille.freeze();
            switch.cut(flags);
            reveille.kill();
        };
        while_working(&mut reveille, moment, end, |address, is_killed| {
            load(&mut publishers, &mut online, address, is_killed);
        });
        disk.mount_again();
        reveille.start_again();
    }
    let address = reveille.mqtt();
    for publisher in &mut publishers {
        publisher.may_be_refused = false;
        publisher.finish(address);
    }
    for subscriber in [&mut online, &mut offline] {
        subscriber.drain(address, &publishers);
        let ledger = Ledger::of(&publishers, subscriber);
        ledger.print(cuts);
        ledger.check();
    }
    drop(reveille); // its directory is on the disk
}
