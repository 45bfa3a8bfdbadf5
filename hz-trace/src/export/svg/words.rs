//! What the picture says in words.

use super::draw_page::shortened;
use super::survey::{Survey, Wait};
use crate::analyze::{Culprits, POLL_OVER_NS, ProcessCulprit, summarize_tasks};
use crate::export::Subject;
use crate::model::{Model, ThreadIndex, is_unshowable};
use crate::recording::Target;
use crate::text::{count, duration, plural};

/// `text` with `�` for what cannot be shown or would change what is around it. A title may be a
/// command line, and a process chooses its own.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|each| if is_unshowable(each) { '\u{fffd}' } else { each }).collect()
}

/// `worker-1 (tid 4712)`.
pub(super) fn thread_words(model: &Model, thread: ThreadIndex) -> String {
    let thread = model.thread(thread);
    format!("{} (tid {})", thread.name(), thread.tid)
}

/// `rustc (pid 991)`, `load (pid 20, 16 threads)`, or, if the reader knows the process already,
/// `worker-0 (tid 4711)` or `4 threads of its own`.
fn culprit_words(model: &Model, culprit: &ProcessCulprit, victim: ThreadIndex) -> String {
    let longest = model.thread(culprit.longest);
    let name = longest.name();
    let threads = plural(culprit.threads as u64, "thread");
    match (culprit.pid == model.thread(victim).pid, culprit.threads) {
        (true, 1) => format!("{name} (tid {})", longest.tid),
        (true, _) => format!("{threads} of its own process"),
        (false, 1) => format!("{name} (pid {})", culprit.pid),
        (false, _) => format!("{name} (pid {}, {threads})", culprit.pid),
    }
}

/// The line below the title.
pub(super) fn subtitle(subject: &Subject<'_>) -> String {
    let model = subject.model;
    let whole_ns = subject.about.recorded_ns.max(model.end_ns.saturating_sub(model.start_ns));
    let mut time = duration(subject.duration_ns());
    if subject.duration_ns() < whole_ns {
        time = format!("{time} of {}", duration(whole_ns));
    }
    let threads = model.threads.iter().filter(|each| each.is_target && each.tid != 0).count();
    let parts = [
        shortened(&printable(&subject.about.target), 80),
        time,
        plural(model.cpus.len() as u64, "CPU"),
        plural(threads as u64, "thread"),
        format!("{} switches", count(model.switches)),
    ];
    let tasks = model.tasks.iter().filter(|task| !task.spans.is_empty()).count() as u64;
    let tasks = if tasks > 0 { plural(tasks, "task") } else { String::new() };
    let only =
        only_runtime(subject).map(|pid| format!("opens on pid {pid}, the only one with tasks"));
    let parts = parts.into_iter().chain([tasks]).chain(only);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// The process that a picture of the whole system opens on: the only one that has tasks.
pub(super) fn only_runtime(subject: &Subject<'_>) -> Option<u32> {
    let is_whole = subject.about.target == Target::WholeSystem.to_string();
    match &subject.model.runtimes[..] {
        [only] if is_whole => Some(only.pid),
        _ => None,
    }
}

/// What was lost.
pub(super) fn loss(subject: &Subject<'_>) -> String {
    format!("lost {}", count(subject.about.lost))
}

/// What hz itself took, if that is known.
pub(super) fn own_cost(subject: &Subject<'_>) -> Option<String> {
    let cpu = subject.about.own_cpu_pct.map(|share| format!("{share:.1} % CPU"));
    let memory = subject.about.own_memory_bytes.map(|bytes| format!("{} MB", bytes / 1_000_000));
    let parts: Vec<String> = cpu.into_iter().chain(memory).collect();
    (!parts.is_empty()).then(|| format!("hz used {}", parts.join(", ")))
}

/// The sentence on top: about the longest poll, if it was longer than any wait for a CPU.
pub(super) fn verdict(subject: &Subject<'_>, survey: &Survey) -> String {
    let worst_ns = survey.worst.first().map_or(0, Wait::duration_ns);
    let tasks = summarize_tasks(subject.model, POLL_OVER_NS);
    let polls = tasks.iter().flat_map(|tasks| &tasks.slow_polls);
    // Of a poll that nobody saw the inside of there is nothing to say.
    let from_ns = subject.from_ns.saturating_sub(subject.model.start_ns);
    let in_part = polls.filter(|poll| poll.start_ns + poll.duration_ns > from_ns);
    let mut seen = in_part.filter(|poll| poll.kernel.not_recorded_ns * 2 < poll.duration_ns);
    if let Some(poll) = seen.find(|poll| poll.duration_ns > worst_ns) {
        let at = duration(poll.start_ns);
        let sentence = shortened(&printable(&poll.sentence), 160);
        return format!("Longest poll, at {at}: {sentence}.");
    }
    wait_verdict(subject, survey)
}

fn wait_verdict(subject: &Subject<'_>, survey: &Survey) -> String {
    let Some(worst) = survey.worst.first() else {
        return "No thread waited for a CPU.".to_owned();
    };
    let model = subject.model;
    let length_ns = worst.duration_ns();
    if length_ns < 1_000_000 {
        return format!("No thread waited longer than {} for a CPU.", duration(length_ns));
    }
    let at = duration(worst.start_ns.saturating_sub(model.start_ns));
    let who = thread_words(model, worst.thread);
    let cause = cause(model, worst, &worst.culprits(model));
    let length = duration(length_ns);
    format!("Worst wait: {who} waited {length} for CPU {}, at {at}{cause}.", worst.cpu)
}

/// What is said beside a wait: `15.6 ms waiting for CPU 1, 11.2 ms behind rustc (pid 991)`.
pub(super) fn wait_note(model: &Model, wait: &Wait) -> String {
    let length = duration(wait.duration_ns());
    let cause = cause(model, wait, &wait.culprits(model));
    format!("{length} waiting for CPU {}{cause}", wait.cpu)
}

/// What took most of a wait, with a comma before it; empty if nothing stands out.
fn cause(model: &Model, wait: &Wait, culprits: &Culprits) -> String {
    let processes = culprits.by_process(model);
    let longest = processes.first();
    let ran_ns = longest.map_or(0, |culprit| culprit.ran_ns);
    if culprits.steal_ns > ran_ns / 2 && culprits.steal_ns > 0 {
        return format!(", {} stolen by the hypervisor", duration(culprits.steal_ns));
    }
    match longest {
        Some(culprit) if ran_ns * 10 >= wait.duration_ns() => {
            let who = culprit_words(model, culprit, wait.thread);
            let part = if ran_ns * 100 >= wait.duration_ns() * 98 {
                "all".to_owned()
            } else {
                duration(ran_ns)
            };
            format!(", {part} behind {who}")
        }
        _ if culprits.unknown_ns * 2 > wait.duration_ns() => {
            ", behind somebody not recorded".to_owned()
        }
        Some(_) => format!(", behind {} processes", processes.len()),
        None => String::new(),
    }
}
