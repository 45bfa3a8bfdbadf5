//! The two directions of a connection, each for a task of its own.

use super::{Socket, Stream};
use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The half of a [`Stream`] that reads.
#[derive(Debug)]
pub struct ReadHalf<S: Socket> {
    stream: Stream<S>,
}

/// The half of a [`Stream`] that writes. Dropped, it ends its direction: the other side reads an end.
#[derive(Debug)]
pub struct WriteHalf<S: Socket> {
    stream: Stream<S>,
}

impl<S: Socket> ReadHalf<S> {
    pub(super) const fn new(stream: Stream<S>) -> Self {
        Self { stream }
    }

    /// As [`Stream::read`].
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes).await
    }

    /// As [`Stream::read_exact`].
    ///
    /// # Errors
    ///
    /// The kernel's, and `UnexpectedEof` if the stream ends before.
    pub async fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(bytes).await
    }
}

impl<S: Socket> WriteHalf<S> {
    pub(super) const fn new(stream: Stream<S>) -> Self {
        Self { stream }
    }

    /// As [`Stream::write`].
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).await
    }

    /// As [`Stream::write_all`].
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

impl<S: Socket> Drop for WriteHalf<S> {
    fn drop(&mut self) {
        // The other side may have gone before: then there is nothing to end.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl<S: Socket> AsyncRead for ReadHalf<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_receive(context, bytes)
    }
}

impl<S: Socket> AsyncWrite for WriteHalf<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_send(context, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}
