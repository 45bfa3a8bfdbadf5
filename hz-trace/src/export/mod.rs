//! Writes what happened in some format: one file or folder per format, one trait.

mod charts;
mod flame;
pub mod svg;

pub use charts::Charts;
pub use flame::{Caption, FlameGraph, FlameLink, amount, draw_diff, draw_flame};
pub(crate) use svg::safe_json;

use crate::{analyze::FlameKind, model::Model, symbol::SymbolTable};
use std::io;

/// What an exporter is given.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What happened.
    pub model: &'a Model,
    /// What the reader should know beside it.
    pub about: &'a About,
    /// Names of functions, for what shows stacks.
    pub symbols: Option<&'a SymbolTable>,
    /// Start of the part to export, nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// End of the part to export, nanoseconds of `CLOCK_MONOTONIC`.
    pub to_ns: u64,
}

impl<'a> Subject<'a> {
    /// The whole recording.
    #[must_use]
    pub const fn new(model: &'a Model, about: &'a About) -> Self {
        Self { model, about, symbols: None, from_ns: model.start_ns, to_ns: model.end_ns }
    }

    /// With names of functions.
    #[must_use]
    pub const fn named_by(self, symbols: &'a SymbolTable) -> Self {
        Self { symbols: Some(symbols), ..self }
    }

    /// The part `[from_ns, to_ns)` of it, nanoseconds since the start of the recording, cut to
    /// what was recorded.
    #[must_use]
    pub fn part(self, from_ns: u64, to_ns: u64) -> Self {
        let start_ns = self.model.start_ns;
        let clock = |since_ns: u64| start_ns.saturating_add(since_ns).clamp(start_ns, self.to_ns);
        Self { from_ns: clock(from_ns), to_ns: clock(to_ns.max(from_ns)), ..self }
    }

    /// Length of the part in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// What a reader should know that is not in the model.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The heading, a program's name for instance.
    pub title: String,
    /// What was recorded: `pid 4711`, `whole system`.
    pub target: String,
    /// The host's name.
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
    /// How long was recorded, in nanoseconds; 0 if that is what the model spans.
    pub recorded_ns: u64,
    /// Names of the user probes, by the index that [`crate::model::Call::probe`] uses.
    pub probes: Vec<String>,
    /// Records lost in the whole recording, wherever that happened.
    pub lost: u64,
    /// What could not be collected, and why, a sentence each.
    pub not_collected: Vec<String>,
    /// Flame graphs that are made in the same folder.
    pub flames: Vec<FlameLink>,
    /// CPU time that hz itself took, in percent of one CPU.
    pub own_cpu_pct: Option<f64>,
    /// Memory that hz itself took at most.
    pub own_memory_bytes: Option<u64>,
}

/// A format that a recording can be written in.
pub trait Exporter: Sync {
    /// The format's name on the command line.
    fn name(&self) -> &'static str;

    /// The extension of its files, without a dot before it.
    fn extension(&self) -> &'static str {
        self.name()
    }

    /// What it is, a phrase.
    fn about(&self) -> &'static str;

    /// What a flame graph is of, if it is one.
    fn flame(&self) -> Option<FlameKind> {
        None
    }

    /// Why there is nothing to write, and what to do.
    fn missing(&self, _subject: &Subject<'_>) -> Option<String> {
        None
    }

    /// Writes `subject` to `out`.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    fn export(&self, subject: &Subject<'_>, out: &mut dyn io::Write) -> io::Result<()>;
}

/// Every format. The order is the order of the command's help.
pub static EXPORTERS: &[&dyn Exporter] =
    &[&svg::Svg, &Charts, &FlameGraph(FlameKind::OnCpu), &FlameGraph(FlameKind::OffCpu)];
