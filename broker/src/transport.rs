//! How bytes travel below MQTT: one type for every kind of socket and for what is wrapped around it.
//!
//! ```text
//!              socket (TCP or Unix)
//!  read   ---> PROXY header ---> TLS ---> WebSocket ---> MQTT bytes        (layers.rs; absent for plain sockets)
//!  write  <---                   TLS <--- WebSocket <--- MQTT bytes
//! ```
//! The layers are state machines that take and make bytes and never wait. So a handshake is nothing but reading: the
//! deadline of CONNECT is the deadline of everything below it too.

pub(crate) mod awaited;
pub(crate) mod layers;
pub(crate) mod proxy_protocol;
pub(crate) mod socket;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod unix;
pub(crate) mod websocket;

use bytes::{Buf, BytesMut};
use layers::Layers;
use rustls::pki_types::CertificateDer;
use socket::Socket;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// One network connection's bytes. Nothing in here waits.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    layers: Option<Box<Layers>>,
}

/// How one read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Bytes came, perhaps none of MQTT; `true`: another read would probably not wait.
    Bytes(bool),
    /// The peer sends nothing more.
    End,
}

impl Stream {
    /// A socket with what is wrapped around it.
    pub(crate) fn new(socket: Socket, layers: Option<Layers>) -> Self {
        Self { socket, layers: layers.map(Box::new) }
    }

    /// Reads once: the socket's bytes go through `scratch`, which must have room for a TLS record, those of MQTT into
    /// `into`. What a layer has to say to the peer goes first; what the socket does not take of it stays.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`]; anything else: the socket or a layer is broken; what the peer should hear of it has been
    /// sent as far as it takes it.
    pub(crate) fn read(&mut self, scratch: &mut [u8], into: &mut BytesMut) -> io::Result<Came> {
        if let Some(layers) = &mut self.layers {
            return layers.read(&self.socket, scratch, into);
        }
        let count = self.socket.read(scratch)?;
        if count == 0 {
            return Ok(Came::End);
        }
        into.extend_from_slice(scratch.get(..count).unwrap_or_default());
        Ok(Came::Bytes(count == scratch.len()))
    }

    /// Reads bytes that nobody wants any more. 0 at the end, however it came.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] only.
    pub(crate) fn drop_bytes(&self, scratch: &mut [u8]) -> io::Result<usize> {
        match self.socket.read(scratch) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Takes bytes of MQTT, at most as many as the socket has room for and little more.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`]; anything else: the stream is broken.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layers {
            None => self.socket.try_write(bytes),
            Some(layers) => layers.try_write(&self.socket, bytes),
        }
    }

    /// Gives the socket what a layer still holds: of bytes that [`Self::try_write`] took, or of its own.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        match &mut self.layers {
            None => Ok(()),
            Some(layers) => layers.try_flush(&self.socket),
        }
    }

    /// Whether a layer holds bytes that the socket did not take.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.has_outgoing())
    }

    /// A layer takes no more bytes of the peer.
    pub(crate) fn is_ended(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.is_ended())
    }

    /// Takes all bytes of MQTT, and gives them to the socket.
    ///
    /// # Errors
    /// As [`Self::try_write`]; after [`ErrorKind::WouldBlock`] it is called again with what is left.
    pub(crate) fn try_write_all(&mut self, rest: &mut BytesMut) -> io::Result<()> {
        while !rest.is_empty() {
            match self.try_write(rest)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                taken => rest.advance(taken),
            }
        }
        self.try_flush()
    }

    /// Writes the last bytes and says the goodbye of each layer.
    ///
    /// # Errors
    /// As [`Self::try_write_all`].
    pub(crate) fn try_finish(&mut self, rest: &mut BytesMut) -> io::Result<()> {
        self.try_write_all(rest)?;
        match &mut self.layers {
            None => Ok(()),
            Some(layers) => layers.try_finish(&self.socket),
        }
    }

    /// Says that nothing more will be written. The peer reads the end; what it still sends can be read.
    pub(crate) fn shut_down(&self) {
        self.socket.shut_down();
    }

    /// Every layer's handshake is over: forgets layers that have nothing more to do, and tells what they found out.
    pub(crate) fn settle(&mut self) -> Found {
        let Some(layers) = &mut self.layers else { return Found::default() };
        let found = layers.found();
        if layers.is_transparent() {
            self.layers = None;
        }
        found
    }

    /// Which handshake it is in.
    pub(crate) fn stage(&self) -> Stage {
        self.layers.as_ref().map_or(Stage::Connect, |layers| layers.stage())
    }

    /// Bytes that it holds in memory.
    pub(crate) fn weight(&self) -> usize {
        self.layers.as_ref().map_or(0, |layers| layers.weight())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What the layers found out about the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where the client is, as a PROXY header says.
    pub(crate) address: Option<SocketAddr>,
    /// The certificate that it showed, verified.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// The handshakes on the way to CONNECT, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The PROXY header is awaited.
    Proxy,
    /// TLS is under way.
    Tls,
    /// The WebSocket's request is awaited.
    WebSocket,
    /// CONNECT is awaited.
    Connect,
}
