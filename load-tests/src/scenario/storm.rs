//! Everyone was cut off and comes back: at once, over the time that the broker asked for, and at once after the broker
//! was killed. A client that was never gone pings meanwhile.

use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::over::{Over, Trust};
use crate::report::{Figures, percentile_ms};
use crate::sources::bounded;
use bytes::BytesMut;
use hdrhistogram::Histogram;
use reveille_proto::heartbeat::{CONFIG_PROPERTY, Config, Hello};
use reveille_proto::mqtt::{self, Connect, ConnectProperties, Packet, Version};
use rustls::pki_types::ServerName;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

/// Clients that connect at the same time before anything is measured.
const CALM: usize = 64;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// The first pause after a failure, and the longest: a client waits a random part of it, twice as much each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// Between two pings of the client that stays.
const PING_INTERVAL: Duration = Duration::from_millis(5);

/// The longest answer that is told apart.
const PING_MAX_NS: u64 = 600_000_000_000;

/// How long it pings while nothing else happens.
const QUIET: Duration = Duration::from_secs(2);

/// Time until all are back, until nine of ten are, and what the one that stayed saw of it.
pub fn storm(arguments: &Arguments, broker: &mut Running, trust: &Trust) -> Result<Figures, LoadError> {
    let count = bounded(arguments.connections.saturating_add(1)).saturating_sub(1);
    let (address, over) = broker.over();
    let fleet = Fleet::new(address, (over == Over::Tls).then(|| trust.client_config()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let mut lines = local.block_on(&runtime, fleet.gather(count))?;
    let mut figures: Figures = vec![("connections", count as f64)];
    let watched = |work: &mut dyn FnMut() -> Round| watched(broker.address(), work);
    let (_, quiet) = watched(&mut || {
        std::thread::sleep(QUIET);
        Round::default()
    })?;
    figures.push(("quiet: ping p99 ms", percentile_ms(&quiet, 0.99)));
    let (at_once, pings) = watched(&mut || {
        lines.clear();
        local.block_on(&runtime, fleet.storm(count, Duration::ZERO, &mut lines))
    })?;
    figures.extend(at_once.figures([
        "at once: all are back s",
        "at once: nine of ten s",
        "at once: attempts each",
    ]));
    figures.extend([
        ("at once: ping p50 ms", percentile_ms(&pings, 0.5)),
        ("at once: ping p99 ms", percentile_ms(&pings, 0.99)),
        ("at once: ping max ms", percentile_ms(&pings, 1.0)),
    ]);
    let window = Duration::from_secs(fleet.window_s.get().into());
    let (guided, pings) = watched(&mut || {
        lines.clear();
        local.block_on(&runtime, fleet.storm(count, window, &mut lines))
    })?;
    figures.push(("window s", window.as_secs_f64()));
    figures.extend(guided.figures([
        "in the window: all are back s",
        "in the window: nine of ten s",
        "in the window: attempts each",
    ]));
    figures.extend([
        ("in the window: ping p50 ms", percentile_ms(&pings, 0.5)),
        ("in the window: ping p99 ms", percentile_ms(&pings, 0.99)),
        ("in the window: ping max ms", percentile_ms(&pings, 1.0)),
    ]);
    lines.clear();
    fleet.resumed.set(0);
    let down = broker.restart()?;
    let after = local.block_on(&runtime, fleet.storm(count, Duration::ZERO, &mut lines));
    figures.push(("restart: listens again after s", down.as_secs_f64()));
    figures.extend(after.figures([
        "restart: all are back s",
        "restart: nine of ten s",
        "restart: attempts each",
    ]));
    if over == Over::Tls {
        figures.push(("restart: % resumed", 100.0 * fleet.resumed.get() as f64 / count.max(1) as f64));
    }
    Ok(figures)
}

trait Line: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Line for S {}

/// How one storm went.
#[derive(Default)]
struct Round {
    back: Vec<Duration>,
    attempts: usize,
}

impl Round {
    fn figures(mut self, [all, most, attempts]: [&'static str; 3]) -> [(&'static str, f64); 3] {
        self.back.sort_unstable();
        let at = |share: usize| self.back.get((self.back.len() * share / 100).saturating_sub(1));
        let seconds = |share| at(share).map_or(f64::NAN, Duration::as_secs_f64);
        let each = self.attempts as f64 / self.back.len().max(1) as f64;
        [(all, seconds(100)), (most, seconds(90)), (attempts, each)]
    }
}

/// The clients.
struct Fleet {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    /// What the broker asked for last.
    window_s: Cell<u16>,
    /// TLS sessions that were taken up again.
    resumed: Cell<usize>,
}

impl Fleet {
    fn new(address: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>) -> Rc<Self> {
        let (window_s, resumed) = (Cell::new(0), Cell::new(0));
        Rc::new(Self { address, tls: tls.map(TlsConnector::from), window_s, resumed })
    }

    /// All of them, some at a time.
    async fn gather(self: &Rc<Self>, count: usize) -> Result<Vec<Box<dyn Line>>, LoadError> {
        let room = Rc::new(Semaphore::new(CALM));
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let (fleet, room) = (Rc::clone(self), Rc::clone(&room));
                tokio::task::spawn_local(async move {
                    let _place = room.acquire().await;
                    fleet.come(number).await
                })
            })
            .collect();
        let mut lines = Vec::with_capacity(count);
        for task in tasks {
            lines.push(task.await.map_err(|error| LoadError::Broken(error.to_string()))??);
        }
        Ok(lines)
    }

    /// All of them, each after a random part of the window, and again until it is in.
    async fn storm(self: &Rc<Self>, count: usize, window: Duration, lines: &mut Vec<Box<dyn Line>>) -> Round {
        let began = Instant::now();
        let return_to = |number: usize| {
            let fleet = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let mut dice = number as u64 + 1;
                sleep(window.mul_f64(roll(&mut dice))).await;
                let (mut pause, mut attempts) = (PAUSE, 0);
                loop {
                    attempts += 1;
                    if let Ok(Ok(line)) = timeout(ATTEMPT, fleet.come(number)).await {
                        return (line, began.elapsed(), attempts);
                    }
                    sleep(pause.mul_f64(roll(&mut dice))).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            })
        };
        let tasks: Vec<_> = (0..count).map(return_to).collect();
        let mut round = Round::default();
        for task in tasks {
            let Ok((line, back, attempts)) = task.await else { continue };
            lines.push(line);
            round.back.push(back);
            round.attempts += attempts;
        }
        round
    }

    async fn come(&self, number: usize) -> Result<Box<dyn Line>, LoadError> {
        let socket = TcpSocket::new_v4()?;
        // One address has 28,000 ports.
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(number % 250).unwrap_or(0) + 1);
        socket.bind(SocketAddr::from((source, 0)))?;
        let socket = socket.connect(self.address).await?;
        socket.set_nodelay(true)?;
        let mut line: Box<dyn Line> = match &self.tls {
            None => Box::new(socket),
            Some(connector) => {
                // rustls keeps tickets by server name, one or two each: each client has a name of its own.
                let name = ServerName::try_from(format!("n{number}.load.test"));
                let name = name.map_err(|_| LoadError::Broken("no server name".into()))?;
                let stream = connector.connect(name, socket).await?;
                let is_resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                self.resumed.set(self.resumed.get() + usize::from(is_resumed));
                Box::new(stream)
            }
        };
        let mut bytes = BytesMut::new();
        let written = Packet::Connect(Box::new(connect(number))).write(Version::V5, &mut bytes);
        written.map_err(|_| LoadError::Broken("a CONNECT that is too large".into()))?;
        line.write_all(&bytes).await?;
        bytes.clear();
        loop {
            if line.read_buf(&mut bytes).await? == 0 {
                return Err(LoadError::Broken("connection closed".into()));
            }
            match mqtt::read(&mut bytes, Some(Version::V5), u32::MAX) {
                Ok(None) => {}
                Ok(Some(Packet::ConnAck(connack))) if !connack.reason.is_failure() => {
                    let properties = &connack.properties.user_properties;
                    let config = properties.iter().find(|(name, _)| name == CONFIG_PROPERTY);
                    let config = config.and_then(|(_, text)| Config::parse(text));
                    self.window_s.set(config.map_or(0, |config| config.window_s));
                    return Ok(line);
                }
                other => return Err(LoadError::Broken(format!("{other:?}"))),
            }
        }
    }
}

/// A phone that tunes its heartbeat, with a session that waits for it.
fn connect(number: usize) -> Connect {
    let hello = Hello::default().properties().into_iter().map(|(name, value)| (name.into(), value.into()));
    Connect {
        version: Version::V5,
        clean_start: false,
        keep_alive: 1_680,
        client_id: format!("phone-{number:08}").into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval: Some(3600),
            user_properties: hello.collect(),
            ..Default::default()
        },
    }
}

/// A number from 0 to 1 that looks random (xorshift64*).
fn roll(state: &mut u64) -> f64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Does something while a client that stays pings, on a thread of its own.
fn watched(to: SocketAddr, work: &mut dyn FnMut() -> Round) -> Result<(Round, Histogram<u64>), LoadError> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pinging = scope.spawn(|| ping(to, &is_over));
        let round = work();
        is_over.store(true, Ordering::Relaxed);
        let pings = pinging.join().map_err(|_| LoadError::Broken("the pinging thread panicked".into()))?;
        Ok((round, pings?))
    })
}

fn ping(to: SocketAddr, is_over: &AtomicBool) -> Result<Histogram<u64>, LoadError> {
    let histogram = Histogram::new_with_bounds(1, PING_MAX_NS, 3);
    let mut histogram = histogram.map_err(|error| LoadError::Broken(error.to_string()))?;
    let mut socket = std::net::TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.write_all(&crate::wire::connect("stays", true, 600))?;
    socket.read_exact(&mut [0; 4])?; // CONNACK of 3.1.1
    while !is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        socket.write_all(&[0xc0, 0])?;
        socket.read_exact(&mut [0; 2])?;
        histogram.saturating_record(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
        std::thread::sleep(PING_INTERVAL);
    }
    Ok(histogram)
}
