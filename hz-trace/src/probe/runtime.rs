//! Probe `runtime`: the shared rings of async runtimes.

use super::Probe;
use hz_probes_ebpf::Kind;
use std::sync::LazyLock;

/// The tasks of `hz-runtime`, and of whatever else emits its probes.
pub(super) struct Runtime;

/// What rings carry, and what the reader adds.
static EMITS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let kinds = Kind::TaskSpawn as u16..=Kind::RuntimeLost as u16;
    Kind::ALL.iter().copied().filter(|kind| kinds.contains(&(*kind as u16))).collect()
});

impl Probe for Runtime {
    fn name(&self) -> &'static str {
        "runtime"
    }

    fn about(&self) -> &'static str {
        "Tasks of async runtimes: spawns, wake-ups, polls, what they wait for"
    }

    fn language(&self) -> &'static str {
        "Rust, shared memory"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["shared ring"]
    }

    fn places(&self) -> &'static [&'static str] {
        &["/proc/PID/fd: memfd:hz_runtime"]
    }

    fn emits(&self) -> &'static [Kind] {
        &EMITS
    }

    fn is_usual(&self) -> bool {
        true
    }

    fn cost(&self) -> &'static str {
        "a store into shared memory and a reading of the clock an event, in the process itself"
    }
}
