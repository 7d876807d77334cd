//! The program with its HTTP API.

use crate::Arguments;
use crate::client::LoadError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Something that should not happen.
pub fn broken(error: impl std::fmt::Display) -> LoadError {
    LoadError::Broken(error.to_string())
}

/// What is started.
pub enum Program {
    /// `reveille`, with a broker.
    Whole(PathBuf),
    /// This program's own bridge, without one.
    BridgeAlone,
}

impl Program {
    fn command(&self, directory: &Path) -> Result<Command, LoadError> {
        let mut command = match self {
            Self::Whole(path) => Command::new(path),
            Self::BridgeAlone => Command::new(std::env::current_exe()?),
        };
        match self {
            Self::Whole(_) => command.args(["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]),
            Self::BridgeAlone => command.args(["--scenario", "bridge-alone"]),
        };
        command
            .arg("--data-dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }
}

/// The hidden scenario that [`Program::BridgeAlone`] starts: tells what `reveille` tells, and serves until it is killed.
pub async fn serve_alone(arguments: &Arguments) -> Result<(), LoadError> {
    let directory = arguments.data_dir.as_deref().ok_or_else(|| broken("no data directory"))?;
    let http = SocketAddr::from(([127, 0, 0, 1], 0));
    let config =
        reveille_bridge::Config { http, requests_per_second: 0, ..reveille_bridge::Config::default() };
    let bridge = reveille_bridge::start(config, directory, None).await.map_err(broken)?;
    println!("http {}", bridge.http_addr());
    println!("admin-key {}", bridge.first_admin_key().unwrap_or_default());
    println!("ready");
    std::future::pending().await
}

/// The program, on a directory of its own.
pub struct Bridge {
    program: Program,
    child: Child,
    directory: tempfile::TempDir,
    base: String,
    key: String,
    client: Client<HttpConnector, Full<Bytes>>,
    /// From its start until it said that it is ready.
    pub ready_after: Duration,
}

impl Bridge {
    /// Starts it on an empty directory.
    pub async fn start(program: Program) -> Result<Self, LoadError> {
        let directory = tempfile::tempdir()?;
        let started = Instant::now();
        let (child, told) = spawn(&program, directory.path()).await?;
        let (base, key) = (format!("http://{}", fact(&told, "http")?), fact(&told, "admin-key")?);
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { program, child, directory, base, key, client, ready_after: started.elapsed() })
    }

    /// Kills it and starts it again on the same directory.
    pub async fn restart(&mut self) -> Result<(), LoadError> {
        self.child.kill().await?;
        let started = Instant::now();
        let (child, told) = spawn(&self.program, self.directory.path()).await?;
        (self.child, self.base) = (child, format!("http://{}", fact(&told, "http")?));
        self.ready_after = started.elapsed();
        Ok(())
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// One call; its answer as JSON.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, LoadError> {
        let request = hyper::Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.header("authorization", format!("Bearer {}", self.key));
        let request = request.header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).map_err(broken)?;
        let answer = self.client.request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() { Ok(body) } else { Err(broken(format!("{method} {path}: {status} {body}"))) }
    }
}

async fn spawn(program: &Program, directory: &Path) -> Result<(Child, HashMap<String, String>), LoadError> {
    let mut child = program.command(directory)?.spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| broken("no standard output"))?;
    let mut lines = BufReader::new(stdout).lines();
    let mut told = HashMap::new();
    while let Some(line) = lines.next_line().await? {
        if line == "ready" {
            break;
        }
        if let Some((name, value)) = line.split_once(' ') {
            told.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok((child, told))
}

fn fact(told: &HashMap<String, String>, name: &str) -> Result<String, LoadError> {
    told.get(name).cloned().ok_or_else(|| LoadError::NotStarted("reveille".to_owned()))
}
