//! Kernel probes `oncpu` and `offcpu`.

use super::Probe;
use hz_probes_ebpf::Kind;

/// What threads do while they have a CPU.
pub(super) struct OnCpu;

impl Probe for OnCpu {
    fn name(&self) -> &'static str {
        "oncpu"
    }

    fn about(&self) -> &'static str {
        "Stacks of threads that run, sampled many times a second"
    }

    fn language(&self) -> &'static str {
        "Rust, aya"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["perf_event"]
    }

    fn places(&self) -> &'static [&'static str] {
        &["cpu-clock"]
    }

    // With `offcpu` alone, stacks and mappings come from there.
    fn emits(&self) -> &'static [Kind] {
        &[Kind::CpuSample, Kind::StackTrace, Kind::Mapping, Kind::MappedFile]
    }

    fn cost(&self) -> &'static str {
        "not measured yet"
    }
}

/// What threads wait for while they have none.
pub(super) struct OffCpu;

impl Probe for OffCpu {
    fn name(&self) -> &'static str {
        "offcpu"
    }

    fn about(&self) -> &'static str {
        "Stacks of threads that left their CPU, for how long, and who woke them"
    }

    fn language(&self) -> &'static str {
        "Rust, aya"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["tp_btf"]
    }

    fn places(&self) -> &'static [&'static str] {
        &["sched_switch", "sched_waking"]
    }

    fn emits(&self) -> &'static [Kind] {
        &[Kind::OffCpu]
    }

    fn cost(&self) -> &'static str {
        "not measured yet"
    }
}
