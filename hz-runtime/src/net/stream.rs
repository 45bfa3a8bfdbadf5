//! Streams of bytes: TCP and Unix.

use super::{ReadHalf, WriteHalf};
use crate::probe::Operation;
use crate::reactor::Registration;
use crate::scheduler::budget;
use futures_io::{AsyncRead, AsyncWrite};
#[cfg(feature = "hyper")]
use rustix::net::{RecvFlags, recv};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
#[cfg(feature = "hyper")]
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The most that a read by way of the stack takes.
#[cfg(feature = "hyper")]
const VIA_STACK_BYTES: usize = 16 * 1024;

/// Slices that are together no longer are copied and sent as one: the kernel takes 0.2 us longer for a
/// `writev` of two slices than for a `send`, ten times what it takes to copy an answer of 1 KB.
const JOINED_BYTES: usize = 2048;

/// The slices in one, if they fit.
fn join<'a>(slices: &[IoSlice<'_>], joined: &'a mut [u8; JOINED_BYTES]) -> Option<&'a [u8]> {
    let mut len = 0;
    for slice in slices {
        joined.get_mut(len..len + slice.len())?.copy_from_slice(slice);
        len += slice.len();
    }
    Some(&joined[..len])
}

/// A connection over TCP.
pub type TcpStream = Stream<std::net::TcpStream>;

/// A connection within the machine.
pub type UnixStream = Stream<std::os::unix::net::UnixStream>;

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::net::TcpStream {}
    impl Sealed for std::os::unix::net::UnixStream {}
}

/// The standard library's type of which a [`Stream`] is made.
pub trait Socket: sealed::Sealed + AsFd + fmt::Debug + Send + Sync + 'static {
    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn receive(&self, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes what fits.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ends one direction or both.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn end(&self, how: Shutdown) -> io::Result<()>;
    /// Makes the socket non-blocking.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn set_nonblocking(&self) -> io::Result<()>;
}

macro_rules! socket {
    ($socket:ty) => {
        impl Socket for $socket {
            fn receive(&self, bytes: &mut [u8]) -> io::Result<usize> {
                (&*self).read(bytes)
            }
            fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                match slices {
                    [slice] => (&*self).write(slice),
                    slices => {
                        let mut joined = [0; JOINED_BYTES];
                        match join(slices, &mut joined) {
                            Some(joined) => (&*self).write(joined),
                            None => (&*self).write_vectored(slices),
                        }
                    }
                }
            }
            fn end(&self, how: Shutdown) -> io::Result<()> {
                self.shutdown(how)
            }
            fn set_nonblocking(&self) -> io::Result<()> {
                self.set_nonblocking(true)
            }
        }
    };
}
socket!(std::net::TcpStream);
socket!(std::os::unix::net::UnixStream);

/// A connection.
///
/// One task may read and another write at a time, each by a shared reference or by its half (see
/// [`Stream::into_split`]); of two tasks that read at once, each gets a part of the bytes.
#[derive(Debug)]
pub struct Stream<S: Socket> {
    pub(super) io: Arc<Registration<S>>,
}

impl<S: Socket> Stream<S> {
    pub(super) fn new(socket: S) -> io::Result<Self> {
        let io = Arc::new(Registration::new(socket)?);
        Ok(Self { io })
    }

    /// Takes over a connection of the standard library and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// The kernel's, or if this thread has no runtime.
    pub fn from_std(socket: S) -> io::Result<Self> {
        socket.set_nonblocking()?;
        Self::new(socket)
    }

    /// The standard library's socket, for its options.
    #[must_use]
    pub fn as_std(&self) -> &S {
        self.io.file()
    }

    /// Reads what is there, up to the length of `bytes`; 0: the other side has ended its direction.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_receive(context, bytes)).await
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    ///
    /// The kernel's, and `UnexpectedEof` if the stream ends before.
    pub async fn read_exact(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.read(&mut bytes[done..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Writes what fits into the socket's buffer and says how much that was.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_send(context, &[IoSlice::new(bytes)])).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.write(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => left = &left[count..],
            }
        }
        Ok(())
    }

    /// Ends a direction: ended for writing, the other side reads an end.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.file().end(how)
    }

    /// A half to read and one to write, for two tasks.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf<S>, WriteHalf<S>) {
        let other = Self { io: Arc::clone(&self.io) };
        (ReadHalf::new(self), WriteHalf::new(other))
    }

    pub(crate) fn poll_receive(
        &self,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(budget::consume(context));
        let len = bytes.len();
        let receive = |socket: &S| socket.receive(bytes);
        self.io.poll_stream(context, Operation::Read, len, receive)
    }

    /// As `poll_receive`, by way of the stack to memory that is not initialised.
    #[cfg(feature = "hyper")]
    pub(crate) fn poll_receive_into(
        &self,
        context: &mut Context<'_>,
        len: usize,
        append: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        ready!(budget::consume(context));
        let mut append = append;
        let mut bytes = [MaybeUninit::<u8>::uninit(); VIA_STACK_BYTES];
        let len = len.min(VIA_STACK_BYTES);
        let receive = |socket: &S| {
            let (received, _) = recv(socket, &mut bytes[..len], RecvFlags::empty())?;
            append(&*received.0);
            Ok(received.0.len())
        };
        self.io.poll_stream(context, Operation::Read, len, receive)
    }

    pub(crate) fn poll_send(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(budget::consume(context));
        let len = slices.iter().map(|slice| slice.len()).sum();
        let send = |socket: &S| socket.send(slices);
        self.io.poll_stream(context, Operation::Write, len, send)
    }
}

impl<S: Socket> AsFd for Stream<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.file().as_fd()
    }
}

impl<S: Socket> AsyncRead for &Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_receive(context, bytes)
    }
}

impl<S: Socket> AsyncWrite for &Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl<S: Socket> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_receive(context, bytes)
    }
}

impl<S: Socket> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}
