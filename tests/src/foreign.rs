//! `mosquitto_pub` and `mosquitto_sub` of Debian as clients that we did not write.

use crate::PATIENCE;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

/// Runs `mosquitto_pub` to its end.
///
/// # Panics
/// When it is not there or does not succeed.
pub fn mosquitto_pub(broker: SocketAddr, args: &[&str]) {
    let output = tool("mosquitto_pub", broker, args)
        .stdin(Stdio::null())
        .output()
        .expect("mosquitto-clients is there");
    assert!(output.status.success(), "mosquitto_pub {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `mosquitto_sub -E`: makes the session and its subscriptions, and leaves.
///
/// # Panics
/// When it is not there or does not succeed.
pub fn mosquitto_sub_once(broker: SocketAddr, args: &[&str]) {
    let output = tool("mosquitto_sub", broker, args).arg("-E").output().expect("mosquitto-clients is there");
    assert!(output.status.success(), "mosquitto_sub {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A message as `mosquitto_sub` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its topic name.
    pub topic: String,
    /// The QoS of the delivery.
    pub qos: u8,
    /// Whether it came as a retained message.
    pub is_retained: bool,
    /// Its payload as text.
    pub payload: String,
}

/// A running `mosquitto_sub`. Dropping it kills it.
#[derive(Debug)]
pub struct MosquittoSub {
    child: Child,
    lines: Receiver<String>,
}

/// What marks a message among the debug lines.
const MARK: &str = "message ";

impl MosquittoSub {
    /// Starts it; returns when the broker has acknowledged the subscription.
    ///
    /// # Panics
    /// When it is not there or gets no SUBACK.
    pub fn start(broker: SocketAddr, args: &[&str]) -> Self {
        let sub = Self::start_without_waiting(broker, args);
        while !sub.line().starts_with("Subscribed") {}
        sub
    }

    /// Starts it and returns at once: a persistent session may get messages before its SUBACK.
    ///
    /// # Panics
    /// When it is not there.
    pub fn start_without_waiting(broker: SocketAddr, args: &[&str]) -> Self {
        let mut command = Command::new("stdbuf"); // a pipe would hold its lines back
        command.args([
            "-oL",
            "mosquitto_sub",
            "-h",
            &broker.ip().to_string(),
            "-p",
            &broker.port().to_string(),
        ]);
        command.args(["-d", "-F", &format!("{MARK}%q %r %t %p")]).args(args);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("mosquitto_sub says something")
    }

    /// The next message.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn take(&self) -> Shown {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "mosquitto_sub shows no message");
            if let Some(shown) = self.line().strip_prefix(MARK) {
                return read(shown);
            }
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn wait_end(mut self) {
        while self.lines.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Disconnected) {}
        assert!(self.child.wait().unwrap().success());
    }

    /// Waits until it waits for its socket.
    fn wait_until_idle(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        let is_busy = |text: String| !text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'));
        let end = Instant::now() + PATIENCE;
        while std::fs::read_to_string(&stat).is_ok_and(is_busy) && Instant::now() < end {
            thread::yield_now();
        }
    }

    /// Ends it with SIGTERM, on which it says DISCONNECT; messages that it showed and that nobody took.
    pub fn leave(mut self) -> Vec<Shown> {
        // Its handler of the signal prints. Were it still inside of printing the last message, that would come out twice.
        self.wait_until_idle();
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        self.lines.iter().filter_map(|line| line.strip_prefix(MARK).map(read)).collect()
    }
}

fn read(shown: &str) -> Shown {
    let mut parts = shown.splitn(4, ' ');
    let mut part = || parts.next().unwrap().to_owned();
    let (qos, retained, topic, payload) = (part(), part(), part(), part());
    Shown { topic, qos: qos.parse().unwrap(), is_retained: retained == "1", payload }
}

impl Drop for MosquittoSub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tool(name: &str, broker: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(["-h", &broker.ip().to_string(), "-p", &broker.port().to_string()]).args(args);
    command
}
