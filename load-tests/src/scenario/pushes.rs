//! Pushes a second, and for each processor second, to a fake APNs (HTTP/2 with TLS) in a process of its own: our sender
//! against aioapns, in turns.

use crate::Arguments;
use crate::client::LoadError;
use crate::process;
use crate::report::{self, Figures, Row};
use reveille_bridge::sender::{CredentialKey, Sender, SenderOptions};
use reveille_bridge::vendor::{Credential, DeviceToken, Push, VendorName, Verdict};
use reveille_fakes::FakeApns;
use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

/// Pushes under way at once, on both sides.
const WINDOW: usize = 500;
/// Connections that the peer may open. Ours opens what it needs.
const PEER_CONNECTIONS: usize = 10;
/// Where `load-tests/peers/aioapns.sh` installs the peer.
const PEER: &str = "target/aioapns/bin/python";

fn broken(error: impl std::fmt::Display) -> LoadError {
    LoadError::Broken(error.to_string())
}

/// The fake alone: prints its credential as a line and serves until standard input ends.
pub async fn fake_apns() -> Result<(), LoadError> {
    let fake = FakeApns::start().await.map_err(broken)?;
    println!("{}", fake.credential());
    BufReader::new(tokio::io::stdin()).lines().next_line().await?;
    Ok(())
}

/// All repetitions, and the table.
pub async fn pushes(arguments: &Arguments) -> Result<(), LoadError> {
    if !Path::new(PEER).exists() {
        return Err(LoadError::NotStarted("aioapns (run load-tests/peers/aioapns.sh first)".to_owned()));
    }
    let mut rows = [Row::new("reveille's sender"), Row::new("aioapns 4.0")];
    for repetition in 1..=arguments.repetitions {
        eprintln!("{repetition}/{}", arguments.repetitions);
        let [ours, peer] = &mut rows;
        ours.add(send_ours(arguments.messages).await?);
        peer.add(send_by_peer(arguments.messages).await?);
    }
    report::print(&rows);
    Ok(())
}

/// A child that speaks lines on its standard streams.
struct Spoken {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Spoken {
    fn start(mut command: Command) -> Result<Self, LoadError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| broken("no standard output"))?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    async fn hear(&mut self) -> Result<Value, LoadError> {
        let line = self.lines.next_line().await?.ok_or_else(|| broken("it ended early"))?;
        serde_json::from_str(&line).map_err(broken)
    }

    async fn fake() -> Result<(Self, Value), LoadError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--scenario", "fake-apns"]);
        let mut fake = Self::start(command)?;
        let credential = fake.hear().await?;
        Ok((fake, credential))
    }
}

fn push(number: usize) -> Result<Push, LoadError> {
    let mut id = [7; 16];
    id.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    let token = DeviceToken::parse(&format!("{:064x}", number % 1000)).map_err(broken)?;
    let mut push = Push::new(MessageId(id), AppId::default(), token);
    (push.title, push.body) = (Some("泵 7".to_owned()), Some("压力 9.1 bar".to_owned()));
    Ok(push)
}

async fn send_ours(count: usize) -> Result<Figures, LoadError> {
    let (_fake, credential) = Spoken::fake().await?;
    let credential: Arc<Credential> = Arc::new(serde_json::from_value(credential).map_err(broken)?);
    let sender = Arc::new(Sender::new(SenderOptions::default()));
    let send = |number| {
        let (sender, credential) = (Arc::clone(&sender), Arc::clone(&credential));
        async move {
            let key = CredentialKey { app: AppId::default(), vendor: VendorName::Apns };
            let sent = sender.send(&key, &credential, &push(number)?).await;
            match sent.verdict {
                Verdict::Accepted { .. } => Ok(()),
                other => Err(broken(format!("{other:?}"))),
            }
        }
    };
    send(0).await?; // connects
    let (started, cpu) = (Instant::now(), process::cpu(std::process::id()));
    let mut under_way = JoinSet::new();
    for number in 0..count {
        if under_way.len() >= WINDOW
            && let Some(done) = under_way.join_next().await
        {
            done.map_err(broken)??;
        }
        under_way.spawn(send(number));
    }
    while let Some(done) = under_way.join_next().await {
        done.map_err(broken)??;
    }
    let figures = figures(count, started.elapsed().as_secs_f64(), process::cpu(std::process::id()) - cpu);
    sender.close().await;
    Ok(figures)
}

async fn send_by_peer(count: usize) -> Result<Figures, LoadError> {
    let (_fake, credential) = Spoken::fake().await?;
    let directory = tempfile::tempdir()?;
    let trusted = directory.path().join("ca.pem");
    std::fs::write(&trusted, credential.get("ca_pem").and_then(Value::as_str).unwrap_or_default())?;
    let mut command = Command::new(PEER);
    command.arg("load-tests/peers/aioapns_sender.py").env("SSL_CERT_FILE", &trusted);
    let mut peer = Spoken::start(command)?;
    let order = json!({
        "credential": credential, "count": count, "window": WINDOW, "connections": PEER_CONNECTIONS,
    });
    let stdin = peer.child.stdin.as_mut().ok_or_else(|| broken("no standard input"))?;
    stdin.write_all(format!("{order}\n").as_bytes()).await?;
    let done = peer.hear().await?;
    let cpu = peer.child.id().map(process::cpu).unwrap_or_default();
    if done.get("refused") != Some(&json!(0)) {
        return Err(broken(format!("the peer was refused: {done}")));
    }
    let seconds = done.get("seconds").and_then(Value::as_f64).unwrap_or(f64::NAN);
    Ok(figures(count, seconds, cpu))
}

fn figures(count: usize, seconds: f64, cpu: f64) -> Figures {
    let count = count as f64;
    vec![("pushes/s", count / seconds), ("pushes per CPU second of the sender", count / cpu)]
}
