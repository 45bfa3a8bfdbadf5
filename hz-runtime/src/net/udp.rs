//! Datagrams.

use crate::probe::Operation;
use crate::reactor::Registration;
use crate::scheduler::budget;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

/// A UDP socket. Any number of tasks may send and receive by a shared reference.
#[derive(Debug)]
pub struct UdpSocket {
    io: Registration<std::net::UdpSocket>,
}

impl UdpSocket {
    /// Takes an address; port 0 is one that the kernel chooses.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `AddrInUse`, or if this thread has no runtime.
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        Self::from_std(std::net::UdpSocket::bind(address.into())?)
    }

    /// Takes over a socket of the standard library and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// The kernel's, or if this thread has no runtime.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let io = Registration::new(socket)?;
        Ok(Self { io })
    }

    /// The standard library's socket, for its options.
    #[must_use]
    pub const fn as_std(&self) -> &std::net::UdpSocket {
        self.io.file()
    }

    /// Says with whom [`UdpSocket::send`] and [`UdpSocket::receive`] talk.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn connect(&self, address: impl Into<SocketAddr>) -> io::Result<()> {
        self.as_std().connect(address.into())
    }

    /// Its own address.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.as_std().local_addr()
    }

    /// Sends a datagram to whom it is connected with.
    ///
    /// # Errors
    ///
    /// The kernel's; `ConnectionRefused` is about an earlier datagram.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.run(Operation::Write, |socket| socket.send(bytes)).await
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn send_to(&self, bytes: &[u8], address: impl Into<SocketAddr>) -> io::Result<usize> {
        let address = address.into();
        self.run(Operation::Write, |socket| socket.send_to(bytes, address)).await
    }

    /// Waits for a datagram of whom it is connected with; what does not fit is cut.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn receive(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.run(Operation::Read, |socket| socket.recv(bytes)).await
    }

    /// Waits for a datagram, and says who sent it; what does not fit is cut.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub async fn receive_from(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.run(Operation::Read, |socket| socket.recv_from(bytes)).await
    }

    async fn run<R>(
        &self,
        operation: Operation,
        attempt: impl FnMut(&std::net::UdpSocket) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut attempt = attempt;
        let poll = |context: &mut Context<'_>| -> Poll<io::Result<R>> {
            ready!(budget::consume(context));
            self.io.poll_io(context, operation, &mut attempt)
        };
        poll_fn(poll).await
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.file().as_fd()
    }
}
