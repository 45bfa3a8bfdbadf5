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
#include "kernel.h"
#include "vocabulary.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#ifdef HZ_RAW_TRACEPOINT
#define HOOK(name) SEC("raw_tp/" #name)
#define GET(pointer, field) BPF_CORE_READ(pointer, field)
#else
#define HOOK(name) SEC("tp_btf/" #name)
#define GET(pointer, field) ((pointer)->field)
#endif

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */
#define PARENTS_MAX 32

const volatile struct SchedConfig CONFIG SEC(".rodata.config");

/* What one CPU keeps; only programs on that CPU write it, but for `waiting`. */
struct cpu_state {
	struct Loss ledger[HZ_SITES];
	__u64 lost_since_ns;
	__u64 lost;
	__u64 since_ns; /* first interrupt since the last record of them */
	__u64 hard_start_ns;
	__u64 soft_start_ns;
	__u64 hard_ns;
	__u64 soft_ns;
	__u64 hard_at_soft_start_ns;
	__u64 occupant; /* address of the task that has the CPU; 0: not seen yet. Filters only. */
	__u32 interrupts;
	__u32 hard_depth;
	__u32 soft_depth;
	__u32 waiting; /* threads of the target that wait for this CPU; any CPU writes it */
} __attribute__((aligned(128)));

/* The loader reads each CPU's ledger from the start of its part of CPUS. */
_Static_assert(__builtin_offsetof(struct cpu_state, ledger) == 0, "the ledger is first");

struct cpu_state CPUS[MAX_CPUS];

/* 1 while the last snapshot is taken. */
__u32 SNAPSHOT_IS_LAST SEC(".data.control");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* One ring per CPU, filled in by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_RINGS);
	__type(key, __u32);
	__array(values, struct ring);
} RINGS SEC(".maps");

/* Processes of the target, for FILTER_PIDS. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u8);
} PIDS SEC(".maps");

/* Thread of the target that waits -> the CPU it waits for. Filters only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, __u32);
} WAITERS SEC(".maps");

/* Threads outside the target whose name was sent. Filters only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, __u8);
} NAMED SEC(".maps");

static __always_inline struct cpu_state *cpu_at(__u32 cpu)
{
	return &CPUS[cpu & (MAX_CPUS - 1)];
}

static __always_inline struct cpu_state *this_cpu(void)
{
	return cpu_at(bpf_get_smp_processor_id());
}

static __always_inline void note_lost(struct cpu_state *cpu, __u32 site, __u64 now)
{
	cpu->ledger[site].ring_full++;
	if (!cpu->lost)
		cpu->lost_since_ns = now;
	cpu->lost++;
}

static __always_inline void *reserve_in_ring(__u64 size)
{
	__u32 place = bpf_get_smp_processor_id() & CONFIG.ring_mask;
	void *ring = bpf_map_lookup_elem(&RINGS, &place);

	return ring ? bpf_ringbuf_reserve(ring, size, 0) : NULL;
}

static __always_inline void fill_header(struct Header *header, __u16 kind, __u64 now)
{
	header->time_ns = now;
	header->kind = kind;
	header->cpu = bpf_get_smp_processor_id();
}

/* Says that records were lost, as soon as there is room to say it. */
static __always_inline void tell_lost(struct cpu_state *cpu, __u64 now)
{
	struct Lost *record;

	if (!cpu->lost)
		return;
	record = reserve_in_ring(sizeof(*record));
	if (!record)
		return;
	fill_header(&record->header, HZ_KIND_LOST, now);
	record->header.tid = 0;
	record->header.pid = 0;
	record->header.arg = 0;
	record->since_ns = cpu->lost_since_ns;
	record->count = cpu->lost;
	cpu->lost = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* Reserves a record of `size` bytes for `site`, or counts it as lost. */
static __always_inline void *reserve(struct cpu_state *cpu, __u32 site, __u64 size, __u64 now)
{
	void *record;

	tell_lost(cpu, now);
	record = reserve_in_ring(size);
	if (!record)
		note_lost(cpu, site, now);
	return record;
}

static __always_inline void submit(struct cpu_state *cpu, __u32 site, void *record)
{
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	cpu->ledger[site].submitted++;
}

/* --- the target ------------------------------------------------------------------------- */

static __always_inline bool in_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct cgroup *ancestor = NULL;
	__u32 level = CONFIG.cgroup_level;

	if (BPF_CORE_READ(cgroup, level) < (int)level)
		return false;
	bpf_core_read(&ancestor, sizeof(ancestor), &cgroup->ancestors[level]);
	return BPF_CORE_READ(ancestor, kn, id) == CONFIG.cgroup_id;
}

static __always_inline bool is_target(struct task_struct *task)
{
	__u32 pid;

	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP)
		return GET(task, pid) != 0 && in_cgroup(task);
	pid = GET(task, tgid);
	return bpf_map_lookup_elem(&PIDS, &pid) != NULL;
}

static __always_inline __u32 task_cpu(struct task_struct *task)
{
	return GET(task, thread_info.cpu);
}

/* Sends the name of a thread outside the target, once. */
static __always_inline void name_once(struct cpu_state *cpu, struct task_struct *task, __u64 now)
{
	__u32 tid = BPF_CORE_READ(task, pid);
	struct Thread *record;
	__u8 one = 1;

	if (!tid)
		return;
	cpu->ledger[HZ_SITE_NAME].seen++;
	if (bpf_map_lookup_elem(&NAMED, &tid)) {
		cpu->ledger[HZ_SITE_NAME].filtered++;
		return;
	}
	record = reserve(cpu, HZ_SITE_NAME, sizeof(*record), now);
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	fill_header(&record->header, HZ_KIND_THREAD, now);
	record->header.tid = tid;
	record->header.pid = BPF_CORE_READ(task, tgid);
	record->flags = THREAD_FOREIGN;
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		record->flags |= THREAD_KERNEL;
	bpf_core_read(record->comm, sizeof(record->comm), &task->comm);
	submit(cpu, HZ_SITE_NAME, record);
	/* If the map is full, the name is sent again next time: dearer, not wrong. */
	bpf_map_update_elem(&NAMED, &tid, &one, BPF_ANY);
}

/* The thread that has `cpu`, or NULL before the CPU's first switch. Kept here because many kernels
 * do not let programs find `runqueues` (no CONFIG_KALLSYMS_ALL). The task cannot be gone: it would
 * have had to leave the CPU first. */
static __always_inline struct task_struct *occupant_of(__u32 cpu)
{
	return (struct task_struct *)cpu_at(cpu)->occupant;
}

/* --- who waits where (filters only) ----------------------------------------------------- */

static __always_inline void stop_waiting(__u32 tid)
{
	__u32 *place = bpf_map_lookup_elem(&WAITERS, &tid);

	if (!place)
		return;
	__sync_fetch_and_add(&cpu_at(*place)->waiting, -1);
	bpf_map_delete_elem(&WAITERS, &tid);
}

static __always_inline void start_waiting(struct cpu_state *cpu, __u32 tid, __u32 place)
{
	cpu->ledger[HZ_SITE_WAITERS].seen++;
	if (bpf_map_update_elem(&WAITERS, &tid, &place, BPF_NOEXIST)) {
		/* It waits already, or the map is full: then its neighbours are not recorded. */
		if (bpf_map_lookup_elem(&WAITERS, &tid))
			cpu->ledger[HZ_SITE_WAITERS].filtered++;
		else
			cpu->ledger[HZ_SITE_WAITERS].read_failed++;
		return;
	}
	cpu->ledger[HZ_SITE_WAITERS].submitted++;
	__sync_fetch_and_add(&cpu_at(place)->waiting, 1);
}

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
	if (is_next_target)
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

HOOK(sched_switch)
int sched_switch(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	struct task_struct *next = (void *)ctx[2];

	/* The state is an argument since Linux 5.18; read from the thread it may already be that
	 * of its next wake-up. A preempted thread's state does not say that it sleeps. */
	if (CONFIG.switch_has_state)
		on_switch(ctx[0], prev, next, ctx[3]);
	else
		on_switch(ctx[0], prev, next, GET(prev, __state));
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
	record->flags = (cpu->hard_depth ? WAKING_HARDIRQ : 0) |
			(cpu->soft_depth ? WAKING_SOFTIRQ : 0);
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

/* --- lives; these hooks run in the thread itself, interrupts on -------------------------- */

HOOK(sched_process_fork)
int sched_process_fork(__u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0];
	struct task_struct *child = (void *)ctx[1];
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	__u32 pid = GET(child, tgid);
	struct Fork *record;
	__u8 one = 1;

	cpu->ledger[HZ_SITE_FORK].seen++;
	if (CONFIG.filter == FILTER_PIDS && CONFIG.follow_children && is_target(parent) &&
	    bpf_map_update_elem(&PIDS, &pid, &one, BPF_ANY)) {
		cpu->ledger[HZ_SITE_FORK].read_failed++;
		return 0;
	}
	if (!is_target(child)) {
		cpu->ledger[HZ_SITE_FORK].filtered++;
		return 0;
	}
	record = reserve(cpu, HZ_SITE_FORK, sizeof(*record), now);
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_FORK, now);
	record->header.tid = GET(child, pid);
	record->header.pid = pid;
	record->header.arg = GET(parent, pid);
	record->parent_pid = GET(parent, tgid);
	record->reserved = 0;
	bpf_core_read(record->comm, sizeof(record->comm), &child->comm);
	submit(cpu, HZ_SITE_FORK, record);
	return 0;
}

HOOK(sched_process_exec)
int sched_process_exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct Exec *record;

	cpu->ledger[HZ_SITE_EXEC].seen++;
	if (!is_target(task)) {
		cpu->ledger[HZ_SITE_EXEC].filtered++;
		return 0;
	}
	record = reserve(cpu, HZ_SITE_EXEC, sizeof(*record), now);
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_EXEC, now);
	record->header.tid = GET(task, pid);
	record->header.pid = GET(task, tgid);
	record->header.arg = ctx[1];
	bpf_core_read(record->comm, sizeof(record->comm), &task->comm);
	submit(cpu, HZ_SITE_EXEC, record);
	return 0;
}

HOOK(sched_process_exit)
int sched_process_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct Exit *record;

	cpu->ledger[HZ_SITE_EXIT].seen++;
	if (!is_target(task)) {
		cpu->ledger[HZ_SITE_EXIT].filtered++;
		return 0;
	}
	record = reserve(cpu, HZ_SITE_EXIT, sizeof(*record), now);
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_EXIT, now);
	record->header.tid = GET(task, pid);
	record->header.pid = GET(task, tgid);
	record->header.arg = 0;
	record->nvcsw = GET(task, nvcsw);
	record->nivcsw = GET(task, nivcsw);
	record->run_delay_ns = GET(task, sched_info.run_delay);
	submit(cpu, HZ_SITE_EXIT, record);
	return 0;
}

/* After the last switch of a thread: forgets it, so that its id can be another's. Writes no
 * record and so has no ledger. */
HOOK(sched_process_free)
int sched_process_free(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	__u32 tid = GET(task, pid);

	if (CONFIG.filter == FILTER_ALL)
		return 0;
	stop_waiting(tid);
	bpf_map_delete_elem(&NAMED, &tid);
	if (tid == (__u32)GET(task, tgid))
		bpf_map_delete_elem(&PIDS, &tid);
	return 0;
}

HOOK(task_rename)
int task_rename(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	const char *comm = (void *)ctx[1];
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	__u32 tid = GET(task, pid);
	struct Rename *record;

	cpu->ledger[HZ_SITE_RENAME].seen++;
	if (!is_target(task)) {
		/* Its new name is sent when a record mentions it again. */
		bpf_map_delete_elem(&NAMED, &tid);
		cpu->ledger[HZ_SITE_RENAME].filtered++;
		return 0;
	}
	record = reserve(cpu, HZ_SITE_RENAME, sizeof(*record), now);
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_RENAME, now);
	record->header.tid = tid;
	record->header.pid = GET(task, tgid);
	record->header.arg = 0;
	__builtin_memset(record->comm, 0, sizeof(record->comm));
	bpf_probe_read_kernel_str(record->comm, sizeof(record->comm), comm);
	submit(cpu, HZ_SITE_RENAME, record);
	return 0;
}

/* --- interrupts ------------------------------------------------------------------------- */

/* Writes what interrupts took, once it is worth a record: soon where the target runs or waits,
 * late elsewhere. Hardware interrupts may come within: then what they add is told next time. */
static __always_inline void tell_interrupts(struct cpu_state *cpu, __u64 now)
{
	__u64 taken = cpu->hard_ns + cpu->soft_ns;
	struct Interrupts *record;

	if (taken < CONFIG.interrupts_min_ns)
		return;
	if (CONFIG.filter != FILTER_ALL && taken < CONFIG.interrupts_max_ns && !cpu->waiting &&
	    !is_target((void *)bpf_get_current_task()))
		return;
	__sync_fetch_and_add(&cpu->ledger[HZ_SITE_INTERRUPTS].seen, 1);
	record = reserve(cpu, HZ_SITE_INTERRUPTS, sizeof(*record), now);
	if (!record)
		return;
	fill_header(&record->header, HZ_KIND_INTERRUPTS, now);
	record->header.tid = bpf_get_current_pid_tgid();
	record->header.pid = bpf_get_current_pid_tgid() >> 32;
	record->header.arg = cpu->interrupts;
	record->since_ns = cpu->since_ns;
	record->hard_ns = cpu->hard_ns;
	record->soft_ns = cpu->soft_ns;
	record->steal_ns = 0;
	cpu->hard_ns = 0;
	cpu->soft_ns = 0;
	cpu->interrupts = 0;
	cpu->since_ns = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	__sync_fetch_and_add(&cpu->ledger[HZ_SITE_INTERRUPTS].submitted, 1);
}

static __always_inline void enter_hard(void)
{
	struct cpu_state *cpu = this_cpu();

	if (cpu->hard_depth++)
		return;
	cpu->hard_start_ns = bpf_ktime_get_ns();
	if (!cpu->since_ns)
		cpu->since_ns = cpu->hard_start_ns;
}

static __always_inline void leave_hard(void)
{
	struct cpu_state *cpu = this_cpu();
	__u64 now;

	/* Attached in the middle of an interrupt: its entry was not seen. */
	if (!cpu->hard_depth || --cpu->hard_depth)
		return;
	now = bpf_ktime_get_ns();
	cpu->hard_ns += now - cpu->hard_start_ns;
	cpu->interrupts++;
	if (!cpu->soft_depth)
		tell_interrupts(cpu, now);
}

#define HARD_INTERRUPT(name)                                                                       \
	HOOK(name##_entry) int name##_entry(__u64 *ctx)                                            \
	{                                                                                          \
		enter_hard();                                                                      \
		return 0;                                                                          \
	}                                                                                          \
	HOOK(name##_exit) int name##_exit(__u64 *ctx)                                              \
	{                                                                                          \
		leave_hard();                                                                      \
		return 0;                                                                          \
	}

HARD_INTERRUPT(irq_handler)
HARD_INTERRUPT(local_timer)
HARD_INTERRUPT(call_function)
HARD_INTERRUPT(call_function_single)

HOOK(softirq_entry)
int softirq_entry(__u64 *ctx)
{
	struct cpu_state *cpu = this_cpu();

	cpu->soft_start_ns = bpf_ktime_get_ns();
	cpu->hard_at_soft_start_ns = cpu->hard_ns;
	if (!cpu->since_ns)
		cpu->since_ns = cpu->soft_start_ns;
	cpu->soft_depth = 1;
	return 0;
}

HOOK(softirq_exit)
int softirq_exit(__u64 *ctx)
{
	struct cpu_state *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	__u64 hard_ns = cpu->hard_ns - cpu->hard_at_soft_start_ns;

	if (!cpu->soft_depth)
		return 0;
	cpu->soft_depth = 0;
	cpu->soft_ns += now - cpu->soft_start_ns - hard_ns;
	cpu->interrupts++;
	tell_interrupts(cpu, now);
	return 0;
}

/* --- snapshot --------------------------------------------------------------------------- */

/* Whether a process of the target is among the thread's ancestors. */
static __always_inline bool is_descendant(struct task_struct *task)
{
	int depth;

	for (depth = 0; depth < PARENTS_MAX; depth++) {
		__u32 pid = BPF_CORE_READ(task, tgid);

		if (bpf_map_lookup_elem(&PIDS, &pid))
			return true;
		if (pid <= 1)
			return false;
		task = BPF_CORE_READ(task, real_parent);
	}
	return false;
}

static __always_inline bool is_in_snapshot(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	__u8 one = 1;

	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP)
		return in_cgroup(task);
	if (bpf_map_lookup_elem(&PIDS, &pid))
		return true;
	if (!CONFIG.follow_children || !is_descendant(task))
		return false;
	bpf_map_update_elem(&PIDS, &pid, &one, BPF_ANY);
	return true;
}

/* A CPU that has not switched yet is had by whoever has it now. */
static __always_inline void note_occupant(struct task_struct *task)
{
	struct cpu_state *cpu = cpu_at(BPF_CORE_READ(task, thread_info.cpu));

	if (BPF_CORE_READ(task, on_cpu))
		__sync_val_compare_and_swap(&cpu->occupant, 0, (__u64)task);
}

SEC("iter/task")
int snapshot(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct Loss *ledger = &this_cpu()->ledger[HZ_SITE_SNAPSHOT];
	struct Thread record = {};

	if (!task)
		return 0;
	note_occupant(task);
	if (!is_in_snapshot(task)) {
		__sync_fetch_and_add(&ledger->seen, 1);
		__sync_fetch_and_add(&ledger->filtered, 1);
		return 0;
	}
	record.header.kind = HZ_KIND_THREAD;
	record.header.cpu = BPF_CORE_READ(task, thread_info.cpu);
	record.header.tid = BPF_CORE_READ(task, pid);
	record.header.pid = BPF_CORE_READ(task, tgid);
	record.header.arg = BPF_CORE_READ(task, real_parent, tgid);
	record.run_delay_ns = BPF_CORE_READ(task, sched_info.run_delay);
	record.start_ns = BPF_CORE_READ(task, start_time);
	record.prio = BPF_CORE_READ(task, prio);
	record.flags = SNAPSHOT_IS_LAST ? THREAD_LAST : 0;
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		record.flags |= THREAD_KERNEL;
	bpf_core_read(record.comm, sizeof(record.comm), &task->comm);
	record.state = BPF_CORE_READ(task, __state);
	if (BPF_CORE_READ(task, on_rq))
		record.flags |= THREAD_QUEUED;
	if (BPF_CORE_READ(task, on_cpu))
		record.flags |= THREAD_ON_CPU;
	record.nvcsw = BPF_CORE_READ(task, nvcsw);
	record.nivcsw = BPF_CORE_READ(task, nivcsw);
	record.header.time_ns = bpf_ktime_get_ns();
	/* No room in the reader's buffer: the kernel calls again for the same thread. */
	if (bpf_seq_write(seq, &record, sizeof(record)))
		return 1;
	__sync_fetch_and_add(&ledger->seen, 1);
	__sync_fetch_and_add(&ledger->submitted, 1);
	return 0;
}
