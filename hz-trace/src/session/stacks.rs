//! Stacks as part of a session.

use super::{
    Settings,
    collect::Collect,
    collector::{Collector, STREAM_STACKS},
};
use crate::{
    error::StartError,
    recording::{BpfCost, LedgerRow},
    source::{Sched, Scope, StackSettings, Stacks},
};
use std::os::fd::AsFd as _;

/// Loads the probes `oncpu` and `offcpu`, those of them that are chosen.
pub(super) fn load(
    settings: &Settings,
    scope: &Scope,
    sched: &Sched,
) -> Result<Option<Box<dyn Collect>>, StartError> {
    let (has_oncpu, has_offcpu) = (settings.probes.has("oncpu"), settings.probes.has("offcpu"));
    if !has_oncpu && !has_offcpu {
        return Ok(None);
    }
    let stack_settings = StackSettings {
        scope: scope.clone(),
        follow_children: settings.follow_children,
        has_oncpu,
        has_offcpu,
        sample_hz: settings.sample_hz,
        sample_by: settings.sample_by,
        off_min: settings.off_min,
        off_one_in: settings.off_one_in,
        has_rows: settings.has_rows,
        ring_bytes: settings.ring_bytes,
    };
    let processes = sched.processes();
    let processes = processes.as_ref().map(|processes| processes.as_fd());
    let stacks = Stacks::load(stack_settings, processes)?;
    Ok(Some(Box::new(stacks)))
}

impl Collect for Stacks {
    fn name(&self) -> String {
        self.running()
    }

    fn attach(&mut self) -> Result<(), StartError> {
        Self::attach(self)
    }

    fn begin(&mut self, _: &mut Collector) -> Result<(), StartError> {
        Ok(())
    }

    fn drain(&mut self, collector: &mut Collector) {
        Self::drain(self, &mut |record| collector.push(STREAM_STACKS, record));
    }

    fn each_second(&mut self, _: &mut Collector) {}

    fn detach(&mut self) {
        Self::detach(self);
    }

    fn end(&mut self, collector: &mut Collector) {
        Self::end(self, &mut |record| collector.push(STREAM_STACKS, record));
    }

    fn ledger(&self) -> Vec<LedgerRow> {
        Self::ledger(self)
    }

    fn cost(&self) -> Vec<BpfCost> {
        Self::cost(self)
    }

    fn not_collected(&self) -> Vec<String> {
        Self::not_collected(self)
    }
}
