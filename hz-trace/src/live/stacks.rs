//! Stacks that are watched, while somebody looks at them.

use super::Wants;
use crate::{
    analyze::flame::LiveFlame,
    decode,
    host::clock,
    model::window::{NotCollected, Window},
    recording::{BpfCost, LedgerRow},
    source::{SampleBy, Scope, StackSettings, Stacks},
};
use std::{os::fd::BorrowedFd, time::Duration};

/// Samples a second on each CPU: enough for a picture of some seconds.
const SAMPLE_HZ: u32 = 99;

/// Times off a CPU that are taken with their stacks, a second.
const OFF_PER_SECOND: f64 = 1_000.0;

/// Memory of the rings, bytes.
const RING_BYTES: usize = 4 << 20;

/// Stacks of a target.
#[derive(Debug)]
pub(super) struct LiveStacks {
    scope: Scope,
    follow_children: bool,
    running: Option<Running>,
    refusal: Option<String>,
}

#[derive(Debug)]
struct Running {
    stacks: Stacks,
    flame: LiveFlame,
    wants: Wants,
    one_in: u32,
    off_before: u64,
}

impl LiveStacks {
    pub(super) fn new(scope: &Scope, follow_children: bool) -> Self {
        Self { scope: scope.clone(), follow_children, running: None, refusal: None }
    }

    /// Attaches what `wants` asks for, and nothing else. `processes` is the map of the target's processes,
    /// `switches` how many times a second threads leave their CPUs.
    pub(super) fn follow(
        &mut self,
        wants: Wants,
        processes: Option<BorrowedFd<'_>>,
        switches: f64,
    ) {
        if !wants.has_oncpu && !wants.has_offcpu {
            self.running = None;
            self.refusal = None;
            return;
        }
        let is_same = |running: &Running| {
            (running.wants.has_oncpu, running.wants.has_offcpu)
                == (wants.has_oncpu, wants.has_offcpu)
        };
        if !self.running.as_ref().is_some_and(is_same) {
            self.start(wants, processes, switches);
        }
    }

    fn start(&mut self, wants: Wants, processes: Option<BorrowedFd<'_>>, switches: f64) {
        self.running = None;
        let one_in = if wants.has_offcpu { one_in(switches) } else { 1 };
        let settings = StackSettings {
            scope: self.scope.clone(),
            follow_children: self.follow_children,
            has_oncpu: wants.has_oncpu,
            has_offcpu: wants.has_offcpu,
            sample_hz: SAMPLE_HZ,
            sample_by: SampleBy::Clock,
            off_min: Duration::from_micros(1),
            off_one_in: one_in,
            has_rows: true,
            heap_mean_bytes: None,
            program: None,
            ring_bytes: RING_BYTES,
        };
        let started = Stacks::load(settings, processes).and_then(|mut stacks| {
            stacks.attach()?;
            Ok(stacks)
        });
        match started {
            Ok(stacks) => {
                let flame = LiveFlame::new(clock::monotonic_ns());
                self.running = Some(Running { stacks, flame, wants, one_in, off_before: 0 });
                self.refusal = None;
            }
            Err(error) => self.refusal = Some(error.to_string()),
        }
    }

    /// Says why stacks cannot be had.
    pub(super) fn refuse(&mut self, why: &str) {
        self.refusal = Some(why.to_owned());
    }

    /// Whether polls of tasks are of use now.
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn tick(&mut self) {
        if let Some(Running { stacks, flame, .. }) = &mut self.running {
            stacks.drain(&mut |record| {
                if let Ok(event) = decode::decode(record) {
                    flame.fold(&event);
                }
            });
        }
    }

    /// Puts graphs of the last seconds into the window that has ended. `polled` says what task a thread
    /// polled when.
    pub(super) fn close(
        &mut self,
        window: &mut Window,
        polled: &dyn Fn(u32, u64) -> Option<String>,
    ) {
        self.tick();
        let missing = self.refusal.as_ref();
        window.not_collected.extend(missing.map(|why| NotCollected::new("stacks", why)));
        let Some(running) = &mut self.running else { return };
        let name = |tid: u32| {
            let found = window.threads.iter().find(|thread| thread.tid == tid);
            found.map(|thread| thread.name.clone()).or_else(|| comm(tid))
        };
        let times = (window.end_ns, window.length_ns());
        running.flame.close(times, &name, polled);
        let wants = running.wants;
        let kinds = [(wants.has_oncpu, false, 1), (wants.has_offcpu, true, running.one_in)];
        let graphs = kinds.into_iter().filter(|(is_on, ..)| *is_on);
        window.flames =
            graphs.map(|(_, is_off, one_in)| running.flame.graph(is_off, one_in)).collect();
    }

    /// Begins anew where too much is remembered, or where far more threads leave their CPUs than when it
    /// began: then too many stacks would be taken.
    pub(super) fn renew(&mut self, processes: Option<BorrowedFd<'_>>, length: Duration) {
        let Some(running) = &mut self.running else { return };
        let off = running.stacks.off_recorded();
        let rate = off.saturating_sub(running.off_before) as f64 / length.as_secs_f64().max(0.001);
        running.off_before = off;
        if running.flame.is_full() || rate > 2.0 * OFF_PER_SECOND {
            let (wants, switches) = (running.wants, rate * f64::from(running.one_in));
            self.start(wants, processes, switches);
        }
    }

    pub(super) fn ledger(&self) -> Vec<LedgerRow> {
        self.running.as_ref().map(|running| running.stacks.ledger()).unwrap_or_default()
    }

    pub(super) fn cost(&self) -> Vec<BpfCost> {
        self.running.as_ref().map(|running| running.stacks.cost()).unwrap_or_default()
    }
}

/// One of how many times off a CPU is taken.
fn one_in(switches: f64) -> u32 {
    (switches / OFF_PER_SECOND).ceil().clamp(1.0, 100_000.0) as u32
}

fn comm(tid: u32) -> Option<String> {
    let comm = std::fs::read_to_string(format!("/proc/{tid}/comm")).ok()?;
    Some(crate::text::showable(comm.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_stacks_a_second_are_taken_however_many_switches_there_are() {
        assert_eq!([0.0, 900.0, 1_001.0, 300_000.0].map(one_in), [1, 1, 2, 300]);
    }
}
