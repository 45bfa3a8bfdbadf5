//! The instrumented async runtime of hz: every task can be followed onto its CPU. Nothing is built
//! yet.
