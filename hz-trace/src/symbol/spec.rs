//! What a user asks for with `--uprobe`.

use std::fmt;
use std::str::FromStr;

/// Asks for the return too; the term of `perf probe`.
const RETURN: &str = "return";

/// `BINARY:SYMBOL`, a mark where a function is entered, or `BINARY:SYMBOL%return`, a span from
/// there to its return.
///
/// `BINARY` ends at the first colon; `\:` is a colon inside it. `SYMBOL` may have colons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UprobeSpec {
    /// A path, a program on `PATH`, or a library's name.
    pub binary: String,
    /// A function's name, or a glob (`*`, `?`) over names.
    pub symbol: String,
    /// Whether the return is asked for.
    pub wants_return: bool,
}

/// Why an argument is no [`UprobeSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// There is no colon.
    #[error("{spec:?} names no function; write BINARY:SYMBOL, as in libc.so.6:getaddrinfo")]
    NoSymbol {
        /// What was given.
        spec: String,
    },
    /// Not three parts.
    #[error(
        "{spec:?} names no probe; write BINARY:PROVIDER:NAME, as in libstdc++.so.6:libstdcxx:throw"
    )]
    NoUsdt {
        /// What was given.
        spec: String,
    },
    /// Nothing before the colon, or nothing after it.
    #[error("{spec:?} has an empty {part}; write BINARY:SYMBOL or BINARY:SYMBOL%return")]
    Empty {
        /// What was given.
        spec: String,
        /// What is missing.
        part: &'static str,
    },
    /// Something other than `return` after the percent sign.
    #[error("{spec:?} ends in %{suffix}; only %return is known")]
    UnknownSuffix {
        /// What was given.
        spec: String,
        /// What follows the percent sign.
        suffix: String,
    },
}

impl FromStr for UprobeSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let owned = || spec.to_owned();
        let colon = first_colon(spec).ok_or_else(|| SpecError::NoSymbol { spec: owned() })?;
        let binary = spec[..colon].replace("\\:", ":");
        let rest = &spec[colon + 1..];
        let (symbol, wants_return) = match rest.rsplit_once('%') {
            None => (rest, false),
            Some((symbol, RETURN)) => (symbol, true),
            Some((_, suffix)) => {
                return Err(SpecError::UnknownSuffix { spec: owned(), suffix: suffix.to_owned() });
            }
        };
        let parts = [("BINARY", binary.as_str()), ("SYMBOL", symbol)];
        match parts.iter().find(|(_, text)| text.trim().is_empty()) {
            Some((part, _)) => Err(SpecError::Empty { spec: owned(), part }),
            None => Ok(Self { binary, symbol: symbol.to_owned(), wants_return }),
        }
    }
}

impl fmt::Display for UprobeSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.wants_return { "%return" } else { "" };
        write!(formatter, "{}:{}{suffix}", self.binary.replace(':', "\\:"), self.symbol)
    }
}

/// The first colon that no backslash precedes.
pub(super) fn first_colon(spec: &str) -> Option<usize> {
    let mut colons = spec.match_indices(':').map(|(at, _)| at);
    colons.find(|at| !spec[..*at].ends_with('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mark_and_a_span() {
        let mark: UprobeSpec = "./app:shop::cart::add".parse().unwrap();
        assert_eq!((&*mark.binary, &*mark.symbol), ("./app", "shop::cart::add"));
        assert!(!mark.wants_return);
        let span: UprobeSpec =
            r"/opt/a\:b/app:std::vector<int*>::push_back%return".parse().unwrap();
        assert_eq!(
            (&*span.binary, &*span.symbol),
            ("/opt/a:b/app", "std::vector<int*>::push_back")
        );
        assert!(span.wants_return);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (spec, said) in [
            (
                "main",
                "\"main\" names no function; write BINARY:SYMBOL, as in libc.so.6:getaddrinfo",
            ),
            (":main", "\":main\" has an empty BINARY; write BINARY:SYMBOL or BINARY:SYMBOL%return"),
            ("app:", "\"app:\" has an empty SYMBOL; write BINARY:SYMBOL or BINARY:SYMBOL%return"),
            (
                "app:%return",
                "\"app:%return\" has an empty SYMBOL; write BINARY:SYMBOL or BINARY:SYMBOL%return",
            ),
            ("app:f%ret", "\"app:f%ret\" ends in %ret; only %return is known"),
        ] {
            assert_eq!(spec.parse::<UprobeSpec>().unwrap_err().to_string(), said);
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in ".*") {
            let _ = text.parse::<UprobeSpec>();
        }

        #[test]
        fn a_spec_is_printed_as_it_is_read(binary in "[a-z/.:]{1,9}", symbol in "[a-z:*<>]{1,9}", wants_return: bool) {
            let spec = UprobeSpec { binary, symbol, wants_return };
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }
}
