//! Stacks as part of a session.

use super::{
    Settings, TargetSpec,
    collect::Collect,
    collector::{Collector, STREAM_STACKS},
};
use crate::{
    error::StartError,
    recording::{BpfCost, LedgerRow},
    source::{Sched, Scope, StackSettings, Stacks},
};
use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

/// Loads the probes `oncpu`, `offcpu` and `alloc`, those of them that are chosen.
pub(super) fn load(
    settings: &Settings,
    scope: &Scope,
    sched: &Sched,
) -> Result<Option<Box<dyn Collect>>, StartError> {
    let (has_oncpu, has_offcpu) = (settings.probes.has("oncpu"), settings.probes.has("offcpu"));
    let has_alloc = settings.probes.has("alloc");
    if !has_oncpu && !has_offcpu && !has_alloc {
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
        heap_mean_bytes: has_alloc.then_some(settings.alloc_mean_bytes),
        program: program(&settings.target),
        ring_bytes: settings.ring_bytes,
    };
    let processes = sched.processes();
    let processes = processes.as_ref().map(|processes| processes.as_fd());
    let stacks = Stacks::load(stack_settings, processes)?;
    Ok(Some(Box::new(stacks)))
}

/// The file of a command that is not started yet.
fn program(target: &TargetSpec) -> Option<PathBuf> {
    let TargetSpec::Command(command) = target else { return None };
    let name = Path::new(command.first()?);
    if name.components().count() > 1 {
        return Some(name.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
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

    fn each_second(&mut self, _: &mut Collector) {
        Self::each_second(self);
    }

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

    fn notes(&self) -> Vec<String> {
        Self::notes(self)
    }
}
