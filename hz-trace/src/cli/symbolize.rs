//! `hz-trace symbolize`, and the names of functions after a recording.

use super::{progress, say};
use anyhow::{Context as _, Result};
use clap::Args;
use hz_trace::{
    host::{self, clock},
    model::Stacks,
    recording::{Meta, Recording, add_symbols},
    replay::replay_stacks,
    symbol::{SymbolSettings, SymbolTable, symbolize},
    text,
};
use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::ExitCode,
};

const EXAMPLES: &str = "\
Examples:
  hz-trace symbolize app.hzt                     names for what has none yet, from this machine's files
  hz-trace symbolize app.hzt --debug-dir ./debug from separate debug files: debug/.build-id/ab/cdef.debug,
                                                 or the programs themselves: debug/NAME

A recording has names already, as far as they could be found where it was made; addresses are kept, so
that they can be added later, on another machine too.";

/// How far apart two readings of when a host booted may be: its clock is set now and then.
const BOOT_NS: u64 = 30_000_000_000;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SymbolizeArgs {
    /// The recording
    file: PathBuf,
    /// Look for debug information here first; repeatable
    #[arg(long = "debug-dir", value_name = "DIR")]
    debug_dirs: Vec<PathBuf>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

impl SymbolizeArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let found = add(&self.file, &self.debug_dirs, self.quiet)?;
        if !self.quiet {
            let known = text::count(found.named as u64);
            let addresses = text::plural(found.places as u64, "address");
            say(format_args!("{}: {known} of {addresses} have names", self.file.display()));
            found.problems.iter().for_each(|problem| say(format_args!("{problem}")));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What has names in a recording.
#[derive(Debug, Default)]
pub(crate) struct Found {
    places: usize,
    named: usize,
    problems: Vec<String>,
}

/// Finds names for a recording's addresses and adds them to it.
pub(crate) fn add(path: &Path, debug_dirs: &[PathBuf], is_quiet: bool) -> Result<Found> {
    let recording = Recording::open(path)?;
    let stacks = replay_stacks(&recording);
    if stacks.stacks.is_empty() {
        return Ok(Found::default());
    }
    let known = recording.symbols();
    let settings = SymbolSettings {
        debug_dirs: debug_dirs.to_vec(),
        is_same_boot: is_same_boot(&recording.meta),
    };
    let bar = progress::Bar::new("symbols", is_quiet);
    let new = symbolize(&stacks, &known, &settings, &mut |done, total| bar.show(done, total));
    drop(bar);
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| add_symbols(&recording, &file, &new))
        .with_context(|| format!("cannot add symbols to {}", path.display()))?;
    let mut all = known;
    new.chunks().for_each(|chunk| all.add(&chunk));
    Ok(found(&stacks, &all))
}

fn found(stacks: &Stacks, symbols: &SymbolTable) -> Found {
    let places = stacks.distinct_places();
    let named = places.iter().filter(|place| symbols.functions(**place).is_some()).count();
    let notes = symbols.notes().filter(|(_, note)| !note.reason.is_empty());
    let problems = notes.map(|(_, note)| format!("no names of {}: {}", note.path, note.reason));
    Found { places: places.len(), named, problems: problems.collect() }
}

/// Whether this is the host that was recorded, and it has not been started again since: the kernel's
/// functions are elsewhere each time.
fn is_same_boot(meta: &Meta) -> bool {
    let then = meta.start_realtime_ns.saturating_sub(meta.start_ns);
    let now = clock::realtime_ns().saturating_sub(clock::monotonic_ns());
    meta.host == host::name()
        && meta.kernel == host::kernel_release()
        && then.abs_diff(now) < BOOT_NS
}
