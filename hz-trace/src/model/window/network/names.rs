//! States and limits of sockets, which are many: numbers here, words outside.

use crate::model::net::state_name;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A state of TCP, as the kernel numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TcpState(pub u8);

impl TcpState {
    /// Its name, as `ss` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        state_name(self.0)
    }
}

impl Serialize for TcpState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TcpState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self((0..=12).find(|state| state_name(*state) == name).unwrap_or(0)))
    }
}

/// What limits a socket that has something to send.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// Its program: there is nothing to send.
    #[default]
    App,
    /// Its congestion window.
    Cwnd,
    /// The window that its peer offers.
    PeerWindow,
    /// Its own send buffer.
    SendBuffer,
    /// Losses: a retransmission timer is being waited for.
    Loss,
}

impl LimitedBy {
    /// As people say it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Cwnd => "cwnd",
            Self::PeerWindow => "rwnd",
            Self::SendBuffer => "sndbuf",
            Self::Loss => "loss",
        }
    }
}
