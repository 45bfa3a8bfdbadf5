use super::{Finding, Recent, Warning};
use hz_trace::text;

/// Percent of a CPU's time that is remarkable.
const SHARE_PCT: u64 = 5;

/// The hypervisor gives CPUs to somebody else.
pub(super) struct Steal;

impl Warning for Steal {
    fn name(&self) -> &'static str {
        "steal"
    }

    fn about(&self) -> &'static str {
        "the hypervisor takes CPU time"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let window = recent.window;
        let (stolen_ns, all_ns) = window
            .cpus
            .iter()
            .fold((0, 0), |(stolen, all), cpu| (stolen + cpu.steal_ns, all + window.length_ns()));
        if all_ns == 0 || stolen_ns * 100 < all_ns * SHARE_PCT {
            return Vec::new();
        }
        let share = text::share(stolen_ns, all_ns);
        vec![Finding {
            warning: self.name(),
            weight: stolen_ns,
            sentence: format!(
                "the hypervisor took {share} of the CPUs: whatever runs here is slower"
            ),
            evidence: vec![format!("{} of steal in /proc/stat", text::duration(stolen_ns))],
        }]
    }
}
