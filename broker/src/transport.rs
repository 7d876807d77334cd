//! How bytes travel below MQTT: one type for every kind of socket and for what is wrapped around it.
//!
//! ```text
//!              socket (TCP or Unix)
//!  read   ---> PROXY header ---> TLS ---> WebSocket ---> MQTT bytes        (layers.rs; absent for plain sockets)
//!  write  <---                   TLS <--- WebSocket <--- MQTT bytes
//! ```
//! The layers are state machines that take and make bytes and never wait. So a handshake is nothing but reading: the
//! deadline of CONNECT is the deadline of everything below it too.

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
use socket::{DetachedSocket, Socket};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

/// One network connection's bytes. Reader and writer of a connection share it.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    layers: Option<Box<RefCell<Layers>>>,
}

/// How one read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Bytes came, perhaps none of MQTT; `true`: as many as fit, so more probably wait.
    Bytes(bool),
    /// The peer sends nothing more.
    End,
}

/// A stream that no runtime knows, on its way to another thread.
#[derive(Debug)]
pub(crate) struct Detached {
    socket: DetachedSocket,
    layers: Option<Box<RefCell<Layers>>>,
}

impl Stream {
    /// A socket with what is wrapped around it.
    pub(crate) fn new(socket: Socket, layers: Option<Layers>) -> Self {
        Self { socket, layers: layers.map(|layers| Box::new(RefCell::new(layers))) }
    }

    /// Reads once: the socket's bytes go through `scratch`, which must have room for a TLS record, those of MQTT into
    /// `into`.
    ///
    /// # Errors
    /// When the socket or a layer is broken; what the peer should hear of it has been sent as far as it takes it.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        into: &mut BytesMut,
    ) -> Poll<io::Result<Came>> {
        if let Some(layers) = &self.layers {
            return layers.borrow_mut().poll_read(&self.socket, context, scratch, into);
        }
        let room = scratch.len();
        let count = ready!(self.socket.poll_read(context, scratch))?;
        if count == 0 {
            return Poll::Ready(Ok(Came::End));
        }
        into.extend_from_slice(scratch.get(..count).unwrap_or_default());
        Poll::Ready(Ok(Came::Bytes(count == room)))
    }

    /// Reads bytes that nobody wants any more. `true` at the end.
    pub(crate) fn poll_drop(&self, context: &mut Context<'_>, scratch: &mut [u8]) -> Poll<bool> {
        let result = ready!(self.socket.poll_read(context, scratch));
        Poll::Ready(result.map_or(true, |count| count == 0))
    }

    /// Takes bytes of MQTT, at most as many as the socket has room for and little more.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`]; anything else: the stream is broken.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.layers {
            None => self.socket.try_write(bytes),
            Some(layers) => layers.borrow_mut().try_write(&self.socket, bytes),
        }
    }

    /// Gives the socket what a layer still holds of bytes that [`Self::try_write`] took.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match &self.layers {
            None => Ok(()),
            Some(layers) => layers.borrow_mut().try_flush(&self.socket),
        }
    }

    /// Writes the last bytes and says the goodbye of each layer.
    ///
    /// # Errors
    /// As [`Self::try_write`]; after [`ErrorKind::WouldBlock`] it is called again with what is left.
    pub(crate) fn try_finish(&self, rest: &mut BytesMut) -> io::Result<()> {
        while !rest.is_empty() {
            match self.try_write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => rest.advance(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match &self.layers {
            None => Ok(()),
            Some(layers) => layers.borrow_mut().try_finish(&self.socket),
        }
    }

    /// Waits until [`Self::try_write`] may have room.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Says that nothing more will be written. The peer reads the end; what it still sends can be read.
    pub(crate) fn shut_down(&self) {
        self.socket.shut_down();
    }

    /// Every layer's handshake is over: forgets layers that have nothing more to do, and tells what they found out.
    pub(crate) fn settle(&mut self) -> Found {
        let Some(layers) = &mut self.layers else { return Found::default() };
        let found = layers.get_mut().found();
        if layers.get_mut().is_transparent() {
            self.layers = None;
        }
        found
    }

    /// Which handshake it is in.
    pub(crate) fn stage(&self) -> Stage {
        self.layers.as_ref().map_or(Stage::Connect, |layers| layers.borrow().stage())
    }

    /// Takes it away from this thread's runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached { socket: self.socket.detach()?, layers: self.layers })
    }
}

impl Detached {
    /// Gives it to this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        Ok(Stream { socket: self.socket.attach()?, layers: self.layers })
    }

    /// Bytes that it holds in memory.
    pub(crate) fn weight(&self) -> usize {
        self.layers.as_ref().map_or(0, |layers| layers.borrow().weight())
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

/// The right to write to a stream. When the last one is gone, the peer reads the end.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) std::rc::Rc<Stream>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}
