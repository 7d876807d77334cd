//! A stream that a task waits for: while it is in its handshake, before its shard's poller has it.

use super::{Came, Stream};
use bytes::BytesMut;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::consume_budget;

/// See the module.
#[derive(Debug)]
pub(crate) struct Awaited(AsyncFd<Stream>);

impl Awaited {
    /// Lets this thread's runtime watch it.
    ///
    /// # Errors
    /// When the system cannot.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        Ok(Self(watched(stream, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// The stream, for what never waits.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        self.0.get_mut()
    }

    /// Nobody watches it any more.
    pub(crate) fn into_stream(self) -> Stream {
        self.0.into_inner()
    }

    /// Reads once, see [`Stream::read`]. The buffer is borrowed for the read only: idle sockets cost no memory of ours.
    ///
    /// # Errors
    /// When the socket or a layer is broken.
    pub(crate) async fn read(&mut self, scratch: &RefCell<Vec<u8>>, into: &mut BytesMut) -> io::Result<Came> {
        poll_fn(|context| self.poll_read(context, scratch, into)).await
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        scratch: &RefCell<Vec<u8>>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<Came>> {
        loop {
            self.poll_flush(context)?;
            if self.0.get_ref().is_ended() {
                return Poll::Ready(Ok(Came::End));
            }
            let mut guard = ready!(self.0.poll_read_ready_mut(context))?;
            if let Ok(came) = guard.try_io(|fd| fd.get_mut().read(&mut scratch.borrow_mut(), into)) {
                return Poll::Ready(came);
            }
        }
    }

    /// Sends what a layer holds. What the socket does not take wakes the task when it does.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.0.get_ref().has_outgoing() {
            let Poll::Ready(guard) = self.0.poll_write_ready_mut(context) else { return Ok(()) };
            if let Ok(done) = guard?.try_io(|fd| fd.get_mut().try_flush()) {
                done?;
            }
        }
        Ok(())
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When the socket or a layer is broken.
    pub(crate) async fn write(&mut self, mut bytes: BytesMut) -> io::Result<()> {
        self.until_taken(|stream| stream.try_write_all(&mut bytes)).await
    }

    /// Writes the last bytes, says the goodbye of each layer, and [ends](Self::end).
    pub(crate) async fn finish(&mut self, mut rest: BytesMut, scratch: &RefCell<Vec<u8>>) {
        if self.until_taken(|stream| stream.try_finish(&mut rest)).await.is_ok() {
            self.end(scratch).await;
        }
    }

    /// Lets the peer read what it was sent: drops until its end what it still sends, since unread bytes would turn the close
    /// into a reset that overtakes the answer.
    pub(crate) async fn end(&mut self, scratch: &RefCell<Vec<u8>>) {
        if self.until_taken(Stream::try_flush).await.is_err() {
            return;
        }
        self.stream().shut_down();
        loop {
            let Ok(mut guard) = self.0.readable_mut().await else { return };
            let dropped = guard.try_io(|fd| fd.get_mut().drop_bytes(&mut scratch.borrow_mut()));
            if let Ok(Ok(0) | Err(_)) = dropped {
                return;
            }
            consume_budget().await; // one that sends without a pause must not keep the thread from the others
        }
    }

    async fn until_taken(&mut self, mut write: impl FnMut(&mut Stream) -> io::Result<()>) -> io::Result<()> {
        loop {
            if let Ok(result) = self.0.writable_mut().await?.try_io(|fd| write(fd.get_mut())) {
                return result;
            }
        }
    }
}

/// Lets this thread's runtime watch a descriptor.
///
/// # Errors
/// When the system cannot.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that change their descriptor: what is watched here owns one for its life"
)]
pub(crate) fn watched<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}
