//! What the environment asks of the probes.

use super::kinds;
use std::sync::OnceLock;

/// Kinds that are on when `HZ_FLIGHT` does not say: those that a loop of spawns, yields or wake-ups
/// does not emit, so that nobody pays for them there. `docs/probes/runtime.md` has the figures.
const DEFAULT_FLIGHT: &str = "steal,park,unpark,timer_fired,blocking_queued,blocking_begin,\
    blocking_end,request_begin,request_end,span_begin,span_end,mark";

/// The variables `HZ_*` as they were when first asked for.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) ring_slots: Option<usize>,
    pub(super) directory_slots: Option<usize>,
    pub(super) flight_kinds: u64,
    /// What could not be understood, in a sentence each.
    pub(super) warnings: Vec<String>,
}

impl Settings {
    pub(super) fn get() -> &'static Self {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        SETTINGS.get_or_init(|| Self::read(|name| std::env::var(name).ok()))
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut warnings = Vec::new();
        let mut number = |name: &str| {
            let text = variable(name)?;
            let parsed = text.trim().parse().ok().filter(|count| *count > 0);
            if parsed.is_none() {
                warnings
                    .push(format!("{name}={text} is not a number above 0; the default is used"));
            }
            parsed
        };
        let ring_slots = number("HZ_RING_SLOTS");
        let directory_slots = number("HZ_TASK_DIRECTORY_SLOTS");
        let flight = variable("HZ_FLIGHT").unwrap_or_else(|| DEFAULT_FLIGHT.to_owned());
        let (flight_kinds, unknown) = kinds::parse(&flight);
        warnings.extend(unknown.iter().map(|tag| format!("HZ_FLIGHT: {tag} is not a kind")));
        Self { ring_slots, directory_slots, flight_kinds, warnings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::Kind;

    #[test]
    fn the_default_is_made_of_kinds() {
        let settings = Settings::read(|_| None);
        assert_eq!(settings.flight_kinds.count_ones(), 12);
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    }

    #[test]
    fn what_is_not_understood_is_said_and_the_default_taken() {
        let settings = Settings::read(|name| match name {
            "HZ_RING_SLOTS" => Some("many".to_owned()),
            "HZ_TASK_DIRECTORY_SLOTS" => Some("128".to_owned()),
            _ => Some("park,lark".to_owned()),
        });
        assert_eq!((settings.ring_slots, settings.directory_slots), (None, Some(128)));
        assert_eq!(settings.flight_kinds, Kind::Park.runtime_bit());
        assert_eq!(
            settings.warnings,
            [
                "HZ_RING_SLOTS=many is not a number above 0; the default is used",
                "HZ_FLIGHT: lark is not a kind",
            ]
        );
    }
}
