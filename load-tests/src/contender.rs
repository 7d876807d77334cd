//! Brokers as separate processes: started with a documented configuration, watched from outside, stopped at the end.

mod configuration;

use crate::client::LoadError;
use crate::over::{Over, Trust};
use crate::process;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest start, with everything that is stored.
const START: Duration = Duration::from_secs(120);

/// Between two looks whether it listens.
const LOOK: Duration = Duration::from_millis(5);

/// A broker that can be measured.
#[derive(Clone, Debug)]
pub enum Contender {
    /// Ours: every message is on disk before its PUBACK. The name, and where the program is.
    Reveille(String, PathBuf),
    /// Debian's: persistence on with its defaults, so a message is in memory at its PUBACK.
    Mosquitto,
    /// As published; memory only. Where the program is.
    Rumqttd(PathBuf),
    /// As published, in library mode; memory only. Where the program is.
    Rmqtt(PathBuf),
    /// One that somebody else started.
    Peer(String, SocketAddr),
}

/// A broker that runs; one that we started ends with this value.
pub struct Running {
    child: Option<Child>,
    contender: Contender,
    addresses: Addresses,
    over: Over,
    directory: TempDir,
}

/// Where a broker listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Plain MQTT over TCP.
    pub plain: SocketAddr,
    /// What [`Over`] says.
    pub over: SocketAddr,
    /// Operations, where there are any.
    pub metrics: SocketAddr,
}

impl Contender {
    /// For the table.
    pub fn name(&self) -> String {
        match self {
            Self::Reveille(name, _) => name.clone(),
            Self::Mosquitto => "mosquitto (memory)".to_owned(),
            Self::Rumqttd(_) => "rumqttd (memory)".to_owned(),
            Self::Rmqtt(_) => "RMQTT (memory)".to_owned(),
            Self::Peer(name, _) => name.clone(),
        }
    }

    /// Programs are started in directories of their own, so a relative path would lead nowhere.
    pub fn make_absolute(&mut self) {
        if let Self::Reveille(_, path) | Self::Rumqttd(path) | Self::Rmqtt(path) = self
            && let Ok(absolute) = std::path::absolute(&path)
        {
            *path = absolute;
        }
    }

    /// Starts it on a free port of 127.0.0.1 and waits until it accepts.
    pub fn start(&self, over: Over, trust: &Trust) -> Result<Running, LoadError> {
        let directory = tempfile::tempdir()?;
        let (plain, metrics) = (free_address()?, free_address()?);
        let over_address = if over == Over::Tcp { plain } else { free_address()? };
        let mut addresses = Addresses { plain, over: over_address, metrics };
        if let Self::Peer(_, address) = self {
            addresses.plain = *address;
            addresses.over = *address;
        }
        trust.write(directory.path())?;
        configuration::write(self, directory.path(), addresses, over)?;
        let mut running = Running { child: None, contender: self.clone(), addresses, over, directory };
        running.launch()?;
        Ok(running)
    }

    fn command(&self, directory: &Path, addresses: Addresses) -> Option<Command> {
        match self {
            Self::Reveille(_, program) => {
                let mut command = Command::new(program);
                command.args(["broker", "--mqtt", &addresses.plain.to_string(), "--data-dir"]);
                command.arg(directory.join("data")).arg("--config").arg(directory.join("reveille.toml"));
                command.args(["--http", &addresses.metrics.to_string(), "--internal", "127.0.0.1:0"]);
                command.env("REVEILLE_INTERNAL_PASSWORD", "no bridge is measured");
                Some(command)
            }
            Self::Mosquitto => {
                let mut command = Command::new("mosquitto");
                command.arg("-c").arg(directory.join("mosquitto.conf"));
                Some(command)
            }
            Self::Rumqttd(program) => {
                let mut command = Command::new(program);
                command.arg("-c").arg(directory.join("rumqttd.toml"));
                Some(command)
            }
            Self::Rmqtt(program) => {
                let mut command = Command::new(program);
                command.arg(addresses.plain.to_string());
                Some(command)
            }
            Self::Peer(..) => None,
        }
    }
}

fn free_address() -> Result<SocketAddr, LoadError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Running {
    fn launch(&mut self) -> Result<Duration, LoadError> {
        let started = Instant::now();
        if let Some(mut command) = self.contender.command(self.directory.path(), self.addresses) {
            command.current_dir(self.directory.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.child = Some(command.spawn().map_err(|_| LoadError::NotStarted(self.contender.name()))?);
        }
        for address in [self.addresses.plain, self.addresses.over] {
            while std::net::TcpStream::connect(address).is_err() {
                if started.elapsed() > START || self.has_ended() {
                    return Err(LoadError::NotStarted(self.contender.name()));
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(started.elapsed())
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// Kills it and starts it again on the same data; says how long it took until it listened.
    pub fn restart(&mut self) -> Result<Duration, LoadError> {
        self.kill();
        self.launch()
    }

    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it listens for plain MQTT.
    pub fn address(&self) -> SocketAddr {
        self.addresses.plain
    }

    /// Where it listens for what is measured, and what that is.
    pub fn over(&self) -> (SocketAddr, Over) {
        (self.addresses.over, self.over)
    }

    /// Where ours serves its metrics.
    pub fn metrics(&self) -> SocketAddr {
        self.addresses.metrics
    }

    /// Bytes of its files.
    pub fn disk_bytes(&self) -> u64 {
        process::disk(self.directory.path())
    }

    /// How long the disk below its files takes to sync what many messages need, in the median. For comparison: not a
    /// number where it cannot be found out.
    pub fn sync_ms(&self) -> f64 {
        process::sync_ms(self.directory.path()).unwrap_or(f64::NAN)
    }

    /// Resident bytes; not a number for one that we did not start.
    pub fn rss(&self) -> f64 {
        self.child.as_ref().map_or(f64::NAN, |child| process::rss(child.id()) as f64)
    }

    /// Seconds of processor time so far; not a number for one that we did not start.
    pub fn cpu(&self) -> f64 {
        self.child.as_ref().map_or(f64::NAN, |child| process::cpu(child.id()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
