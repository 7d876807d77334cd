//! A socket that can put whole HTTP/2 frames between those of the server library.
//!
//! The library chooses the last stream id of its GOAWAY itself; a test wants to choose it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::log::lock;

/// Bytes to be written at the next frame boundary.
#[derive(Clone, Default)]
pub(super) struct Inject(Arc<Mutex<Vec<u8>>>);

impl Inject {
    /// A GOAWAY without an error: streams above `last_stream_id` were not and will not be processed. [RFC9113-6.8]
    pub fn go_away(&self, last_stream_id: u32) {
        let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&last_stream_id.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        lock(&self.0).extend(frame);
    }
}

/// The socket of one connection.
pub(super) struct FrameIo<T> {
    inner: T,
    inject: Inject,
}

impl<T> FrameIo<T> {
    pub fn new(inner: T, inject: Inject) -> Self {
        Self { inner, inject }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FrameIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FrameIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    /// The server library flushes after whole frames only.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let waiting = lock(&this.inject.0).clone();
            if waiting.is_empty() {
                return Pin::new(&mut this.inner).poll_flush(cx);
            }
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &waiting))?;
            lock(&this.inject.0).drain(..written);
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
