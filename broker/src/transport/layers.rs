//! What is wrapped around the bytes of MQTT on a socket, as state machines that never wait.

use super::proxy_protocol::{Header, Parsed, parse};
use super::socket::Socket;
use super::tls::{Flow, Tls, TlsClosed};
use super::websocket::WebSocket;
use super::{Came, Found, Stage};
use bytes::{Buf, BytesMut};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// Bytes of MQTT that are wrapped in one go: two TLS records or one frame. More would only wait here instead of where the
/// rules count them.
const CHUNK_BYTES: usize = 32 << 10;

/// The layers of one connection, outermost first. A layer that a listener does not have is absent.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    proxy: Option<Proxy>,
    tls: Option<Box<Tls>>,
    websocket: Option<WebSocket>,
    /// Bytes of the socket that a layer cannot use before more of them came. At most a PROXY header or a TLS record.
    incoming: BytesMut,
    /// Bytes that the socket did not take yet. At most one chunk and what answers the peer.
    outgoing: BytesMut,
    /// A layer takes no more bytes of the peer. What came before is still given out.
    is_ended: bool,
}

/// The PROXY header.
#[derive(Debug)]
enum Proxy {
    Awaited,
    /// It came; the address when it names one.
    Came(Option<SocketAddr>),
}

impl Layers {
    /// As a listener wants them; `None`: the socket has the bytes of MQTT as they are.
    pub(crate) fn new(has_proxy: bool, tls: Option<Tls>, websocket: Option<WebSocket>) -> Option<Self> {
        let is_wrapped = has_proxy || tls.is_some() || websocket.is_some();
        is_wrapped.then(|| Self {
            proxy: has_proxy.then_some(Proxy::Awaited),
            tls: tls.map(Box::new),
            websocket,
            ..Self::default()
        })
    }

    /// See [`super::Stream::read`].
    pub(crate) fn read(
        &mut self,
        socket: &Socket,
        scratch: &mut [u8],
        into: &mut BytesMut,
    ) -> io::Result<Came> {
        self.answer(socket)?;
        if self.is_ended {
            return Ok(Came::End);
        }
        let kept = self.incoming.len();
        let Some((front, room)) = scratch.split_at_mut_checked(kept) else {
            return Err(ErrorKind::InvalidData.into()); // no layer keeps so much
        };
        let count = socket.read(room)?;
        if count == 0 {
            return Ok(Came::End);
        }
        let is_full = count == room.len();
        front.copy_from_slice(&self.incoming);
        self.incoming = BytesMut::new();
        self.decode(scratch.get_mut(..kept + count).unwrap_or_default(), into);
        self.answer(socket)?;
        Ok(Came::Bytes(is_full || self.is_ended))
    }

    fn decode(&mut self, bytes: &mut [u8], into: &mut BytesMut) {
        let mut rest = bytes;
        if let Some(Proxy::Awaited) = self.proxy {
            match parse(rest) {
                Err(_) => {
                    self.is_ended = true;
                    return;
                }
                Ok(Parsed::Incomplete) => return self.incoming.extend_from_slice(rest),
                Ok(Parsed::Whole(Header { source, length })) => {
                    self.proxy = Some(Proxy::Came(source));
                    rest = rest.get_mut(length..).unwrap_or_default();
                }
            }
        }
        let websocket = &mut self.websocket;
        let mut give = |plain: &[u8]| match websocket {
            None => into.extend_from_slice(plain),
            Some(websocket) => websocket.decode(plain, into),
        };
        match &mut self.tls {
            None => give(rest),
            Some(tls) => {
                let (used, flow) = tls.decode(rest, &mut self.outgoing, give);
                self.incoming.extend_from_slice(rest.get(used..).unwrap_or_default());
                self.is_ended |= flow == Flow::Ended;
            }
        }
        self.is_ended |= self.websocket.as_ref().is_some_and(WebSocket::is_ended);
    }

    /// Sends what a layer has to say to the peer. What the socket does not take now goes later, or with the next write;
    /// reading goes on meanwhile, since a peer that must write before it reads would wait for ever.
    fn answer(&mut self, socket: &Socket) -> io::Result<()> {
        match self.try_flush(socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            done => done,
        }
    }

    /// See [`super::Stream::try_write`].
    pub(crate) fn try_write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush(socket)?;
        let chunk = bytes.get(..CHUNK_BYTES).unwrap_or(bytes);
        match &self.websocket {
            None => self.wrap(chunk)?,
            Some(websocket) => {
                let mut frame = websocket.header(chunk.len()).ok_or(ErrorKind::BrokenPipe)?;
                frame.extend_from_slice(chunk);
                self.wrap(&frame)?;
            }
        }
        match self.try_flush(socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(chunk.len()),
        }
    }

    /// Puts what comes out of the WebSocket, or of MQTT, behind what waits.
    fn wrap(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => {
                self.outgoing.extend_from_slice(bytes);
                Ok(())
            }
            Some(tls) => tls
                .encrypt(bytes, &mut self.incoming, &mut self.outgoing)
                .map_err(|TlsClosed| ErrorKind::BrokenPipe.into()),
        }
    }

    /// See [`super::Stream::try_flush`].
    pub(crate) fn try_flush(&mut self, socket: &Socket) -> io::Result<()> {
        loop {
            if let Some(websocket) = &mut self.websocket {
                let answer = websocket.take_answer(self.outgoing.is_empty());
                if !answer.is_empty() {
                    self.wrap(&answer)?;
                }
            }
            if self.outgoing.is_empty() {
                self.outgoing = BytesMut::new();
                return Ok(());
            }
            match socket.try_write(&self.outgoing)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                taken => self.outgoing.advance(taken),
            }
        }
    }

    /// See [`super::Stream::try_finish`].
    pub(crate) fn try_finish(&mut self, socket: &Socket) -> io::Result<()> {
        if let Some(websocket) = &mut self.websocket {
            websocket.finish();
            let answer = websocket.take_answer(false);
            if !answer.is_empty() {
                self.wrap(&answer)?;
            }
        }
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&mut self.incoming, &mut self.outgoing);
        }
        self.try_flush(socket)
    }

    /// What the handshakes told.
    pub(crate) fn found(&self) -> Found {
        Found {
            address: match self.proxy {
                Some(Proxy::Came(address)) => address,
                Some(Proxy::Awaited) | None => None,
            },
            certificate: self.tls.as_ref().and_then(|tls| tls.client_certificate().cloned()),
        }
    }

    /// Whether bytes pass unchanged from now on.
    pub(crate) fn is_transparent(&self) -> bool {
        let is_bare = self.tls.is_none() && self.websocket.is_none();
        is_bare && self.incoming.is_empty() && self.outgoing.is_empty() && !self.is_ended
    }

    /// Whether bytes wait for the socket.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// See [`super::Stream::is_ended`].
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The handshake that is awaited.
    pub(crate) fn stage(&self) -> Stage {
        if matches!(self.proxy, Some(Proxy::Awaited)) {
            return Stage::Proxy;
        }
        if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            return Stage::Tls;
        }
        match &self.websocket {
            Some(websocket) if !websocket.is_open() => Stage::WebSocket,
            Some(_) | None => Stage::Connect,
        }
    }

    /// Bytes that it holds in memory.
    pub(crate) fn weight(&self) -> usize {
        self.incoming.len() + self.outgoing.len()
    }
}
