//! The figures of the screen for a monitoring system: `OpenMetrics` over HTTP.
//!
//! A window is added to [`Figures`] in the screen's thread; a scrape reads what was published last in
//! a thread of its own, so neither waits for the other.

mod families;
mod figures;
mod serve;
#[cfg(test)]
mod tests;

pub(crate) use serve::{Exporter, address};
