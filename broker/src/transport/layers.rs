//! What is wrapped around the bytes of MQTT on a socket, as state machines that never wait.

use super::proxy_protocol::{Header, Parsed, parse};
use super::socket::Socket;
use super::{Came, Found, Stage};
use bytes::{Buf, BytesMut};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

/// The layers of one connection, outermost first. A layer that a listener does not have is absent.
#[derive(Debug)]
pub(crate) struct Layers {
    proxy: Option<Proxy>,
    /// Bytes of the socket that a layer cannot use before more of them came. At most a PROXY header or a TLS record.
    incoming: BytesMut,
    /// Bytes that the socket did not take yet. At most one chunk and what answers the peer.
    outgoing: BytesMut,
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
    pub(crate) fn new(has_proxy: bool) -> Option<Self> {
        has_proxy.then(|| Self {
            proxy: Some(Proxy::Awaited),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
        })
    }

    /// See [`super::Stream::poll_read`].
    pub(crate) fn poll_read(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        into: &mut BytesMut,
    ) -> Poll<io::Result<Came>> {
        self.answer(socket, context)?;
        let kept = self.incoming.len();
        let Some((front, room)) = scratch.split_at_mut_checked(kept) else {
            return Poll::Ready(Err(ErrorKind::InvalidData.into())); // no layer keeps so much
        };
        front.copy_from_slice(&self.incoming);
        let room_size = room.len();
        let count = ready!(socket.poll_read(context, room))?;
        if count == 0 {
            return Poll::Ready(Ok(Came::End));
        }
        self.incoming = BytesMut::new();
        let bytes = scratch.get_mut(..kept + count).unwrap_or_default();
        self.decode(bytes, into)?;
        self.answer(socket, context)?;
        Poll::Ready(Ok(Came::Bytes(count == room_size)))
    }

    fn decode(&mut self, bytes: &mut [u8], into: &mut BytesMut) -> io::Result<()> {
        let mut rest = bytes;
        if let Some(Proxy::Awaited) = self.proxy {
            match parse(rest).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
                Parsed::Incomplete => {
                    self.incoming.extend_from_slice(rest);
                    return Ok(());
                }
                Parsed::Whole(Header { source, length }) => {
                    self.proxy = Some(Proxy::Came(source));
                    rest = rest.get_mut(length..).unwrap_or_default();
                }
            }
        }
        into.extend_from_slice(rest);
        Ok(())
    }

    /// Sends what a layer has to say to the peer. What the socket does not take now wakes the reader's task later, or goes
    /// with the next write; reading goes on meanwhile, since a peer that must write before it reads would wait for ever.
    fn answer(&mut self, socket: &Socket, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            match self.try_flush(socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            match socket.poll_write_ready(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
        }
    }

    /// See [`super::Stream::try_write`].
    pub(crate) fn try_write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        socket.try_write(bytes)
    }

    /// See [`super::Stream::try_flush`].
    pub(crate) fn try_flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match socket.try_write(&self.outgoing) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.outgoing.advance(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outgoing = BytesMut::new();
        Ok(())
    }

    /// See [`super::Stream::try_finish`].
    pub(crate) fn try_finish(&mut self, socket: &Socket) -> io::Result<()> {
        self.try_flush(socket)
    }

    /// What the handshakes told.
    pub(crate) fn found(&self) -> Found {
        Found {
            address: match self.proxy {
                Some(Proxy::Came(address)) => address,
                Some(Proxy::Awaited) | None => None,
            },
        }
    }

    /// Whether bytes pass unchanged from now on.
    pub(crate) fn is_transparent(&self) -> bool {
        self.incoming.is_empty() && self.outgoing.is_empty()
    }

    /// The handshake that is awaited.
    pub(crate) fn stage(&self) -> Stage {
        match self.proxy {
            Some(Proxy::Awaited) => Stage::Proxy,
            Some(Proxy::Came(_)) | None => Stage::Connect,
        }
    }

    /// Bytes that it holds in memory.
    pub(crate) fn weight(&self) -> usize {
        self.incoming.len() + self.outgoing.len()
    }
}
