//! The instrumented async runtime of hz: every task can be followed onto its CPU.

pub mod clock;
#[cfg(feature = "executor")]
pub mod pool;
pub mod probe;
#[cfg(feature = "tokio")]
pub mod tokio;
