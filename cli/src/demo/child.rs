//! The program itself as a child process: started, killed, started again.

use super::{Broken, refused, within};
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// `reveille run` on free ports. Dropping it kills it.
#[derive(Debug)]
pub struct Reveille {
    child: Child,
    /// Open for as long as the child runs, so that it can always print.
    _lines: Lines<BufReader<ChildStdout>>,
    start: Start,
}

/// What its first lines say.
#[derive(Debug, Default)]
struct Start {
    mqtt: Option<SocketAddr>,
    http: Option<SocketAddr>,
    admin_key: Option<String>,
}

impl Reveille {
    /// Starts on the data in `directory`, with the configuration file in it.
    pub async fn start(directory: &Path, log: &str) -> Result<Self, Broken> {
        let program = std::env::current_exe().map_err(refused("find this program"))?;
        let mut child = command(&program, directory, log).spawn().map_err(refused("start a process"))?;
        let out = child.stdout.take().ok_or_else(|| refused("read from a process")("it has no output"))?;
        let mut lines = BufReader::new(out).lines();
        let start = within("the start of reveille", read_start(&mut lines)).await??;
        Ok(Self { child, _lines: lines, start })
    }

    /// Where MQTT clients connect.
    pub fn mqtt(&self) -> Result<SocketAddr, Broken> {
        self.start.mqtt.ok_or_else(|| refused("read the start lines")("there is no MQTT address"))
    }

    /// The base URL of the HTTP API.
    pub fn url(&self) -> Result<String, Broken> {
        let http =
            self.start.http.ok_or_else(|| refused("read the start lines")("there is no HTTP address"))?;
        Ok(format!("http://{http}"))
    }

    /// The key of the first start.
    pub fn admin_key(&self) -> Result<&str, Broken> {
        let key = self.start.admin_key.as_deref();
        key.ok_or_else(|| refused("read the start lines")("the first start printed no admin key"))
    }

    /// The process id.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL; returns when the process is gone.
    pub async fn kill(mut self) -> Result<(), Broken> {
        within("the death of reveille", self.child.kill()).await?.map_err(refused("kill the process"))
    }

    /// SIGTERM; returns the exit code.
    pub async fn terminate(mut self) -> Result<Option<i32>, Broken> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| refused("stop the process")("it ended by itself"))?;
        kill_process(id, Signal::TERM).map_err(refused("stop the process"))?;
        let status = within("the end of reveille", self.child.wait()).await?;
        Ok(status.map_err(refused("wait for the process"))?.code())
    }
}

fn command(program: &PathBuf, directory: &Path, log: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", log]);
    command.arg("--data-dir").arg(directory.join("data"));
    command.arg("--config").arg(directory.join("reveille.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

async fn read_start(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<Start, Broken> {
    let mut start = Start::default();
    loop {
        let line = lines.next_line().await.map_err(refused("read from the process"))?;
        let line = line.ok_or_else(|| refused("start reveille")("it ended, its own words are above"))?;
        match line.split_once(' ') {
            None if line == "ready" => return Ok(start),
            Some(("mqtt", address)) => start.mqtt = address.parse().ok(),
            Some(("http", address)) => start.http = address.parse().ok(),
            Some(("admin-key", key)) => start.admin_key = Some(key.to_owned()),
            Some(_) | None => {}
        }
    }
}
