//! A socket of the operating system, TCP or Unix: a descriptor that never blocks, and nothing else.

use rustix::net::{SendFlags, Shutdown, SocketFlags};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A connected socket. Whoever waits for it does so elsewhere: a task during the handshake, the shard's poller afterwards.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// The next one that came to a listening socket, and where from; a Unix socket has no address.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; a shortage; or the client was gone before we came.
    pub(crate) fn accept(listener: impl AsFd) -> io::Result<(Self, Option<SocketAddr>)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, address) = rustix::net::acceptfrom_with(listener, flags)?;
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        Ok((Self(socket), address))
    }

    /// Reads what is there, 0 at the end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes what the socket takes at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Ends the direction towards the peer.
    pub(crate) fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write); // a peer that is gone already is no news
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
impl Socket {
    /// Two that are connected.
    pub(crate) fn pair() -> (Self, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Self(ours.into()), theirs)
    }
}
