//! Answers to questions about a model: why something had to wait. Pure.

mod summary;
mod waits;

pub use summary::{
    Check, CpuUse, Distribution, LostBySite, OwnUse, ProcessUse, Summary, ThreadWaits, Worst,
    summarize,
};
pub use waits::{Wait, waits_of};
