//! Kernel probe `sched`.

use super::Probe;
use hz_probes_ebpf::Kind;

/// Who runs where, who waits for which CPU, and who took the time.
pub(super) struct Sched;

impl Probe for Sched {
    fn name(&self) -> &'static str {
        "sched"
    }

    fn about(&self) -> &'static str {
        "Switches, wake-ups, migrations, lives of threads, and time that interrupts took"
    }

    fn language(&self) -> &'static str {
        "C, CO-RE, libbpf"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["tp_btf", "raw_tp"]
    }

    fn places(&self) -> &'static [&'static str] {
        &[
            "sched_switch",
            "sched_waking",
            "sched_wakeup",
            "sched_wakeup_new",
            "sched_migrate_task",
            "sched_process_fork",
            "sched_process_exec",
            "sched_process_exit",
            "sched_process_free",
            "task_rename",
            "irq_handler_entry",
            "irq_handler_exit",
            "local_timer_entry",
            "local_timer_exit",
            "call_function_entry",
            "call_function_exit",
            "call_function_single_entry",
            "call_function_single_exit",
            "softirq_entry",
            "softirq_exit",
            "iter/task",
        ]
    }

    fn emits(&self) -> &'static [Kind] {
        &[
            Kind::Switch,
            Kind::Waking,
            Kind::Wakeup,
            Kind::WakeupNew,
            Kind::Migrate,
            Kind::Fork,
            Kind::Exec,
            Kind::Exit,
            Kind::Rename,
            Kind::Thread,
            Kind::Interrupts,
            Kind::Lost,
        ]
    }

    fn is_usual(&self) -> bool {
        true
    }

    fn cost(&self) -> &'static str {
        "0.08 to 0.12 µs a record"
    }
}
