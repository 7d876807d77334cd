//! The program `reveille` as a child process with a data directory of its own.

use crate::PATIENCE;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where cargo puts the program: beside the directory of the test executables.
///
/// # Panics
/// When it is not built: a test target of another package cannot ask cargo for it.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.parent().and_then(Path::parent).expect("target/debug above target/debug/deps");
    let binary = target.join("reveille");
    assert!(binary.exists(), "{} is missing: run `cargo build -p reveille` first", binary.display());
    binary
}

/// Runs the program to its end, with whatever it prints.
pub fn run_to_end(args: &[&str]) -> Output {
    run_to_end_with(args, &[])
}

/// The same with environment variables.
pub fn run_to_end_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(args);
    command.envs(variables.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    child.expect("the program starts").wait_with_output().expect("its end")
}

/// The same with something on standard input.
pub fn run_with_input(args: &[&str], input: &str) -> Output {
    let mut command = command(args);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    // Whoever needs no input may be gone before it is written.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("its end")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REVEILLE_")) {
        command.env_remove(name); // what the developer has set is not part of the test
    }
    command
}

/// Which parts of the program run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    /// Broker, bridge and API.
    All,
    /// The MQTT broker.
    Broker,
    /// Bridge and API, at the internal listener of a broker.
    Bridge(SocketAddr),
}

/// What broker and bridge share when they are two processes.
const SHARED_PASSWORD: &str = "for-this-test";

/// A directory, and the program in it: running, or killed and to be started again.
#[derive(Debug)]
pub struct Reveille {
    directory: TempDir,
    parts: Parts,
    config: Option<PathBuf>,
    running: Option<Running>,
    addresses: Addresses,
}

#[derive(Debug)]
struct Running {
    child: Child,
    errors: Errors,
}

/// What the program writes to standard error.
#[derive(Debug)]
struct Errors {
    text: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Errors {
    fn read(from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                lines.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn so_far(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn all(self) -> String {
        let _ = self.reader.join();
        self.text.lock().unwrap().clone()
    }
}

/// What the start lines say.
#[derive(Clone, Debug, Default)]
struct Addresses {
    mqtt: Option<SocketAddr>,
    http: Option<SocketAddr>,
    internal: Option<SocketAddr>,
    listeners: HashMap<String, String>,
    admin_key: Option<String>,
}

impl Reveille {
    /// Broker, bridge and API on free ports, in a new directory.
    pub fn start() -> Self {
        Self::prepare(Parts::All, "").started()
    }

    /// The same with a configuration file.
    pub fn start_with(config: &str) -> Self {
        Self::prepare(Parts::All, config).started()
    }

    /// The MQTT broker alone, with a configuration file.
    pub fn start_broker_with(config: &str) -> Self {
        Self::prepare(Parts::Broker, config).started()
    }

    /// Bridge and API alone, for a broker that was started alone.
    pub fn start_bridge_of(broker: &Self) -> Self {
        Self::start_bridge_of_with(broker, "")
    }

    /// The same with a configuration file.
    pub fn start_bridge_of_with(broker: &Self, config: &str) -> Self {
        Self::prepare(Parts::Bridge(broker.addresses.internal.unwrap()), config).started()
    }

    /// The same in a directory that somebody else made.
    pub fn start_broker_in(directory: TempDir, config: &str) -> Self {
        Self::prepare_in(directory, Parts::Broker, config).started()
    }

    fn prepare(parts: Parts, config: &str) -> Self {
        Self::prepare_in(tempfile::tempdir().expect("a temporary directory"), parts, config)
    }

    fn prepare_in(directory: TempDir, parts: Parts, config: &str) -> Self {
        let path = directory.path().join("reveille.toml");
        let config = (!config.is_empty()).then(|| {
            std::fs::write(&path, config).expect("the configuration file");
            path
        });
        Self { directory, parts, config, running: None, addresses: Addresses::default() }
    }

    fn started(mut self) -> Self {
        self.start_again();
        self
    }

    /// Starts on the same data, on the same ports as before.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut command = self.command();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = Errors::read(child.stderr.take().unwrap());
        let lines = lines(child.stdout.take().unwrap());
        self.running = Some(Running { child, errors });
        self.read_start(&lines);
    }

    fn command(&self) -> Command {
        let data_dir = self.directory.path().join("data");
        let port =
            |known: Option<SocketAddr>| known.map_or("127.0.0.1:0".to_owned(), |address| address.to_string());
        let (mqtt, http) = (port(self.addresses.mqtt), port(self.addresses.http));
        let mut command = match self.parts {
            Parts::All => command(&["run", "--mqtt", &mqtt, "--http", &http]),
            Parts::Broker => {
                command(&["broker", "--mqtt", &mqtt, "--internal", &port(self.addresses.internal)])
            }
            Parts::Bridge(broker) => command(&["bridge", "--http", &http, "--broker", &broker.to_string()]),
        };
        if self.parts != Parts::All {
            command.env("REVEILLE_INTERNAL_PASSWORD", SHARED_PASSWORD);
        }
        command.arg("--data-dir").arg(data_dir);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
    }

    fn read_start(&mut self, lines: &Receiver<String>) {
        let end = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "ready" => return,
                Ok(line) => self.read_start_line(&line),
                Err(RecvTimeoutError::Timeout) => panic!("not ready in time"),
                Err(RecvTimeoutError::Disconnected) => {
                    let Running { mut child, errors } = self.running.take().unwrap();
                    let status = child.wait().unwrap();
                    panic!("it ended instead of getting ready: {status}, {}", errors.all());
                }
            }
        }
    }

    fn read_start_line(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("mqtt", address)) => self.addresses.mqtt = Some(address.parse().unwrap()),
            Some(("internal", address)) => self.addresses.internal = Some(address.parse().unwrap()),
            Some(("http" | "https", address)) => self.addresses.http = Some(address.parse().unwrap()),
            Some(("listener", rest)) => {
                let mut words = rest.splitn(3, ' ');
                if let (Some(name), Some(_kind), Some(place)) = (words.next(), words.next(), words.next()) {
                    self.addresses.listeners.insert(name.to_owned(), place.to_owned());
                }
            }
            Some(("admin-key", key)) => self.addresses.admin_key = Some(key.to_owned()),
            _ => {}
        }
    }

    /// Where MQTT clients connect.
    pub fn mqtt(&self) -> SocketAddr {
        self.addresses.mqtt.unwrap()
    }

    /// Where the listener of that name is; after a restart with port 0 it is elsewhere.
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.addresses.listeners.get(name).unwrap_or_else(|| panic!("no listener {name}")).parse().unwrap()
    }

    /// Where the HTTP API is.
    pub fn http(&self) -> SocketAddr {
        self.addresses.http.unwrap()
    }

    /// The key that the first start printed.
    pub fn admin_key(&self) -> &str {
        self.addresses.admin_key.as_deref().unwrap()
    }

    /// Its directory: data, configuration, and room for the test's own files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end; the exit status and what stood on standard error.
    pub fn terminate(&mut self) -> (ExitStatus, String) {
        let mut running = self.running.take().expect("it runs");
        send_signal("TERM", running.child.id());
        let status = wait(&mut running.child);
        (status, running.errors.all())
    }

    /// Sends a signal, such as `HUP`, and goes on.
    pub fn signal(&self, name: &str) {
        send_signal(name, self.running.as_ref().expect("it runs").child.id());
    }

    /// SIGSTOP, and waits until none of its threads runs: each is stopped, or in the kernel and will be stopped there.
    pub fn freeze(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.running.as_ref().expect("it runs").child.id());
        let is_still = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses.
            stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['T', 'D']))
        };
        wait_for("its threads to stop", || std::fs::read_dir(&tasks).unwrap().all(is_still).then_some(()));
    }

    /// Waits until it ends by itself; the exit status and what stood on standard error.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut running = self.running.take().expect("it runs");
        let status = wait(&mut running.child);
        (status, running.errors.all())
    }

    /// What stands on standard error so far, in whole lines.
    pub fn errors(&self) -> String {
        self.running.as_ref().map(|running| running.errors.so_far()).unwrap_or_default()
    }

    /// Replaces the configuration file. The program had one when it started.
    pub fn rewrite_config(&self, config: &str) {
        std::fs::write(self.config.as_ref().expect("a configuration file"), config).unwrap();
    }

    /// Its process, to look at from outside.
    pub fn process(&self) -> u32 {
        self.running.as_ref().expect("it runs").child.id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.child.try_wait().unwrap().is_none())
    }
}

impl Drop for Reveille {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let _ = running.child.kill();
        let _ = running.child.wait();
        if thread::panicking() {
            eprintln!("--- the program's standard error\n{}", running.errors.all());
        }
    }
}

/// The standard library can only kill, so the signal goes by the system's own tool.
fn send_signal(name: &str, process: u32) {
    let status =
        Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().expect("kill");
    assert!(status.success(), "kill -{name} {process}");
}

fn wait(child: &mut Child) -> ExitStatus {
    let (sender, ended) = channel();
    let process = child.id();
    thread::scope(|scope| {
        scope.spawn(move || {
            let late = ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
            }
        });
        let status = child.wait().unwrap();
        let _ = sender.send(());
        status
    })
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = sender.send(line); // reads on when nobody listens, so that the child never blocks
        }
    });
    lines
}

/// Asks again and again until the answer is there. For states that nobody announces; the pause is what a remote
/// observer has to make between two looks.
///
/// # Panics
/// After [`PATIENCE`], with what was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
