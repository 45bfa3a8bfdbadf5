//! Which scheduler a runtime gets, if its builder does not say.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

const MODE: &str = "HZ_SCHEDULER_MODE";
const SEED: &str = "HZ_SEED";

/// A way to run tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Threads,
    Deterministic { seed: u64 },
}

/// A variable of the environment says what no scheduler understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value} is not {expected}")]
pub(crate) struct ModeError {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) expected: &'static str,
}

impl Mode {
    /// What `HZ_SCHEDULER_MODE` and `HZ_SEED` say.
    pub(crate) fn from_environment() -> Result<Self, ModeError> {
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::parse(variable(MODE).as_deref(), variable(SEED))
    }

    fn parse(mode: Option<&str>, seed: Option<String>) -> Result<Self, ModeError> {
        match mode {
            None | Some("threads" | "") => Ok(Self::Threads),
            Some("deterministic") => {
                let seed = seed.map(parse_seed).transpose()?.unwrap_or_else(any_seed);
                Ok(Self::Deterministic { seed })
            }
            Some(value) => {
                let (value, expected) = (value.to_owned(), "threads or deterministic");
                Err(ModeError { name: MODE, value, expected })
            }
        }
    }
}

fn parse_seed(value: String) -> Result<u64, ModeError> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| ModeError { name: SEED, value, expected: "a number of up to 64 bits" })
}

/// A seed that differs from run to run; a failure prints it.
fn any_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() ^ u64::from(since.subsec_nanos()) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mode: &str, seed: &str) -> Result<Mode, String> {
        Mode::parse(Some(mode), Some(seed.into())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_chooses_the_scheduler_and_the_seed() {
        assert_eq!(Mode::parse(None, Some("7".into())), Ok(Mode::Threads));
        assert_eq!(parse("threads", "7"), Ok(Mode::Threads));
        assert_eq!(parse("deterministic", "7"), Ok(Mode::Deterministic { seed: 7 }));
        assert_eq!(parse("deterministic", "0xff"), Ok(Mode::Deterministic { seed: 255 }));
    }

    #[test]
    fn what_it_does_not_understand_it_names() {
        let error = "HZ_SCHEDULER_MODE=fifo is not threads or deterministic";
        assert_eq!(parse("fifo", "7"), Err(error.to_owned()));
        let error = "HZ_SEED=many is not a number of up to 64 bits";
        assert_eq!(parse("deterministic", "many"), Err(error.to_owned()));
    }
}
