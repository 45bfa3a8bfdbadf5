//! Making connections.

use super::stream::{Stream, TcpStream, UnixStream};
use crate::probe::Operation;
use crate::reactor::Registration;
use crate::scheduler::budget;
use crate::time::sleep;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

/// How long to wait until a Unix listener may have room again: the kernel does not tell.
const UNIX_RETRY: Duration = Duration::from_millis(1);

impl TcpStream {
    /// Connects to an address.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `ConnectionRefused`, or if this thread has no runtime.
    pub async fn connect(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let address = address.into();
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        let io = Registration::new(std::net::TcpStream::from(socket))?;
        // Asked again when the socket can be written, the kernel says how it went.
        let attempt = |socket: &std::net::TcpStream| match connect(socket, &address) {
            Ok(()) | Err(Errno::ISCONN) => Ok(()),
            Err(Errno::INPROGRESS | Errno::ALREADY) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        };
        poll_fn(|context| {
            ready!(budget::consume(context));
            io.poll_io(context, Operation::Connect, attempt)
        })
        .await?;
        Ok(Self { io: Arc::new(io) })
    }

    /// Address of this side.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.as_std().local_addr()
    }

    /// Address of the other side.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.as_std().peer_addr()
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_nodelay(&self, is_at_once: bool) -> io::Result<()> {
        self.as_std().set_nodelay(is_at_once)
    }
}

impl UnixStream {
    /// Connects to a path.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `NotFound`, or if this thread has no runtime.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path.as_ref())?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        loop {
            match connect(&socket, &address) {
                Err(Errno::AGAIN) => sleep(UNIX_RETRY).await,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Self::new(socket.into()),
            }
        }
    }

    /// Two ends of one connection.
    ///
    /// # Errors
    ///
    /// The kernel's, or if this thread has no runtime.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        Ok((Stream::from_std(one)?, Stream::from_std(other)?))
    }
}
