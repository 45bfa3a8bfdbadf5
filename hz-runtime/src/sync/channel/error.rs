//! Why a channel gave or took no message.

use std::fmt;

/// The channel is closed: nobody will receive the message.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sending into a closed channel")]
pub struct SendError<T>(
    /// The message.
    pub T,
);

/// The channel is closed, and there is no message left in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("receiving from a channel that is empty and closed")]
pub struct RecvError;

/// Why a message was not sent at once.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no room for it now.
    #[error("sending into a full channel")]
    Full(T),
    /// Nobody will receive it.
    #[error("sending into a closed channel")]
    Closed(T),
}

/// Why no message was received at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// There is none now.
    #[error("receiving from an empty channel")]
    Empty,
    /// There will be none.
    #[error("receiving from a channel that is empty and closed")]
    Closed,
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

// By hand: the message need not be `Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}
