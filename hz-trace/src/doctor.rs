//! What works on this host, found by trying.

use crate::{
    error::StartError,
    host::{self, Capability, KernelTypes, Namespace},
    session::DEFAULT_RING_BYTES,
    source::{
        Sched, SchedSettings, Scope, UprobeError, Uprobes, Usdt, pass_own_probe, runtimes,
        try_to_share,
    },
    symbol::{Site, UprobeSpec, UsdtProbe, UsdtSpec},
};
use serde::Serialize;
use std::fs;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// What the host is and permits.
    pub host: Vec<Fact>,
    /// What each probe can do here.
    pub probes: Vec<ProbeFinding>,
}

impl Findings {
    /// Whether every probe works.
    #[must_use]
    pub fn all_work(&self) -> bool {
        self.probes.iter().all(|probe| probe.hook.is_some())
    }
}

/// One thing about the host.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// What it is about.
    pub name: &'static str,
    /// What was found.
    pub value: String,
    /// What follows for hz, if it is not as it should be.
    pub remark: Option<String>,
}

/// What a probe can do here.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeFinding {
    /// The probe.
    pub probe: &'static str,
    /// The hook it gets; `None` if it cannot run.
    pub hook: Option<&'static str>,
    /// Other hooks that would work too.
    pub fallbacks: Vec<&'static str>,
    /// What it cannot see here, which is then "not collected".
    pub not_collected: Vec<String>,
    /// Why it cannot run, and what would enable it.
    pub reason: Option<String>,
}

/// Looks at the host and tries every probe. Probes are attached for a moment.
#[must_use]
pub fn examine() -> Findings {
    Findings {
        host: host_facts(),
        probes: vec![try_sched(), try_uprobe(), try_usdt(), try_runtime()],
    }
}

fn host_facts() -> Vec<Fact> {
    vec![
        fact("kernel", host::kernel_release(), None),
        fact(
            "CPUs",
            format!("{} online, {} possible", host::online_cpus(), host::possible_cpus()),
            None,
        ),
        kernel_types(),
        capabilities(),
        paranoia(),
        lockdown(),
        namespaces(),
        tracefs(),
        cgroup(),
        run_time(),
        clocks(),
    ]
}

const fn fact(name: &'static str, value: String, remark: Option<String>) -> Fact {
    Fact { name, value, remark }
}

fn kernel_types() -> Fact {
    match KernelTypes::of_running_kernel() {
        Ok(_) => fact("kernel types (BTF)", "present".to_owned(), None),
        Err(error) => fact("kernel types (BTF)", "missing".to_owned(), Some(error.to_string())),
    }
}

fn capabilities() -> Fact {
    let (have, lack): (Vec<_>, Vec<_>) =
        Capability::ALL.into_iter().partition(|each| each.is_effective());
    let names =
        |list: Vec<Capability>| list.iter().map(|each| each.name()).collect::<Vec<_>>().join(" ");
    let remark = (!host::may_trace())
        .then(|| format!("lacks {}; run as root, or grant CAP_BPF and CAP_PERFMON", names(lack)));
    let value = if have.is_empty() { "none".to_owned() } else { names(have) };
    fact("capabilities", value, remark)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn paranoia() -> Fact {
    let level = read("/proc/sys/kernel/perf_event_paranoid");
    let is_strict =
        level.as_ref().and_then(|level| level.parse::<i32>().ok()).is_some_and(|level| level > 2);
    let remark = (is_strict && !host::may_trace()).then(|| {
        "perf events need CAP_PERFMON; hz's own CPU time is then read from its clock".to_owned()
    });
    fact("perf_event_paranoid", level.unwrap_or_else(|| "not there".to_owned()), remark)
}

fn lockdown() -> Fact {
    let text = read("/sys/kernel/security/lockdown");
    let is_confidential = text.as_ref().is_some_and(|text| text.contains("[confidentiality]"));
    let remark = is_confidential.then(|| {
        "programs may not read kernel memory: boot without lockdown=confidentiality".to_owned()
    });
    fact("lockdown", text.unwrap_or_else(|| "not there".to_owned()), remark)
}

fn namespaces() -> Fact {
    let own: Vec<&str> = [Namespace::Pid, Namespace::Cgroup]
        .into_iter()
        .filter(|namespace| !namespace.is_initial())
        .map(Namespace::name)
        .collect();
    if own.is_empty() {
        return fact("namespaces", "the host's own".to_owned(), None);
    }
    let remark = "targets can only be named on the host; the whole system can be recorded here";
    fact("namespaces", format!("not the host's: {}", own.join(", ")), Some(remark.to_owned()))
}

fn tracefs() -> Fact {
    let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo());
    let mounted = mounts
        .ok()
        .and_then(|mounts| mounts.0.into_iter().find(|mount| mount.fs_type == "tracefs"));
    let place = mounted.map(|mount| format!("mounted at {}", mount.mount_point.display()));
    fact("tracefs", place.unwrap_or_else(|| "not mounted; hz does not need it".to_owned()), None)
}

fn cgroup() -> Fact {
    let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo());
    let mounted = mounts
        .ok()
        .and_then(|mounts| mounts.0.into_iter().find(|mount| mount.fs_type == "cgroup2"));
    match mounted {
        Some(mount) => {
            fact("cgroup v2", format!("mounted at {}", mount.mount_point.display()), None)
        }
        None => fact(
            "cgroup v2",
            "not mounted".to_owned(),
            Some("--cgroup has nothing to name".to_owned()),
        ),
    }
}

fn run_time() -> Fact {
    let name = "BPF run time";
    if Capability::SysAdmin.is_effective() {
        return fact(name, "the kernel can be asked".to_owned(), None);
    }
    let remark = "asking needs CAP_SYS_ADMIN; summaries say \"not measured\"".to_owned();
    fact(name, "not collected".to_owned(), Some(remark))
}

fn clocks() -> Fact {
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let flags = read("/proc/cpuinfo").unwrap_or_default();
    let is_invariant = flags.contains("constant_tsc") && flags.contains("nonstop_tsc");
    let tsc = if is_invariant { "invariant TSC" } else { "no invariant TSC" };
    let hpet = if fs::exists("/dev/hpet").unwrap_or(false) { "/dev/hpet" } else { "no /dev/hpet" };
    let source = source.unwrap_or_else(|| "unknown".to_owned());
    fact("clocks", format!("records carry CLOCK_MONOTONIC ({source}); {tsc}; {hpet}"), None)
}

fn try_sched() -> ProbeFinding {
    let mut works = Vec::new();
    let mut not_collected = Vec::new();
    let mut reason = None;
    for prefer_raw in [false, true] {
        match try_sched_hook(prefer_raw) {
            Ok((hook, missing)) if !works.contains(&hook) => {
                works.push(hook);
                not_collected = missing;
            }
            Ok(_) => {}
            Err(error) => reason = reason.or(Some(with_cause(&error))),
        }
    }
    let mut works = works.into_iter();
    let hook = works.next();
    ProbeFinding {
        probe: "sched",
        hook,
        fallbacks: works.collect(),
        not_collected: not_collected
            .iter()
            .map(|name| format!("{name}: this kernel has no such tracepoint"))
            .collect(),
        reason: reason.filter(|_| hook.is_none()),
    }
}

/// Loads, attaches and reads a snapshot; the hook it got and the tracepoints that are missing.
fn try_sched_hook(prefer_raw: bool) -> Result<(&'static str, Vec<String>), StartError> {
    let mut sched = Sched::load(&SchedSettings {
        scope: Scope::Processes(vec![std::process::id()]),
        follow_children: false,
        has_switches: true,
        ring_bytes: DEFAULT_RING_BYTES / 8,
        is_verbose: false,
        prefer_raw,
    })?;
    sched.attach()?;
    sched.snapshot(false, |_| {})?;
    Ok((sched.hook(), sched.missing().to_vec()))
}

/// What [`try_uprobe`] probes and calls.
#[inline(never)]
fn probed(value: u64) -> u64 {
    std::hint::black_box(value) + 1
}

fn try_uprobe() -> ProbeFinding {
    let result = own_site().and_then(|sites| hits_of(&sites).map_err(|error| with_cause(&error)));
    let (hook, reason) = match result {
        Ok(2..) => (Some("uprobe"), None),
        Ok(hits) => {
            (None, Some(format!("a probe was attached and {hits} of 2 hits were recorded")))
        }
        Err(reason) => (None, Some(reason)),
    };
    ProbeFinding { probe: "uprobe", hook, fallbacks: Vec::new(), not_collected: Vec::new(), reason }
}

/// Where [`probed`] is in this very program.
fn own_site() -> Result<Vec<Site>, String> {
    let spec = UprobeSpec {
        binary: "/proc/self/exe".to_owned(),
        symbol: "hz_trace::doctor::probed".to_owned(),
        wants_return: true,
    };
    spec.resolve(&[std::process::id()], 1).map_err(|error| error.to_string())
}

/// Calls the probed function once and counts the records: its entry and its return.
fn hits_of(sites: &[Site]) -> Result<usize, UprobeError> {
    let scope = Scope::Processes(vec![std::process::id()]);
    let mut probes = Uprobes::attach(sites, &scope, false, None)?;
    std::hint::black_box(probed(1));
    probes.detach();
    Ok(probes.drain(&mut |_| {}))
}

fn try_usdt() -> ProbeFinding {
    let result = own_probe().and_then(|probes| passes_of(&probes));
    let (hook, reason) = match result {
        Ok(1) => (Some("uprobe with a semaphore"), None),
        Ok(hits) => {
            (None, Some(format!("a probe was attached and {hits} of 1 passes were recorded")))
        }
        Err(reason) => (None, Some(reason)),
    };
    ProbeFinding { probe: "usdt", hook, fallbacks: Vec::new(), not_collected: Vec::new(), reason }
}

/// The statically defined probe of this very program.
fn own_probe() -> Result<Vec<UsdtProbe>, String> {
    let spec = UsdtSpec {
        binary: "/proc/self/exe".to_owned(),
        provider: "hz_trace".to_owned(),
        name: "tried".to_owned(),
    };
    spec.resolve(&[std::process::id()], 1).map_err(|error| error.to_string())
}

/// Passes the probe once and counts the records.
fn passes_of(probes: &[UsdtProbe]) -> Result<usize, String> {
    let scope = Scope::Processes(vec![std::process::id()]);
    let mut usdt = Usdt::attach(probes, &scope, false).map_err(|error| with_cause(&error))?;
    if !pass_own_probe() {
        return Err("the kernel did not raise the probe's semaphore; Linux 4.20 does".to_owned());
    }
    usdt.detach();
    Ok(usdt.drain(&mut |_| {}))
}

/// Shares memory as a runtime does, and looks for that of all processes.
fn try_runtime() -> ProbeFinding {
    let shared = try_to_share();
    let (_, hidden) = runtimes();
    let remark = format!(
        "tasks of {hidden} processes that cannot be looked at; run as root or grant CAP_SYS_PTRACE"
    );
    ProbeFinding {
        probe: "runtime",
        hook: shared.is_ok().then_some("shared rings"),
        fallbacks: Vec::new(),
        not_collected: if hidden > 0 { vec![remark] } else { Vec::new() },
        reason: shared.err(),
    }
}

/// An error and what caused it, on one line.
fn with_cause(error: &dyn std::error::Error) -> String {
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    // The finding says which probe it is about.
    let prefixes = ["sched: ", "uprobe: ", "usdt: "];
    let bare = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
    bare.unwrap_or(&text).to_owned()
}
