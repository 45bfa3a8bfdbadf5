//! The live dashboard of hz: which task or thread is in trouble now, and why.
//!
//! State is apart from view: [`App::update`] changes, [`view::draw`] only reads. Figures are
//! `hz_trace`'s; nothing here knows where they come from.
#![forbid(unsafe_code)]

mod app;
mod cli;
mod feed;
mod flame;
mod history;
mod keys;
mod metrics;
mod once;
mod queues;
mod save;
mod table;
mod term;
mod theme;
pub mod view;
pub mod warning;

pub use app::{App, Effect, Msg, Panel};
pub use cli::Cli;
pub use theme::{Colours, Theme};
