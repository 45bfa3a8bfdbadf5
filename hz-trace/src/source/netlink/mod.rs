//! Sockets, queueing disciplines and devices as the kernel tells them when it is asked, without BPF.
//!
//! A [`Namespace`] is opened once; each [`Namespace::look`] is a [`Snapshot`] of it, in the records
//! that a recording carries. To look costs the time of the dumps, which each look tells (`NetCounters::took_ns`).

mod counters;
mod error;
mod inet;
mod message;
mod namespace;
mod owners;
mod ports;
mod route;
mod socket;
mod tcp_info;
mod unix;

use super::{every_process, network_namespaces::NetworkNamespace};
pub use error::{LookError, NamespaceError};
pub use inet::state;
pub use namespace::{Namespace, SOCKETS_MAX, Snapshot, Wanted};
pub use owners::{Holders, Owners};
