//! Answers to questions about a model: why something had to wait. Pure.

mod culprit;
mod summary;
mod waits;

pub use culprit::{Culprit, Culprits, culprits};
pub use summary::{
    Check, CpuUse, Distribution, Holder, LostBySite, OwnUse, ProcessUse, Summary, ThreadWaits,
    Worst, summarize,
};
pub use waits::{Wait, culprits_of, waits_of};
