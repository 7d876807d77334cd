//! A device behind a NAT that forgets silent connections, and a broker on the other side: three network namespaces.
//!
//! ```text
//!  devices 10.77.0.2 ---- 10.77.0.1  NAT  198.51.100.1 ---- 198.51.100.2 broker
//! ```
//! The NAT is the kernel's own connection tracking, with a timeout of our choice, and silent as carriers' are: what
//! belongs to no connection that it knows is dropped in both directions, without an answer.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

/// Where the devices are, as the broker sees them.
pub const PREFIX: &str = "198.51.100.0/24";

/// Where the broker listens.
pub const BROKER: &str = "198.51.100.2";

/// How the NAT treats what it does not know. Without `drop` it would answer with RST, which tells both sides at once.
const RULES: &str = "
table ip reveille {
    chain translate { type nat hook postrouting priority srcnat; oifname \"outside\" masquerade; }
    chain forward { type filter hook forward priority filter; ct state invalid drop; }
    chain input { type filter hook input priority filter; iifname \"outside\" drop; }
}
";

/// One of the three; gone when dropped.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// One that nobody else has.
    fn name(role: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("reveille-{}-{}-{role}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn new(role: &str) -> Self {
        let name = Self::name(role);
        ip(&["netns", "add", &name]);
        let namespace = Self(name);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.0], args].concat());
    }

    /// Runs a shell line in it.
    fn shell(&self, line: &str) {
        ip(&["netns", "exec", &self.0, "sh", "-c", line]);
    }

    /// Does something on a thread that is in it; the sockets and processes that it opens are in it too.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    /// The same, and waits for it.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// All of it.
#[derive(Debug)]
pub struct Network {
    pub devices: Namespace,
    nat: Namespace,
    pub broker: Namespace,
}

impl Network {
    /// With a NAT that forgets connections that are silent for so many seconds.
    pub fn new(timeout_s: u32) -> Self {
        let network = Self {
            devices: Namespace::new("devices"),
            nat: Namespace::new("nat"),
            broker: Namespace::new("broker"),
        };
        network.join(&network.devices, "eth", "10.77.0.2/24", "inside", "10.77.0.1/24");
        network.join(&network.broker, "eth", "198.51.100.2/24", "outside", "198.51.100.1/24");
        network.devices.ip(&["route", "add", "default", "via", "10.77.0.1"]);
        network.nat.shell("echo 1 > /proc/sys/net/ipv4/ip_forward");
        // What comes in the middle of a connection that it forgot opens no new one.
        network.nat.shell("echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose");
        network.nat.shell(&format!("nft '{RULES}'"));
        network.forgets_after(timeout_s);
        network
    }

    /// From now on the NAT forgets after so many seconds; for each connection from its next packet on.
    pub fn forgets_after(&self, timeout_s: u32) {
        self.nat.shell(&format!(
            "echo {timeout_s} > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established"
        ));
    }

    /// From now on nothing of the devices gets anywhere, and nobody is told.
    pub fn cut(&self) {
        self.nat.ip(&["link", "set", "inside", "down"]);
    }

    fn join(&self, end: &Namespace, name: &str, address: &str, nat_name: &str, nat_address: &str) {
        ip(&[
            "link",
            "add",
            name,
            "netns",
            &end.0,
            "type",
            "veth",
            "peer",
            "name",
            nat_name,
            "netns",
            &self.nat.0,
        ]);
        for (namespace, name, address) in [(end, name, address), (&self.nat, nat_name, nat_address)] {
            namespace.ip(&["addr", "add", address, "dev", name]);
            namespace.ip(&["link", "set", name, "up"]);
        }
    }
}

/// Why there can be no such network on this machine; `None`: there can.
pub fn missing() -> Option<String> {
    let can = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    if !can("nft", &["--version"]) {
        return Some("nft is not installed".to_owned());
    }
    let name = Namespace::name("probe");
    if !can("ip", &["netns", "add", &name]) {
        return Some("network namespaces cannot be made here (root is needed)".to_owned());
    }
    let probe = Namespace(name);
    let has_nat = can("ip", &["netns", "exec", &probe.0, "nft", RULES]);
    let has_timeout = can(
        "ip",
        &[
            "netns",
            "exec",
            &probe.0,
            "test",
            "-w",
            "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
        ],
    );
    (!has_nat || !has_timeout).then(|| "the kernel has no connection tracking with NAT".to_owned())
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip runs");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
