//! Many clients on one thread: one poll, one shared read buffer, frames told apart in place. A task and a decoded packet
//! for each message would cost more than the broker spends on it, and the load would measure itself.

use crate::client::LoadError;
use crate::sources::Sources;
use crate::wire::{self, Frame};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bytes that one read takes.
const READ_BYTES: usize = 256 << 10;

/// Sockets looked at in one turn.
const EVENTS: usize = 4_096;

/// Handshakes at once: enough to keep a broker busy, few enough for its backlog.
const OPENING: usize = 256;

/// Longest silence while something is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client to be connected.
pub struct Wanted {
    /// Its client id.
    pub client_id: String,
    /// Whether its session ends with the connection.
    pub is_clean: bool,
    /// What it subscribes to, and with which QoS.
    pub filters: Vec<(String, u8)>,
}

impl Wanted {
    /// A clean session with one subscription.
    pub fn subscriber(client_id: String, filter: String, qos: u8) -> Self {
        Self { client_id, is_clean: true, filters: vec![(filter, qos)] }
    }

    /// A clean session without any.
    pub fn publisher(client_id: String) -> Self {
        Self { client_id, is_clean: true, filters: Vec::new() }
    }
}

/// A frame that came.
pub struct Arrival<'a> {
    /// To which client.
    pub at: usize,
    /// When, in nanoseconds since the generator was made.
    pub now: u64,
    /// What it is.
    pub frame: Frame<'a>,
}

struct Line {
    stream: TcpStream,
    /// The beginning of a frame.
    unread: Vec<u8>,
    unsent: Vec<u8>,
    is_writable: bool,
    is_dirty: bool,
    /// It said goodbye: the broker may close.
    is_leaving: bool,
}

/// See the module.
pub struct Generator {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    lines: Vec<Option<Line>>,
    dirty: Vec<usize>,
    sources: Sources,
    started: Instant,
    heard: Instant,
}

impl Generator {
    /// Nobody is connected.
    pub fn new() -> Result<Self, LoadError> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES],
            lines: Vec::new(),
            dirty: Vec::new(),
            sources: Sources::default(),
            started: Instant::now(),
            heard: Instant::now(),
        })
    }

    /// Nanoseconds since it was made.
    pub fn now(&self) -> u64 {
        nanos(self.started)
    }

    /// Connects them all and subscribes; gives the number of the first, the rest follow. Messages that come meanwhile
    /// go to `on_frame`.
    pub fn connect(
        &mut self,
        to: SocketAddr,
        count: usize,
        wanted: impl Fn(usize) -> Wanted,
        mut on_frame: impl FnMut(Arrival<'_>, &mut Vec<u8>),
    ) -> Result<usize, LoadError> {
        self.heard = Instant::now();
        let first = self.lines.len();
        let (mut opened, mut ready) = (0, 0);
        let mut waiting: Vec<std::vec::IntoIter<(String, u8)>> = Vec::with_capacity(count);
        let mut refused = None;
        while ready < count {
            while opened < count && opened - ready < OPENING {
                let Wanted { client_id, is_clean, filters } = wanted(opened);
                self.open(to, &wire::connect(&client_id, is_clean, 3600))?;
                waiting.push(filters.into_iter());
                opened += 1;
            }
            self.turn(Duration::from_millis(100), |arrival, out| match arrival.frame {
                Frame::ConnAck(code) if code != 0 => refused = Some(code),
                Frame::ConnAck(_) | Frame::SubAck if arrival.at >= first => {
                    match waiting.get_mut(arrival.at - first).and_then(Iterator::next) {
                        Some((filter, qos)) => out.extend(wire::subscribe(&filter, qos)),
                        None => ready += 1,
                    }
                }
                _ => on_frame(arrival, out),
            })?;
            if let Some(code) = refused {
                return Err(LoadError::Broken(format!("CONNECT was refused with {code}")));
            }
        }
        Ok(first)
    }

    /// Begins a connection whose first bytes are these.
    fn open(&mut self, to: SocketAddr, first: &[u8]) -> Result<(), LoadError> {
        let mut stream = TcpStream::from_std(self.sources.connect(to)?);
        let token = Token(self.lines.len());
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let unsent = first.to_vec();
        let is_leaving = false;
        self.lines.push(Some(Line {
            stream,
            unread: Vec::new(),
            unsent,
            is_writable: false,
            is_dirty: false,
            is_leaving,
        }));
        Ok(())
    }

    /// Appends bytes to what a client sends; they leave with the next turn.
    pub fn send(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Some(line)) = self.lines.get_mut(at) {
            write(&mut line.unsent);
            if !line.is_dirty {
                line.is_dirty = true;
                self.dirty.push(at);
            }
        }
    }

    /// Bytes that a client's socket did not take yet.
    pub fn unsent(&self, at: usize) -> usize {
        self.lines.get(at).and_then(Option::as_ref).map_or(0, |line| line.unsent.len())
    }

    /// Says goodbye with the next turn; the broker closes.
    pub fn leave(&mut self, at: usize) {
        self.send(at, |out| out.extend(wire::DISCONNECT));
        if let Some(Some(line)) = self.lines.get_mut(at) {
            line.is_leaving = true;
        }
    }

    /// Whether the broker has closed a connection that left.
    pub fn has_left(&self, at: usize) -> bool {
        self.lines.get(at).is_none_or(Option::is_none)
    }

    /// Ends a connection: with a reset, as when a network is cut, or after what it still had to say.
    pub fn close(&mut self, at: usize, is_cut: bool) {
        if let Some(Some(mut line)) = self.lines.get_mut(at).map(Option::take) {
            if is_cut {
                let _ = socket2::SockRef::from(&line.stream).set_linger(Some(Duration::ZERO));
            } else {
                let _ = line.stream.write(&line.unsent);
            }
        }
    }

    /// Writes what waits, waits at most so long for something to come, and hands every frame over.
    pub fn turn(
        &mut self,
        wait: Duration,
        mut on_frame: impl FnMut(Arrival<'_>, &mut Vec<u8>),
    ) -> Result<(), LoadError> {
        self.flush()?;
        if let Err(error) = self.poll.poll(&mut self.events, Some(wait))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        let (lines, buffer) = (&mut self.lines, &mut self.buffer);
        if !self.events.is_empty() {
            self.heard = Instant::now();
        }
        for event in &self.events {
            let at = event.token().0;
            let Some(place) = lines.get_mut(at) else { continue };
            let Some(line) = place else { continue };
            line.is_writable |= event.is_writable();
            let now = nanos(self.started);
            let read = line.read(buffer, |frame, out| on_frame(Arrival { at, now, frame }, out));
            match read.and_then(|()| line.write()) {
                Err(_) if line.is_leaving => *place = None,
                ended => ended?,
            }
        }
        if self.heard.elapsed() > PATIENCE {
            return Err(LoadError::Silent);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        for at in std::mem::take(&mut self.dirty) {
            if let Some(Some(line)) = self.lines.get_mut(at) {
                line.is_dirty = false;
                line.write()?;
            }
        }
        Ok(())
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Line {
    fn read(
        &mut self,
        buffer: &mut [u8],
        mut on_frame: impl FnMut(Frame<'_>, &mut Vec<u8>),
    ) -> Result<(), LoadError> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(LoadError::Broken("connection closed".into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let came = buffer.get(..count).unwrap_or_default();
            if self.unread.is_empty() {
                let taken = frames(came, &mut self.unsent, &mut on_frame)?;
                self.unread.extend_from_slice(came.get(taken..).unwrap_or_default());
            } else {
                self.unread.extend_from_slice(came);
                let taken = frames(&self.unread, &mut self.unsent, &mut on_frame)?;
                self.unread.drain(..taken);
            }
            if count < buffer.len() {
                return Ok(()); // the socket is empty: what comes later is a new event
            }
        }
    }

    fn write(&mut self) -> Result<(), LoadError> {
        while self.is_writable && !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Hands every whole frame over, with the answer that it is owed; says how many bytes they were.
fn frames(
    bytes: &[u8],
    out: &mut Vec<u8>,
    on_frame: &mut impl FnMut(Frame<'_>, &mut Vec<u8>),
) -> Result<usize, LoadError> {
    let mut taken = 0;
    while let Some((frame, length)) = wire::scan(bytes.get(taken..).unwrap_or_default())
        .map_err(|_| LoadError::Broken("no MQTT came".into()))?
    {
        wire::acknowledge(&frame, out);
        on_frame(frame, out);
        taken += length;
    }
    Ok(taken)
}
