//! Sockets.
//!
//! They belong to the runtime of the thread that makes them, and can be used from any. Beside their
//! own methods they have the traits of `futures-io`, and with the feature `hyper` those of hyper.
//! Every operation can be dropped half way: nothing that was read is lost but what `read_exact` had.
//!
//! A host's name is resolved by a blocking call, so addresses are numeric here.

#![forbid(unsafe_code)]

mod connect;
mod halves;
mod listener;
mod stream;
mod udp;

pub use halves::{ReadHalf, WriteHalf};
pub use listener::{TcpListener, UnixListener};
pub use stream::{Socket, Stream, TcpStream, UnixStream};
pub use udp::UdpSocket;

/// Connections that may wait to be accepted. The standard library's 128 make a thousand clients that
/// come at once wait for a repeated SYN. The kernel cuts it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
