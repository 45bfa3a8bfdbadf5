//! Names of futures: as the compiler tells them to a program (`type_name`), and as debug information
//! has them.
//!
//! `api::serve<T>::{{closure}}` is `{async_fn_env#0}<T>` in the namespaces `api` and `serve`;
//! `<api::Server as api::Service>::call::{{closure}}` is `{async_fn_env#0}` in `api`, `{impl#3}` and
//! `call`.

/// What ends a name that was cut.
const CUT: char = '…';

/// A name's parts, without what is generic. Parts that the compiler made up are `{}`, one that is a
/// type with the trait it is for is `<>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    parts: Vec<String>,
    /// What was generic, in order.
    generics: String,
    is_cut: bool,
}

impl Told {
    /// Takes a `type_name` apart.
    pub(super) fn of(name: &str) -> Self {
        let is_cut = name.ends_with(CUT);
        let (mut parts, generics) = parts(name.trim_end_matches(CUT));
        if is_cut {
            parts.pop();
        }
        let parts = parts.into_iter().map(|part| simple(&part)).collect();
        Self { parts, generics, is_cut }
    }

    /// Whether the type of this `path` of namespaces and name may be meant.
    pub(super) fn fits(&self, path: &[String]) -> bool {
        let mut path: Vec<String> = path.iter().map(|part| simple(&bare(part))).collect();
        if self.is_cut {
            path.truncate(self.parts.len());
        }
        let mut theirs = path.iter().rev();
        for own in self.parts.iter().rev() {
            match theirs.next() {
                // What a type is called stands nowhere in the path of what is implemented for it.
                Some(their) if their == "{impl}" => return true,
                Some(their) if their == own => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether what is generic in `path` is what this name has.
    pub(super) fn has_generics_of(&self, path: &[String]) -> bool {
        let generics: String = path.iter().map(|part| parts(part).1).collect();
        self.generics == generics
    }
}

/// A part with what the compiler made up left out.
fn simple(part: &str) -> String {
    if part.starts_with("{impl#") {
        return "{impl}".to_owned();
    }
    if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() }
}

/// A part without what is generic.
pub(super) fn bare(part: &str) -> String {
    parts(part).0.pop().unwrap_or_default()
}

/// The parts of a name between `::`, and what was generic in them.
fn parts(name: &str) -> (Vec<String>, String) {
    let (mut parts, mut generics) = (vec![String::new()], String::new());
    let (mut depth, mut before) = (0_u32, ' ');
    for each in name.chars() {
        match each {
            '<' | '(' | '[' => {
                let is_first = depth == 0 && parts.last().is_some_and(String::is_empty);
                depth += 1;
                if is_first && each == '<' && parts.len() == 1 {
                    parts[0].push_str("<>");
                }
            }
            // Not the arrow of a function's type.
            '>' | ')' | ']' if before != '-' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && before == ':' => parts.push(String::new()),
            ':' if depth == 0 => {}
            each if depth == 0 => {
                if let Some(last) = parts.last_mut() {
                    last.push(each);
                }
            }
            _ => {}
        }
        if depth > 0 && !(depth == 1 && matches!(each, '<' | '(' | '[')) {
            generics.push(each);
        }
        before = each;
    }
    (parts, generics)
}

/// How a future is called, by the path of its type.
pub(super) fn readable(path: &[String]) -> String {
    let Some((last, spaces)) = path.split_last() else { return String::new() };
    let mut words: Vec<String> = spaces.iter().filter_map(|part| space(part)).collect();
    let (made, generics) = match last.find('}') {
        Some(end) if last.starts_with('{') => (&last[1..end], &last[end + 1..]),
        _ => ("", ""),
    };
    let number = made.rsplit_once('#').map_or("0", |(_, number)| number);
    if made.starts_with("async_fn") {
        let function = words.pop().unwrap_or_default();
        words.push(format!("{function}{generics}"));
    } else if made.starts_with("async_block") {
        words.push(format!("{{async block#{number}}}"));
    } else if made.is_empty() {
        words.push(last.clone());
    } else {
        words.push(format!("{{{}}}", made.replace("_env", "").replace('_', " ")));
    }
    words.join("::")
}

/// A namespace, as a reader knows it.
fn space(part: &str) -> Option<String> {
    if part.starts_with("{async_fn#") {
        return None;
    }
    Some(if part.starts_with('{') { part.replace('_', " ") } else { part.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn names_of_the_program_fit_those_of_its_debug_information() {
        let fits = |told: &str, parts: &[&str]| Told::of(told).fits(&path(parts));
        assert!(fits("api::serve::{{closure}}", &["api", "serve", "{async_fn_env#0}"]));
        assert!(fits(
            "api::main::{{closure}}::{{closure}}",
            &["api", "main", "{async_fn#0}", "{async_block_env#1}"]
        ));
        assert!(fits(
            "api::one<alloc::string::String>::{{closure}}",
            &["api", "one", "{async_fn_env#0}<alloc::string::String>"]
        ));
        assert!(fits(
            "api::Server::run::{{closure}}",
            &["api", "server", "{impl#2}", "run", "{async_fn_env#0}"]
        ));
        assert!(fits(
            "<api::Server as api::Service<fn() -> u8>>::call::{{closure}}",
            &["api", "{impl#0}", "call", "{async_fn_env#0}"]
        ));
        assert!(fits(
            "api::Or<api::a::{{closure}}, u8>",
            &["api", "Or<api::a::{async_fn_env#0}, u8>"]
        ));
        assert!(!fits("api::serve::{{closure}}", &["api", "other", "{async_fn_env#0}"]));
        assert!(!fits("serve::{{closure}}", &["api", "serve", "{async_fn_env#0}"]));
        assert!(!fits("api::serve", &["api", "serve", "{async_fn_env#0}"]));
    }

    #[test]
    fn a_name_that_was_cut_fits_what_begins_like_it() {
        let told = Told::of("api::a_long_module::ser…");
        assert!(told.fits(&path(&["api", "a_long_module", "serve", "{async_fn_env#0}"])));
        assert!(!told.fits(&path(&["api", "another", "serve", "{async_fn_env#0}"])));
        let told = Told::of("api::one<alloc::vec::Ve…");
        assert!(told.fits(&path(&["api", "one", "{async_fn_env#0}<u8>"])), "{told:?}");
    }

    #[test]
    fn what_is_generic_tells_two_of_one_name_apart() {
        let told = Told::of("api::one<alloc::string::String>::{{closure}}");
        assert!(told.has_generics_of(&path(&[
            "api",
            "one",
            "{async_fn_env#0}<alloc::string::String>"
        ])));
        assert!(!told.has_generics_of(&path(&["api", "one", "{async_fn_env#0}<u8>"])));
    }

    #[test]
    fn futures_are_called_as_their_source_has_them() {
        let readable = |parts: &[&str]| readable(&path(parts));
        assert_eq!(readable(&["api", "serve", "{async_fn_env#0}"]), "api::serve");
        assert_eq!(readable(&["api", "one", "{async_fn_env#0}<u8>"]), "api::one<u8>");
        assert_eq!(
            readable(&["api", "main", "{async_fn#0}", "{async_block_env#1}"]),
            "api::main::{async block#1}"
        );
        assert_eq!(readable(&["hz_runtime", "Sleep"]), "hz_runtime::Sleep");
        assert_eq!(readable(&["api", "{impl#0}", "run", "{async_fn_env#0}"]), "api::{impl#0}::run");
    }
}
