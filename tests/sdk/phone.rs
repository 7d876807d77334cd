//! A phone: the example program of one binding, with orders going in and lines coming out.

use crate::bindings;
use reveille_tests::PATIENCE;
use reveille_tests::program;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;
use tempfile::TempDir;

/// A binding, ready to be started.
pub struct Platform {
    /// Program and the arguments that come before the phone's own.
    command: Box<dyn Fn() -> Command>,
    /// Whether it speaks MQTT over WebSocket.
    pub is_web: bool,
    /// Generated sources that the program needs.
    _sources: Option<TempDir>,
}

impl Platform {
    pub fn rust() -> Self {
        let example = program::binary().with_file_name("examples").join("phone");
        assert!(example.exists(), "{} is missing: cargo build --examples", example.display());
        Self { command: Box::new(move || Command::new(&example)), is_web: false, _sources: None }
    }

    /// A program of `client-sdk/web`, compiled by `test.sh`.
    pub fn node(program: &str) -> Self {
        let program = web(program);
        let command = move || {
            let mut command = Command::new("node");
            command.arg(&program);
            command
        };
        Self { command: Box::new(command), is_web: true, _sources: None }
    }

    pub fn chromium() -> Self {
        let (page, agent) =
            (web("dist/page.js"), Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/clients/page_agent.cjs"));
        let modules = bindings::interop("node/node_modules");
        let command = move || {
            let mut command = Command::new("node");
            command.arg(&agent).env("NODE_PATH", &modules).env("PAGE", &page);
            command
        };
        Self { command: Box::new(command), is_web: true, _sources: None }
    }

    /// On the JVM, as Android would with its own runtime.
    pub fn kotlin() -> Self {
        let sources = bindings::generate("kotlin");
        let classes = sources.path().join("classes");
        let class_path = bindings::compile_kotlin(sources.path(), &classes);
        let libraries = sources.path().to_owned();
        let command = move || {
            let mut command = Command::new("java");
            command.arg(format!("-Djna.library.path={}", libraries.display()));
            command.args(["-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8", "-XX:TieredStopAtLevel=1"]);
            command.env("LC_ALL", "C.UTF-8").arg("-cp").arg(&class_path).arg("PhoneKt");
            command
        };
        Self { command: Box::new(command), is_web: false, _sources: Some(sources) }
    }

    pub fn python() -> Self {
        let sources = bindings::generate("python");
        let directory = sources.path().to_owned();
        let command = move || {
            let mut command = Command::new("python3");
            command.env("PYTHONPATH", &directory).env("PYTHONUTF8", "1").arg(bindings::example("phone.py"));
            command
        };
        Self { command: Box::new(command), is_web: false, _sources: Some(sources) }
    }
}

fn web(path: &str) -> PathBuf {
    let path = bindings::client_sdk().join("web").join(path);
    assert!(path.exists(), "{} is missing: run `./test.sh clients` once", path.display());
    path
}

/// What a message looks like on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `-` when it has none.
    pub id: String,
    pub topic: String,
    pub text: String,
}

/// A running phone. Dropping it kills it.
pub struct Phone {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
    messages: VecDeque<Shown>,
    network: VecDeque<String>,
    answers: VecDeque<String>,
}

impl Phone {
    /// Starts it with its files in `directory`.
    pub fn start(platform: &Platform, endpoint: &str, client_id: &str, directory: &Path) -> Self {
        let mut command = (platform.command)();
        command.arg(endpoint).arg(client_id).arg(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let orders = child.stdin.take().unwrap();
        Self {
            child,
            orders,
            lines,
            messages: VecDeque::new(),
            network: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// Gives an order and waits for its answer, without the word `done`.
    pub fn order(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        let answer = self.wait(order, |phone| phone.answers.pop_front());
        let done = answer.strip_prefix("done").unwrap_or_else(|| panic!("{order}: {answer}"));
        done.trim().to_owned()
    }

    /// The next message on the screen.
    pub fn message(&mut self) -> Shown {
        self.wait("a message", |phone| phone.messages.pop_front())
    }

    /// Waits until the network is told to be in this state; what was told before counts.
    pub fn network(&mut self, state: &str) {
        self.wait(state, |phone| {
            let mut told = std::iter::from_fn(|| phone.network.pop_front());
            told.find(|told| told.starts_with(state)).map(|_| ())
        });
    }

    /// What it has shown so far and nobody took.
    pub fn unseen(&self) -> usize {
        self.messages.len()
    }

    /// Says goodbye and waits for a good end.
    pub fn close(mut self) {
        assert_eq!(self.order("close"), "");
        assert!(self.child.wait().unwrap().success());
    }

    /// SIGKILL, as the system does to an app.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn wait<T>(&mut self, what: &str, mut take: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = take(self) {
                return found;
            }
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            self.sort(line.unwrap_or_else(|error| panic!("waited in vain for {what}: {error}")));
        }
    }

    fn sort(&mut self, line: String) {
        match line.split_once(' ') {
            Some(("message", rest)) => {
                let mut words = rest.splitn(3, ' ').map(str::to_owned);
                let mut word = || words.next().unwrap_or_default();
                self.messages.push_back(Shown { id: word(), topic: word(), text: word() });
            }
            Some(("network", state)) => self.network.push_back(state.to_owned()),
            _ => self.answers.push_back(line),
        }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for the phone's files, and its path as the phone wants it.
pub fn storage() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, path)
}
