//! Probes `oncpu`, `offcpu` and `alloc`.

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
        "about 1.6 % of a busy CPU at 99 samples a second"
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
        "about 3.3 µs each time a thread leaves its CPU, and as much each time one is woken"
    }
}

/// What any program allocates.
pub(super) struct Alloc;

impl Probe for Alloc {
    fn name(&self) -> &'static str {
        "alloc"
    }

    fn about(&self) -> &'static str {
        "Sampled allocations of any program and their frees, with stacks"
    }

    fn language(&self) -> &'static str {
        "Rust, aya"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["uprobe_session", "uprobe_multi", "uprobe"]
    }

    fn places(&self) -> &'static [&'static str] {
        &["malloc, calloc, realloc, free … of libc, jemalloc, mimalloc"]
    }

    fn emits(&self) -> &'static [Kind] {
        &[Kind::HeapAlloc, Kind::HeapFree]
    }

    fn cost(&self) -> &'static str {
        "about 0.7 µs each call of the allocator; each recording says what it was"
    }
}
