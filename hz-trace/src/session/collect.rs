//! What a session does with a probe that is chosen by name, from attached to accounted for.

use super::collector::Collector;
use crate::{
    error::StartError,
    recording::{BpfCost, LedgerRow},
};
use std::fmt;

/// A loaded probe of a session, beside `sched`, of which there is always one.
///
/// The calls come in the order in which they stand here; `drain` and `each_second` again and again.
pub(super) trait Collect: fmt::Debug {
    /// The probe's name with the hook it got, such as `net (tp_btf)`.
    fn name(&self) -> String;

    /// Begins to record.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the kernel refuses a program.
    fn attach(&mut self) -> Result<(), StartError>;

    /// Tells what there was already, when every probe is attached.
    ///
    /// # Errors
    ///
    /// [`StartError`] if an iterator cannot be read.
    fn begin(&mut self, collector: &mut Collector) -> Result<(), StartError>;

    /// Reads what has come.
    fn drain(&mut self, collector: &mut Collector);

    /// Reads what is counted elsewhere.
    fn each_second(&mut self, collector: &mut Collector);

    /// Records nothing more. What was recorded is still to be drained.
    fn detach(&mut self);

    /// Tells what is still there, at the very end.
    fn end(&mut self, collector: &mut Collector);

    /// What became of every run of a hook.
    fn ledger(&self) -> Vec<LedgerRow>;

    /// What the kernel says of each program.
    fn cost(&self) -> Vec<BpfCost>;

    /// What cannot be had here, a phrase each.
    fn not_collected(&self) -> Vec<String>;

    /// What there is to know of what was recorded, a sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
