//! Brokers as separate processes: started with a documented configuration, watched from outside, stopped at the end.

use crate::client::LoadError;
use crate::process;
use crate::scenario::{Over, Prepared};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A broker that can be started.
pub enum Contender {
    /// Ours: every message is on disk before its PUBACK.
    Reveille(PathBuf),
    /// Debian's: persistence on with its defaults, so a message is in memory at its PUBACK.
    Mosquitto,
}

/// A broker that runs; it ends with this value.
pub struct Running {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    _directory: TempDir,
}

impl Contender {
    /// The release build at this path.
    pub fn reveille(program: &Path) -> Self {
        Self::Reveille(program.to_owned())
    }

    /// Debian's mosquitto.
    pub fn mosquitto() -> Self {
        Self::Mosquitto
    }

    /// For the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reveille(_) => "reveille (durable)",
            Self::Mosquitto => "mosquitto (memory)",
        }
    }

    /// Starts it on a free port of 127.0.0.1 and waits until it accepts.
    pub async fn start(&self) -> Result<Running, LoadError> {
        let directory = tempfile::tempdir()?;
        let (address, metrics) = (free_address()?, free_address()?);
        let mut command = match self {
            Self::Reveille(program) => reveille(program, directory.path(), address, metrics),
            Self::Mosquitto => mosquitto(directory.path(), address)?,
        };
        run(&mut command, (address, metrics), directory, self.name()).await
    }
}

/// Ours, with one more listener.
pub async fn start_over(program: &Path, over: Over) -> Result<(Running, Prepared), LoadError> {
    let directory = tempfile::tempdir()?;
    let prepared = Prepared::write(directory.path(), over, free_address()?)?;
    let (address, metrics) = (free_address()?, free_address()?);
    let mut command = reveille(program, directory.path(), address, metrics);
    command.arg("--config").arg(directory.path().join("reveille.toml"));
    Ok((run(&mut command, (address, metrics), directory, "reveille").await?, prepared))
}

async fn run(
    command: &mut Command,
    (address, metrics): (SocketAddr, SocketAddr),
    directory: TempDir,
    name: &str,
) -> Result<Running, LoadError> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let running = Running { child, address, metrics, _directory: directory };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() > deadline {
            return Err(LoadError::NotStarted(name.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(running)
}

fn free_address() -> Result<SocketAddr, LoadError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn reveille(program: &Path, directory: &Path, address: SocketAddr, metrics: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.args(["broker", "--mqtt", &address.to_string(), "--data-dir"]).arg(directory);
    command.args(["--http", &metrics.to_string(), "--internal", "127.0.0.1:0"]);
    command.env("REVEILLE_INTERNAL_PASSWORD", "no bridge is measured");
    command
}

fn mosquitto(directory: &Path, address: SocketAddr) -> Result<Command, LoadError> {
    let path = directory.join("mosquitto.conf");
    let mut file = std::fs::File::create(&path)?;
    writeln!(file, "listener {} 127.0.0.1\nallow_anonymous true\npersistence true", address.port())?;
    writeln!(file, "persistence_location {}/\nmax_queued_messages 0\nuser root", directory.display())?;
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(path);
    Ok(command)
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where ours serves its metrics.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// Resident bytes.
    pub fn rss(&self) -> u64 {
        process::rss(self.child.id())
    }

    /// Seconds of processor time so far.
    pub fn cpu(&self) -> f64 {
        process::cpu(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
