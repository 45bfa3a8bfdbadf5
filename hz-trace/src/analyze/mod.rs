//! Answers questions about a model. Pure.

mod culprit;

pub use culprit::{Culprit, Culprits, culprits};
