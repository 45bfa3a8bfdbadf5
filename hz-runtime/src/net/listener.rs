//! Accepting connections.

use super::BACKLOG;
use super::stream::{TcpStream, UnixStream};
use crate::probe::Operation;
use crate::reactor::Registration;
use crate::scheduler::budget;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, acceptfrom_with, bind,
    listen, socket_with, sockopt,
};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::task::{Context, Poll, ready};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Accepts connections over TCP.
#[derive(Debug)]
pub struct TcpListener {
    io: Registration<std::net::TcpListener>,
}

impl TcpListener {
    /// Listens at an address; port 0 is one that the kernel chooses.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `AddrInUse`, or if this thread has no runtime.
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let address = address.into();
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
        // Connections of a server before that linger do not keep this one from its port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        let io = Registration::new(socket.into())?;
        Ok(Self { io })
    }

    /// Takes over a listener of the standard library and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// The kernel's, or if this thread has no runtime.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let io = Registration::new(listener)?;
        Ok(Self { io })
    }

    /// Waits for a connection, and returns it and where it comes from.
    ///
    /// # Errors
    ///
    /// The kernel's. One that concerns a single connection, such as `ConnectionAborted`, or a lack of
    /// descriptors (`EMFILE`) need not end the listener.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As [`TcpListener::accept`].
    pub fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        ready!(budget::consume(context));
        let attempt = |listener: &std::net::TcpListener| Ok(acceptfrom_with(listener, FLAGS)?);
        let accepted = ready!(self.io.poll_io(context, Operation::Accept, attempt));
        Poll::Ready(accepted.and_then(|(socket, peer)| {
            let stream = TcpStream::new(socket.into())?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let peer = peer.map_or_else(|| stream.peer_addr(), Ok)?;
            Ok((stream, peer))
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.file().local_addr()
    }
}

/// Accepts connections within the machine.
#[derive(Debug)]
pub struct UnixListener {
    io: Registration<OwnedFd>,
}

impl UnixListener {
    /// Listens at a path, which must not be there and stays there afterwards.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `AddrInUse`, or if this thread has no runtime.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path.as_ref())?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        let io = Registration::new(socket)?;
        Ok(Self { io })
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// The kernel's; see [`TcpListener::accept`].
    pub async fn accept(&self) -> io::Result<UnixStream> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As [`UnixListener::accept`].
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        ready!(budget::consume(context));
        let attempt = |listener: &OwnedFd| Ok(accept_with(listener, FLAGS)?);
        let accepted = ready!(self.io.poll_io(context, Operation::Accept, attempt));
        Poll::Ready(accepted.and_then(|socket| UnixStream::new(socket.into())))
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.file().as_fd()
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.file().as_fd()
    }
}
