//! A socket of the operating system: TCP or Unix, without boxes and without a lock.

use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A connected socket that this thread's runtime watches.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Over a network.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
}

/// A socket that no runtime watches.
#[derive(Debug)]
pub(crate) enum DetachedSocket {
    /// Over a network.
    Tcp(std::net::TcpStream),
    /// On this machine.
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Reads what is there, 0 at the end.
    ///
    /// The types of tokio do the same for whoever owns them alone; here reader and writer share the socket. A read that
    /// did not fill the buffer has emptied the socket, so the next one waits at once instead of asking the system.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(context))?;
            let mut count = 0;
            let read = || {
                count = self.read(buffer)?;
                match count {
                    0 => Ok(()),
                    some if some == buffer.len() => Ok(()),
                    _ => Err(ErrorKind::WouldBlock.into()), // tells the runtime that nothing is left
                }
            };
            match self.try_io(read) {
                Ok(()) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock && count > 0 => {
                    return Poll::Ready(Ok(count));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(match self {
            Self::Tcp(socket) => rustix::io::read(socket, buffer)?,
            Self::Unix(socket) => rustix::io::read(socket, buffer)?,
        })
    }

    fn try_io(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.try_io(Interest::READABLE, read),
            Self::Unix(socket) => socket.try_io(Interest::READABLE, read),
        }
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_read_ready(context),
            Self::Unix(socket) => socket.poll_read_ready(context),
        }
    }

    /// Wakes the reader's task when the socket takes bytes again.
    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_write_ready(context),
            Self::Unix(socket) => socket.poll_write_ready(context),
        }
    }

    /// Writes what the socket takes at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Unix(socket) => socket.try_write(bytes),
        }
    }

    /// Waits until it may take bytes.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.writable().await,
            Self::Unix(socket) => socket.writable().await,
        }
    }

    /// Ends the direction towards the peer.
    pub(crate) fn shut_down(&self) {
        let socket = match self {
            Self::Tcp(socket) => SockRef::from(socket),
            Self::Unix(socket) => SockRef::from(socket),
        };
        let _ = socket.shutdown(Shutdown::Write); // a peer that is gone already is no news
    }

    /// Takes it away from this thread's runtime.
    pub(crate) fn detach(self) -> io::Result<DetachedSocket> {
        Ok(match self {
            Self::Tcp(socket) => DetachedSocket::Tcp(socket.into_std()?),
            Self::Unix(socket) => DetachedSocket::Unix(socket.into_std()?),
        })
    }
}

impl DetachedSocket {
    /// Gives it to this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(socket) => Socket::Tcp(TcpStream::from_std(socket)?),
            Self::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
        })
    }
}
