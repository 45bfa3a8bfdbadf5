//! What to record: options that `hz-trace` and `hz-trace record` share.

use clap::Args;

use hz_trace::{
    probe::{Selection, SelectionError},
    session::{ALLOC_MEAN_MAX, DEFAULT_RING_BYTES, DEFAULT_SAMPLE_HZ, Settings, TargetSpec},
    source::SampleBy,
    symbol::{UprobeSpec, UsdtSpec},
};
use std::{path::PathBuf, time::Duration};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TargetArgs {
    /// Record these processes, all their threads and their children
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = pid, conflicts_with_all = ["cgroup", "all", "command"])]
    pid: Vec<u32>,
    /// Record a cgroup v2 and all below it, by its directory
    #[arg(long, value_name = "PATH", conflicts_with_all = ["all", "command"])]
    cgroup: Option<PathBuf>,
    /// Record the whole system [default without a target]
    #[arg(short, long, conflicts_with = "command")]
    all: bool,
    /// Leave out processes that the target starts
    #[arg(long)]
    no_children: bool,
    /// Probes to run, separated by commas; `hz-trace probes` lists them [default: sched,runtime]
    #[arg(long, value_name = "PROBES", value_parser = selection)]
    probes: Option<Selection>,
    /// Observe a function in user space: a mark where it is entered or, with %return, a span until
    /// it returns; repeatable. SYMBOL may be a glob
    #[arg(long = "uprobe", value_name = "BINARY:SYMBOL[%return]")]
    uprobes: Vec<UprobeSpec>,
    /// Observe a statically defined probe: a mark wherever a program passes it; repeatable. NAME may
    /// be a glob; `hz-trace probes --usdt BINARY` lists them
    #[arg(long = "usdt", value_name = "BINARY:PROVIDER:NAME")]
    usdts: Vec<UsdtSpec>,
    /// With the probe oncpu: samples a second on each CPU
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000), default_value_t = DEFAULT_SAMPLE_HZ)]
    sample_hz: u32,
    /// With the probe oncpu: sample by cycles, not by time; a host without a counter of them says so
    #[arg(long)]
    cycles: bool,
    /// Sample what the target allocates, whatever its allocator: the probe alloc
    #[arg(long)]
    alloc: bool,
    /// With the probe alloc: bytes between two samples in the mean, e.g. 64k
    #[arg(long, value_name = "SIZE", value_parser = alloc_mean, default_value = "512k")]
    alloc_sample: u64,
    /// With the probe offcpu: leave out shorter times off a CPU, e.g. 1ms. Saves records, not the
    /// taking of stacks
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0")]
    off_min: Duration,
    /// With the probe offcpu: record one of so many times off a CPU, which bounds its cost
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 1)]
    off_one_in: u32,
    /// With the probe net: how often to look at the queues of sockets;
    /// looks take at most a hundredth of a CPU, and become rarer instead
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "100ms")]
    queues_every: Duration,
    /// With the probe sockets, which net implies: how often to ask the kernel for sockets, ports and
    /// counters; that takes at most a fiftieth of a CPU
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s")]
    sockets_every: Duration,
    /// Follow frame pointers only, as if files said nothing of how to leave their functions
    #[arg(long)]
    frame_pointers: bool,
    /// Stop after this long, e.g. 10, 500ms, 2m [default: until Ctrl-C or the target ends]
    #[arg(short, long, value_name = "SECONDS", value_parser = recording_duration)]
    duration: Option<Duration>,
    /// Memory of all kernel rings together, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u16).range(1..=4096), default_value_t = DEFAULT_RING_MIB)]
    ring_size: u16,
    /// Show what libbpf and the verifier say (-vv)
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Use plain raw tracepoints even where BTF tracepoints work
    #[arg(long, hide = true)]
    raw_tracepoints: bool,
    /// Let the kernel measure every run of hz's programs, not a tenth: exact, but dearer
    #[arg(long, hide = true)]
    measure_always: bool,
    /// Start this command and record it until it ends
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

const DEFAULT_RING_MIB: u16 = (DEFAULT_RING_BYTES >> 20) as u16;

impl TargetArgs {
    /// Whether allocations are to be sampled by probes.
    pub(crate) fn has_alloc(&self) -> bool {
        self.alloc || self.probes.as_ref().is_some_and(|probes| probes.has("alloc"))
    }

    pub(crate) fn settings(self) -> Settings {
        self.settings_with(Selection::usual())
    }

    /// With `usual` probes, if nothing is said about probes.
    pub(crate) fn settings_with(self, usual: Selection) -> Settings {
        let target = if !self.command.is_empty() {
            TargetSpec::Command(self.command)
        } else if let Some(path) = self.cgroup {
            TargetSpec::Cgroup(path)
        } else if !self.pid.is_empty() {
            TargetSpec::Pids(self.pid)
        } else {
            TargetSpec::WholeSystem
        };
        let probes = self.probes.unwrap_or(usual);
        Settings {
            follow_children: !self.no_children,
            probes: if self.alloc { probes.with_alloc() } else { probes },
            alloc_mean_bytes: self.alloc_sample,
            uprobes: self.uprobes,
            usdts: self.usdts,
            sample_hz: self.sample_hz,
            sample_by: if self.cycles { SampleBy::Cycles } else { SampleBy::Clock },
            off_min: self.off_min,
            off_one_in: self.off_one_in,
            queues_every: self.queues_every,
            sockets_every: self.sockets_every,
            has_rows: !self.frame_pointers,
            duration: self.duration,
            ring_bytes: usize::from(self.ring_size) << 20,
            is_verbose: self.verbose > 1,
            prefer_raw: self.raw_tracepoints,
            always_measure: self.measure_always,
            ..Settings::new(target)
        }
    }
}

/// Names of probes.
fn selection(text: &str) -> Result<Selection, SelectionError> {
    text.split(',').map(str::trim).try_fold(Selection::none(), Selection::with)
}

/// A process id.
pub(crate) fn pid(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no process id; `pgrep -x NAME` finds one"))
}

/// A size as people write it: `4096`, `64k`, `1M`; what `alloc` can sample by.
fn alloc_mean(text: &str) -> Result<u64, String> {
    let digits = text.find(|each: char| !each.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        _ => return Err(format!("`{text}` is no size; write it like 4096, 64k or 1M")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size"))?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| (1..=ALLOC_MEAN_MAX).contains(bytes));
    bytes.ok_or_else(|| format!("{text} is not between 1 and 64M"))
}

/// How long to record: longer than nothing.
fn recording_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("nothing happens in no time".to_owned()) } else { Ok(duration) }
}

/// How often something is done: not all the time.
fn interval(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(1);
    let interval = duration(text)?;
    if interval < least { Err("1ms is the least".to_owned()) } else { Ok(interval) }
}

/// A duration as people write it: `10`, `1.5s`, `500ms`, `250us`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write it like 10, 1.5s, 500ms, 250us or 2m");
    let digits =
        text.find(|each: char| !each.is_ascii_digit() && each != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1e3,
        "us" | "µs" => number / 1e6,
        "ns" => number / 1e9,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("1", 1), ("4096", 4096), ("64k", 65_536), ("1M", 1 << 20), ("2MiB", 2 << 20)]
        {
            assert_eq!(alloc_mean(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "k", "65M", "1x", "-1", "99999999999999999999"] {
            assert!(alloc_mean(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [("10", 10_000), ("1.5s", 1_500), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "1e9", "ten", "1.2.3"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
