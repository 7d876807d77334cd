//! A fake APNs: HTTP/2 over TLS with its own authority, strict rules, and answers as told.

mod channels;
mod connection;
mod io;
mod rules;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::DecodingKey;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::FakeError;
use crate::log::{CallLog, lock};
use crate::tls::{Identity, app_identity};
use rules::Account;

/// How a fake APNs behaves from its start.
#[derive(Clone, Copy, Debug)]
pub struct FakeApnsOptions {
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`; a stream above it is refused.
    pub max_concurrent_streams: u32,
}

impl Default for FakeApnsOptions {
    fn default() -> Self {
        Self { max_concurrent_streams: 500 }
    }
}

/// What a device token is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApnsAnswer {
    /// The HTTP status; 200 has no body.
    pub status: u16,
    /// The `reason` of the JSON body.
    pub reason: String,
    /// The `timestamp` of the JSON body, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// No answer at all, as long as the connection lives.
    pub hangs: bool,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body, where it is no error's.
    pub body: Option<Value>,
}

impl ApnsAnswer {
    /// Taken.
    pub fn ok() -> Self {
        Self {
            status: 200,
            reason: String::new(),
            timestamp: None,
            hangs: false,
            headers: Vec::new(),
            body: None,
        }
    }

    /// An error with a reason.
    pub fn error(status: u16, reason: &str) -> Self {
        Self { status, reason: reason.to_owned(), ..Self::ok() }
    }

    /// 410 `Unregistered` since a moment.
    pub fn unregistered(timestamp: u64) -> Self {
        Self { timestamp: Some(timestamp), ..Self::error(410, "Unregistered") }
    }

    /// Never answered.
    pub fn hang() -> Self {
        Self { hangs: true, ..Self::ok() }
    }
}

/// One request that the fake processed.
#[derive(Clone, Debug)]
pub struct ApnsCall {
    /// The device token in the path, or the whole path when it was wrong.
    pub token: String,
    /// Every request header.
    pub headers: HashMap<String, String>,
    /// The payload; `Null` when it was not JSON.
    pub payload: Value,
    /// The payload's size in bytes.
    pub size: usize,
    /// Number of the connection, from 0.
    pub connection: usize,
    /// Number of the stream on it.
    pub stream: u32,
    /// What it was, or would have been, answered.
    pub answer: ApnsAnswer,
}

impl ApnsCall {
    /// The message id inside the payload.
    pub fn mid(&self) -> Option<&str> {
        self.payload.get("mid")?.as_str()
    }
}

/// The running fake. Dropping it closes the socket and every connection.
pub struct FakeApns {
    shared: Arc<Shared>,
    address: SocketAddr,
    ca_pem: String,
    private_key: String,
    identity: Identity,
    task: JoinHandle<()>,
}

struct Shared {
    account: Account,
    options: FakeApnsOptions,
    script: Mutex<Script>,
    channels: Mutex<channels::Channels>,
    log: CallLog<ApnsCall>,
    provider_tokens: Mutex<HashSet<String>>,
    connections: AtomicUsize,
    peak_streams: AtomicUsize,
    first_stream_violations: AtomicUsize,
    ignored: AtomicUsize,
    is_held: watch::Sender<bool>,
    cuts: watch::Sender<u64>,
    freezes: watch::Sender<u64>,
}

/// The last provider token on a connection, and its `iat`.
#[derive(Default)]
struct TokenSeen {
    last: Option<(String, u64)>,
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, ApnsAnswer>,
    next: HashMap<String, VecDeque<ApnsAnswer>>,
    latency: Duration,
    go_away_after: Option<usize>,
    cut_after: Option<usize>,
    tokens_before_s: u64,
}

impl FakeApns {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`FakeError`] when there is no port or no certificate.
    pub async fn start() -> Result<Self, FakeError> {
        Self::start_with(FakeApnsOptions::default()).await
    }

    /// Starts with other options.
    ///
    /// # Errors
    /// [`FakeError`] when there is no port or no certificate.
    pub async fn start_with(options: FakeApnsOptions) -> Result<Self, FakeError> {
        let tls = crate::tls::server_tls(&[b"h2"])?;
        let key = KeyPair::generate()?; // P-256
        let account = Account {
            key_id: "FAKEKEY123".to_owned(),
            team_id: "FAKETEAM12".to_owned(),
            topic: "com.example.reveille".to_owned(),
            public_key: DecodingKey::from_ec_pem(key.public_key_pem().as_bytes())?,
        };
        let identity = app_identity(&tls.issuer, &account.topic)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(account, options));
        let task = tokio::spawn(serve(Arc::clone(&shared), listener, tls.config.into()));
        Ok(Self { shared, address, ca_pem: tls.ca_pem, private_key: key.serialize_pem(), identity, task })
    }

    /// `https://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authority to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The content of the `.p8` file whose public half this fake knows.
    pub fn private_key(&self) -> &str {
        &self.private_key
    }

    /// A credential for this fake, as the bridge reads it.
    pub fn credential(&self) -> Value {
        json!({
            "vendor": "apns", "key_id": self.shared.account.key_id, "team_id": self.shared.account.team_id,
            "bundle_id": self.shared.account.topic, "private_key": self.private_key, "environment": "sandbox",
            "endpoint": self.endpoint(), "channels_endpoint": self.endpoint(), "ca_pem": self.ca_pem,
        })
    }

    /// A credential with a certificate instead of a token key; the topic stands in the certificate.
    pub fn certificate_credential(&self) -> Value {
        json!({
            "vendor": "apns", "certificate": self.identity.certificate_pem, "private_key": self.identity.key_pem,
            "environment": "sandbox", "endpoint": self.endpoint(), "channels_endpoint": self.endpoint(),
            "ca_pem": self.ca_pem,
        })
    }

    /// From now on this device token is answered so.
    pub fn answer(&self, token: &str, answer: ApnsAnswer) {
        lock(&self.shared.script).answers.insert(token.to_owned(), answer);
    }

    /// The next request for this device token is answered so; called again, the one after it.
    pub fn answer_next(&self, token: &str, answer: ApnsAnswer) {
        lock(&self.shared.script).next.entry(token.to_owned()).or_default().push_back(answer);
    }

    /// Every answer comes so much later.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.shared.script).latency = latency;
    }

    /// Answers are kept back until [`FakeApns::release`].
    pub fn hold(&self) {
        self.shared.is_held.send_replace(true);
    }

    /// Gives the answers that were kept back.
    pub fn release(&self) {
        self.shared.is_held.send_replace(false);
    }

    /// After `count` more requests, the connection that gets the next one sends GOAWAY: that request and later
    /// ones on it are not processed, earlier ones still are.
    pub fn go_away_after(&self, count: usize) {
        lock(&self.shared.script).go_away_after = Some(count);
    }

    /// After `count` more requests, the next one is processed, but its connection is cut without an answer.
    pub fn cut_after(&self, count: usize) {
        lock(&self.shared.script).cut_after = Some(count);
    }

    /// Cuts every connection now.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Every connection falls silent now: it stays open, but answers nothing, not even a PING.
    pub fn freeze_all(&self) {
        self.shared.freezes.send_modify(|freezes| *freezes += 1);
    }

    /// Provider tokens made before this moment (seconds since 1970) are expired.
    pub fn expire_provider_tokens_before(&self, at_s: u64) {
        lock(&self.shared.script).tokens_before_s = at_s;
    }

    /// Every request that was processed, oldest first.
    pub fn calls(&self) -> Vec<ApnsCall> {
        self.shared.log.all()
    }

    /// All calls once there are `count`, or what there is after 20 s.
    pub async fn wait_for(&self, count: usize) -> Vec<ApnsCall> {
        self.shared.log.wait_for(count).await
    }

    /// How many different valid provider tokens were seen.
    pub fn provider_tokens(&self) -> usize {
        lock(&self.shared.provider_tokens).len()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most streams that were open on one connection.
    pub fn peak_streams(&self) -> usize {
        self.shared.peak_streams.load(Ordering::SeqCst)
    }

    /// How many streams came while the first one of a connection had not succeeded yet.
    pub fn first_stream_violations(&self) -> usize {
        self.shared.first_stream_violations.load(Ordering::SeqCst)
    }

    /// How many requests were not processed because they came after a GOAWAY.
    pub fn ignored(&self) -> usize {
        self.shared.ignored.load(Ordering::SeqCst)
    }
}

impl Drop for FakeApns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn new(account: Account, options: FakeApnsOptions) -> Self {
        Self {
            account,
            options,
            script: Mutex::default(),
            channels: Mutex::default(),
            log: CallLog::default(),
            provider_tokens: Mutex::default(),
            connections: AtomicUsize::new(0),
            peak_streams: AtomicUsize::new(0),
            first_stream_violations: AtomicUsize::new(0),
            ignored: AtomicUsize::new(0),
            is_held: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            freezes: watch::Sender::new(0),
        }
    }

    /// What this device token is answered now.
    fn scripted(&self, token: &str) -> ApnsAnswer {
        let mut script = lock(&self.script);
        let next = script.next.get_mut(token).and_then(VecDeque::pop_front);
        next.or_else(|| script.answers.get(token).cloned()).unwrap_or_else(ApnsAnswer::ok)
    }
}

impl Script {
    /// Whether this request meets a limit that counts down.
    fn counts_out(limit: &mut Option<usize>) -> bool {
        match limit {
            None => false,
            Some(0) => {
                *limit = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, tls: TlsAcceptor) {
    let mut connections = JoinSet::new(); // dropped with this task, which ends them
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(connection::serve(Arc::clone(&shared), number, tls.clone(), tcp));
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
