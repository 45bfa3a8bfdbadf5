//! Flame graphs beside a timeline, which leads from a span to the part of them that is of the span.

use super::{Caption, draw_timed, range};
use crate::{
    analyze::{FlameKind, FlameQuery, timed_flame},
    export::{Exporter, Subject},
    symbol::SymbolTable,
};
use serde::Serialize;
use std::{fmt::Write as _, io, path::Path};

/// A flame graph that can be asked for a part of it: its address may have a fragment
/// `#t=FROM-TO`, in nanoseconds since the start of the recording, and `&tid=`, `&pid=` with `&task=`, or
/// `&cpu=`.
#[derive(Clone, Copy, Debug)]
pub struct FlameGraph(pub(crate) FlameKind);

impl Exporter for FlameGraph {
    fn name(&self) -> &'static str {
        if self.0 == FlameKind::OnCpu { "flame" } else { "off-cpu" }
    }

    fn extension(&self) -> &'static str {
        if self.0 == FlameKind::OnCpu { "flame.svg" } else { "off-cpu.svg" }
    }

    fn about(&self) -> &'static str {
        if self.0 == FlameKind::OnCpu {
            "Where the time on a CPU went, as a flame graph"
        } else {
            "Where the time off a CPU went, as a flame graph"
        }
    }

    fn flame(&self) -> Option<FlameKind> {
        Some(self.0)
    }

    fn missing(&self, subject: &Subject<'_>) -> Option<String> {
        let stacks = &subject.model.stacks;
        let range = subject.from_ns..=subject.to_ns;
        let has_any = match self.0 {
            FlameKind::OnCpu => stacks.samples.iter().any(|sample| range.contains(&sample.time_ns)),
            _ => stacks
                .off_cpu
                .iter()
                .any(|off| off.start_ns < subject.to_ns && off.end_ns > subject.from_ns),
        };
        let (title, probe) = (self.0.title(), self.0.probes()[0]);
        (!has_any).then(|| format!("no {title} was recorded; the probe {probe} does"))
    }

    fn export(&self, subject: &Subject<'_>, out: &mut dyn io::Write) -> io::Result<()> {
        let query = FlameQuery {
            from_ns: subject.from_ns,
            to_ns: subject.to_ns.saturating_add(1),
            ..FlameQuery::new(self.0)
        };
        let none = SymbolTable::default();
        let symbols = subject.symbols.unwrap_or(&none);
        let (flame, timed) = timed_flame(subject.model, symbols, &query);
        let mut caption = Caption::of(&flame, &query, subject.model, subject.about);
        let others = subject.about.flames.iter().filter(|other| other.kind != self.0);
        caption.links =
            others.map(|other| (other.kind.title().to_owned(), other.address.clone())).collect();
        let embedded = range::embedded(subject, &flame, &timed)?;
        draw_timed(&flame, &caption, &embedded, out)
    }
}

/// Where a flame graph is that was made together with other pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlameLink {
    /// What it is of.
    pub kind: FlameKind,
    /// Its address, as it is in a link of a picture in the same folder.
    pub address: String,
}

impl FlameLink {
    /// The link to a file in the same folder.
    #[must_use]
    pub fn to_file(kind: FlameKind, path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default();
        let mut address = String::new();
        for byte in name.as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                    address.push(char::from(*byte));
                }
                // Writing to a string cannot fail.
                other => {
                    let _ = write!(address, "%{other:02X}");
                }
            }
        }
        Self { kind, address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_name_is_no_more_than_a_name_in_a_link() {
        let link = |path| FlameLink::to_file(FlameKind::OnCpu, Path::new(path)).address;
        assert_eq!(link("/tmp/a b/timeline.flame.svg"), "timeline.flame.svg");
        assert_eq!(link("x?#%&\"'<ä.svg"), "x%3F%23%25%26%22%27%3C%C3%A4.svg");
        assert_eq!(link("javascript:alert(1)"), "javascript%3Aalert%281%29");
    }
}
