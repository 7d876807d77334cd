//! One HTTP/2 connection to Apple, with its own rules about who may open a stream, and when.
//!
//! ```text
//! Unproven ── first answer 200 ──> Proven ── GOAWAY, fault, a verdict ──> Retired
//!    │ one stream at a time            as many streams as SETTINGS allows      no new stream; open ones end
//!    └────────────── fault, a verdict ──────────────────────────────────────────┘
//! ```
//! With a client certificate the handshake is the proof, and a connection begins as Proven.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tasks::{Tasks, lock};
use super::{ANSWER_MAX, Lost};
use crate::vendor::Answer;

/// Streams on one connection, at most, whatever the other side allows.
const STREAMS_MAX: usize = 1000;

/// Where to connect, and how the connection is kept.
#[derive(Clone)]
pub(super) struct Target {
    pub host: String,
    pub port: u16,
    pub tls: Arc<ClientConfig>,
    /// Whether the handshake proves us, so that Apple allows all streams from the beginning.
    pub is_proven: bool,
    pub ping_after: Duration,
    pub ping_timeout: Duration,
}

/// A connection that several pushes share.
pub(super) struct ApnsConnection {
    send: SendRequest<Bytes>,
    streams: Mutex<Streams>,
    /// Streams opened so far; tells the keeper of the connection whether it was idle.
    opened: Arc<AtomicU64>,
    /// Told when a stream may be opened that could not before, or the connection retired.
    changed: Notify,
}

struct Streams {
    state: State,
    open: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No push succeeded yet: Apple allows one stream.
    Unproven,
    /// The token was accepted.
    Proven,
    /// Takes no new stream.
    Retired,
}

/// The right to open one stream; given back when dropped.
pub(super) struct Slot(Arc<ApnsConnection>);

impl ApnsConnection {
    /// Looks the name up anew, connects, negotiates HTTP/2, and keeps the connection alive in a task.
    pub async fn open(target: Target, tasks: Tasks) -> Result<Arc<Self>, String> {
        let tcp = TcpStream::connect((target.host.as_str(), target.port))
            .await
            .map_err(|error| format!("cannot connect: {error}"))?;
        tcp.set_nodelay(true).map_err(|error| format!("cannot connect: {error}"))?;
        let name =
            ServerName::try_from(target.host.clone()).map_err(|_| "endpoint has no valid host name")?;
        let tls = TlsConnector::from(Arc::clone(&target.tls))
            .connect(name, tcp)
            .await
            .map_err(|error| format!("cannot secure the connection: {error}"))?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the other side does not speak HTTP/2".to_owned());
        }
        let (send, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(1)
            .handshake::<_, Bytes>(tls)
            .await
            .map_err(|error| format!("cannot start HTTP/2: {error}"))?;
        let ping_pong = connection.ping_pong();
        let opened = Arc::new(AtomicU64::new(0));
        let state = if target.is_proven { State::Proven } else { State::Unproven };
        let streams = Mutex::new(Streams { state, open: 0 });
        let this = Arc::new(Self { send, streams, opened: Arc::clone(&opened), changed: Notify::new() });
        let weak = Arc::downgrade(&this);
        tasks.spawn(async move {
            drive(connection, ping_pong, &target, &opened).await;
            if let Some(this) = weak.upgrade() {
                this.retire();
            }
        });
        Ok(this)
    }

    /// Takes no new stream any more; open ones end as they may.
    pub fn retire(&self) {
        lock(&self.streams).state = State::Retired;
        self.changed.notify_waiters();
    }

    /// Waits for the right to open a stream; `None` once the connection is retired.
    pub async fn slot(self: &Arc<Self>) -> Option<Slot> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable(); // before looking, so that no change slips between look and wait
            match self.try_slot() {
                Ok(slot) => return slot,
                Err(Full) => changed.await,
            }
        }
    }

    /// A slot, or `Ok(None)` when retired.
    fn try_slot(self: &Arc<Self>) -> Result<Option<Slot>, Full> {
        let allowed = self.send.current_max_send_streams().clamp(1, STREAMS_MAX);
        let mut streams = lock(&self.streams);
        let room = match streams.state {
            State::Retired => return Ok(None),
            State::Unproven => 1,
            State::Proven => allowed,
        };
        if streams.open >= room {
            return Err(Full);
        }
        streams.open += 1;
        if streams.open < room {
            self.changed.notify_one(); // the next in line may find room too
        }
        Ok(Some(Slot(Arc::clone(self))))
    }

    fn prove(&self) {
        let mut streams = lock(&self.streams);
        if streams.state == State::Unproven {
            streams.state = State::Proven;
            self.changed.notify_waiters();
        }
    }
}

struct Full;

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.0.streams).open -= 1;
        self.0.changed.notify_one();
    }
}

impl Slot {
    /// The connection of this slot.
    pub fn connection(&self) -> &Arc<ApnsConnection> {
        &self.0
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// [`Lost::NotSent`] when Apple surely did not process it, [`Lost::Unknown`] when it may have.
    pub async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, Lost> {
        let answer = self.send(request)?;
        let answer = match read(answer).await {
            Ok(answer) => answer,
            Err(error) => {
                // A reset concerns one stream; everything else ends the connection.
                if !error.is_reset() {
                    self.0.retire();
                }
                return Err(lost(&error));
            }
        };
        match answer.status {
            200 => self.0.prove(),
            503 => self.0.retire(), // the server shuts down or is overloaded: another may not be
            _ => {}
        }
        Ok(answer)
    }

    fn send(&self, request: Request<Bytes>) -> Result<ResponseFuture, Lost> {
        let (parts, body) = request.into_parts();
        let mut send = self.0.send.clone();
        let refused = |error: h2::Error| {
            self.0.retire();
            Lost::NotSent(error.to_string())
        };
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let (answer, mut stream) =
            send.send_request(Request::from_parts(parts, ()), false).map_err(refused)?;
        // A stream that is already gone says why through its answer.
        let _ = stream.send_data(body, true);
        Ok(answer)
    }
}

/// A stream above the last id of a GOAWAY, and a refused stream, were not processed. [RFC9113-6.8, 8.7]
fn lost(error: &h2::Error) -> Lost {
    let was_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (error.is_go_away() || was_refused) {
        return Lost::NotSent(error.to_string());
    }
    Lost::Unknown(error.to_string())
}

async fn read(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, body) = answer.await?.into_parts();
    let body = read_body(body).await?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

async fn read_body(mut body: RecvStream) -> Result<Bytes, h2::Error> {
    let mut all = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let room = ANSWER_MAX.saturating_sub(all.len());
        all.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if room < chunk.len() {
            break; // dropping the stream resets it
        }
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(all.freeze())
}

/// Moves bytes until the connection ends, and asks with a PING whether it still lives when it was idle.
async fn drive(
    connection: Connection<TlsStream<TcpStream>, Bytes>,
    ping_pong: Option<PingPong>,
    target: &Target,
    opened: &AtomicU64,
) {
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, host = %target.host, "connection to APNs ended");
            }
        }
        () = until_silent(ping_pong, target, opened) => {
            tracing::info!(host = %target.host, "connection to APNs is silent, closing it");
        }
    }
}

/// Ends when a PING after idle time stays without an answer.
async fn until_silent(ping_pong: Option<PingPong>, target: &Target, opened: &AtomicU64) {
    let Some(mut ping_pong) = ping_pong else { return std::future::pending().await };
    let mut seen = opened.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(target.ping_after).await;
        let now = opened.load(Ordering::Relaxed);
        if now == seen
            && !matches!(
                tokio::time::timeout(target.ping_timeout, ping_pong.ping(Ping::opaque())).await,
                Ok(Ok(_))
            )
        {
            return;
        }
        seen = now;
    }
}
