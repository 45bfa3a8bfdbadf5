//! Answers to questions about a model: why something had to wait. Pure.

mod check;
mod culprit;
mod summary;
mod waits;

pub use check::{Check, Counts};
pub use culprit::{Culprit, Culprits, ProcessCulprit, culprits};
pub use summary::{
    CpuUse, Distribution, Holder, LostBySite, OwnUse, ProcessUse, Summary, ThreadWaits, Worst,
    summarize,
};
pub use waits::{Wait, culprits_of, waits_of};
