use super::{Finding, Recent, Warning};
use hz_trace::text;

/// A wait as long as this is remarkable.
const LONG_NS: u64 = 10_000_000;

/// A thread waits for a CPU that another has.
pub(super) struct StarvedThread;

impl Warning for StarvedThread {
    fn name(&self) -> &'static str {
        "starved-thread"
    }

    fn about(&self) -> &'static str {
        "a thread waits long for a CPU"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let window = recent.window;
        let threads = window.threads.iter().filter(|thread| thread.is_target && !thread.is_kernel);
        let waits = threads.filter_map(|thread| {
            let wait = thread.wait.as_ref().filter(|wait| wait.wait_ns >= LONG_NS)?;
            let who = if wait.by_tid == 0 {
                String::new()
            } else {
                format!(" while {} (pid {}) had it", wait.by, wait.by_pid)
            };
            let waited = text::duration(wait.wait_ns);
            let sentence = format!(
                "thread {} ({}) waited {waited} for CPU {}{who}",
                thread.name, thread.tid, wait.cpu
            );
            let share = text::share(thread.wait_ns(), window.length_ns());
            let evidence = vec![
                format!("it waited for a CPU {share} of the time"),
                format!("its CPU was taken from it {} times", text::count(thread.preemptions)),
            ];
            Some(Finding { warning: self.name(), weight: wait.wait_ns, sentence, evidence })
        });
        waits.collect()
    }
}
