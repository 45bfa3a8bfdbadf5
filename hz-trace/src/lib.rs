//! Records, replays, analyses and exports why a thread or a byte had to wait.
//!
//! Live and replay are one path: a source yields raw records, [`decode`] turns them into events,
//! [`model`] folds events into what happened, [`analyze`] answers questions about it and
//! [`export`] writes the answers.

pub mod analyze;
pub mod decode;
pub mod doctor;
pub mod error;
pub mod export;
pub mod host;
pub mod live;
pub mod model;
pub mod probe;
pub mod recording;
pub mod replay;
pub mod session;
pub mod source;
pub mod symbol;
pub mod text;
