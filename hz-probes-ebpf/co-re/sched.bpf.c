/* Kernel probe `sched`: who runs where, who waits for which CPU, and who took the time.
 *
 * Built twice from this file: for BTF tracepoints, whose programs may read kernel structures
 * directly, and with HZ_RAW_TRACEPOINT for plain raw tracepoints, whose programs must copy.
 *
 * Blind spots: hook runs that the kernel skips because the same program is already running on the
 * CPU (`recursion_misses` of the program); reschedule interrupts, whose handler does nothing
 * else; time the hypervisor took (steal), which the recorder reads from /proc/stat.
 *
 * Every hook runs with interrupts off but those that say otherwise, so counters of the CPU are
 * plain additions. */
#include "sched_state.h"
#include "sched_target.h"
#include "sched_interrupts.h"
#include "sched_lives.h"
#include "sched_snapshot.h"

char LICENSE[] SEC("license") = "GPL";

/* --- switches --------------------------------------------------------------------------- */

/* Decides whether a filtered recording has this switch, and keeps who waits. */
static __always_inline bool is_switch_wanted(struct cpu_state *cpu, struct task_struct *prev,
					     struct task_struct *next, bool is_runnable, __u64 now)
{
	bool was_watched = *(volatile __u32 *)&cpu->waiting != 0;
	bool is_prev_target = is_target(prev);
	bool is_next_target = is_target(next);

	cpu->occupant = (__u64)next;
	if (is_prev_target && is_runnable)
		start_waiting(cpu, GET(prev, pid), bpf_get_smp_processor_id());
	/* Also for one that has left the target's control group while it waited. */
	if (is_next_target || was_watched)
		stop_waiting(GET(next, pid));
	if (!is_prev_target && !is_next_target && !was_watched)
		return false;
	if (!is_prev_target)
		name_once(cpu, prev, now);
	if (!is_next_target)
		name_once(cpu, next, now);
	return true;
}

static __always_inline void on_switch(bool is_preempted, struct task_struct *prev,
				      struct task_struct *next, __u32 state)
{
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct Switch *record;

	cpu->ledger[HZ_SITE_SWITCH].seen++;
	/* Nobody switches within a hardware interrupt: an end that was skipped ends here. */
	cpu->hard_depth = 0;
	if (CONFIG.filter != FILTER_ALL &&
	    !is_switch_wanted(cpu, prev, next, is_preempted || !state, now)) {
		cpu->ledger[HZ_SITE_SWITCH].filtered++;
		return;
	}
	record = reserve(cpu, HZ_SITE_SWITCH, sizeof(*record), now);
	if (!record)
		return;
	fill_header(&record->header, HZ_KIND_SWITCH, now);
	record->header.tid = GET(prev, pid);
	record->header.pid = GET(prev, tgid);
	record->header.arg = GET(next, pid);
	record->next_pid = GET(next, tgid);
	record->prev_state = state;
	record->flags = is_preempted ? SWITCH_PREEMPTED : 0;
	record->next_prio = GET(next, prio);
	submit(cpu, HZ_SITE_SWITCH, record);
}

/* From Linux 5.18 to 6.13 the state that the tracepoint passes was read before the scheduler looked
 * for signals: a thread that a signal keeps runnable passes for asleep. It is asleep if it has left
 * the run queue, or stays there only until its lag is gone. */
static __always_inline __u32 true_state(struct task_struct *prev, __u32 state)
{
	if (!state || !GET(prev, on_rq))
		return state;
	if (bpf_core_field_exists(prev->se.sched_delayed) && GET(prev, se.sched_delayed))
		return state;
	return 0;
}

HOOK(sched_switch)
int sched_switch(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	struct task_struct *next = (void *)ctx[2];

	/* The state is an argument since Linux 5.18; read from the thread it may already be that
	 * of its next wake-up. A preempted thread's state does not say that it sleeps. */
	if (CONFIG.switch_has_state)
		on_switch(ctx[0], prev, next, true_state(prev, ctx[3]));
	else
		on_switch(ctx[0], prev, next, true_state(prev, GET(prev, __state)));
	return 0;
}

/* --- wake-ups --------------------------------------------------------------------------- */

HOOK(sched_waking)
int sched_waking(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	__u64 waker = bpf_get_current_pid_tgid();
	struct Waking *record;

	cpu->ledger[HZ_SITE_WAKING].seen++;
	if (!is_target(task)) {
		cpu->ledger[HZ_SITE_WAKING].filtered++;
		return 0;
	}
	if (CONFIG.filter != FILTER_ALL && !cpu->hard_depth && !cpu->soft_depth) {
		struct task_struct *current = (void *)bpf_get_current_task();

		if (!is_target(current))
			name_once(cpu, current, now);
	}
	record = reserve(cpu, HZ_SITE_WAKING, sizeof(*record), now);
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_WAKING, now);
	record->header.tid = GET(task, pid);
	record->header.pid = GET(task, tgid);
	record->header.arg = waker;
	record->waker_pid = waker >> 32;
	record->flags =
		(cpu->hard_depth ? WAKING_HARDIRQ : 0) | (cpu->soft_depth ? WAKING_SOFTIRQ : 0);
	submit(cpu, HZ_SITE_WAKING, record);
	return 0;
}

static __always_inline void on_wakeup(struct task_struct *task, __u16 kind, __u32 site)
{
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct task_struct *occupant = NULL;
	__u32 place = task_cpu(task);
	struct Wakeup *record;

	cpu->ledger[site].seen++;
	if (!is_target(task)) {
		cpu->ledger[site].filtered++;
		return;
	}
	if (CONFIG.filter != FILTER_ALL) {
		occupant = occupant_of(place);
		/* A thread woken before it slept still has its CPU and does not wait for it. */
		if (!GET(task, on_cpu))
			start_waiting(cpu, GET(task, pid), place);
		if (occupant && !is_target(occupant))
			name_once(cpu, occupant, now);
	}
	record = reserve(cpu, site, sizeof(*record), now);
	if (!record)
		return;
	fill_header(&record->header, kind, now);
	record->header.tid = GET(task, pid);
	record->header.pid = GET(task, tgid);
	record->header.arg = place;
	record->occupant_tid = occupant ? BPF_CORE_READ(occupant, pid) : NOT_ASKED;
	record->occupant_pid = occupant ? BPF_CORE_READ(occupant, tgid) : 0;
	submit(cpu, site, record);
}

HOOK(sched_wakeup)
int sched_wakeup(__u64 *ctx)
{
	on_wakeup((void *)ctx[0], HZ_KIND_WAKEUP, HZ_SITE_WAKEUP);
	return 0;
}

HOOK(sched_wakeup_new)
int sched_wakeup_new(__u64 *ctx)
{
	on_wakeup((void *)ctx[0], HZ_KIND_WAKEUP_NEW, HZ_SITE_WAKEUP_NEW);
	return 0;
}

/* A thread that waits takes its wait to the new CPU. */
static __always_inline bool move_waiter(__u32 tid, __u32 to)
{
	__u32 *place = bpf_map_lookup_elem(&WAITERS, &tid);

	if (!place)
		return false;
	__sync_fetch_and_add(&cpu_at(*place)->waiting, -1);
	*place = to;
	__sync_fetch_and_add(&cpu_at(to)->waiting, 1);
	return true;
}

HOOK(sched_migrate_task)
int sched_migrate_task(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct task_struct *occupant = NULL;
	struct Migrate *record;
	__u32 to = ctx[1];

	cpu->ledger[HZ_SITE_MIGRATE].seen++;
	if (!is_target(task)) {
		cpu->ledger[HZ_SITE_MIGRATE].filtered++;
		return 0;
	}
	if (CONFIG.filter != FILTER_ALL && move_waiter(GET(task, pid), to)) {
		occupant = occupant_of(to);
		if (occupant && !is_target(occupant))
			name_once(cpu, occupant, now);
	}
	record = reserve(cpu, HZ_SITE_MIGRATE, sizeof(*record), now);
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_MIGRATE, now);
	record->header.tid = GET(task, pid);
	record->header.pid = GET(task, tgid);
	record->header.arg = to;
	record->from_cpu = task_cpu(task);
	record->occupant_tid = occupant ? BPF_CORE_READ(occupant, pid) : NOT_ASKED;
	submit(cpu, HZ_SITE_MIGRATE, record);
	return 0;
}
