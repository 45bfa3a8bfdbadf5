/* The kernel's half of hz-top: what threads and CPUs did, summed up in maps. No record is written
 * and nobody is woken; user space reads the sums once a second.
 *
 * Blind spots: hook runs that the kernel skips because the same program is already running on the
 * CPU (`recursion_misses` of the program); threads that have no room in THREADS, which are counted;
 * switches that the host hides from tracing: the CPU's time is then nobody's.
 *
 * What happens to one thread happens under the lock of its run queue, so its sums are plain
 * additions. */
#include "kernel.h"
#include "vocabulary.h"
#include "histogram.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define HOOK(name) SEC("tp_btf/" #name)

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */
#define TASK_DEAD_STATES 0x90 /* EXIT_DEAD and TASK_DEAD, include/linux/sched.h */

/* include/linux/sched.h: the states that sleeping threads are in. */
#define TASK_INTERRUPTIBLE   0x0001
#define TASK_UNINTERRUPTIBLE 0x0002
#define TASK_STOPPED_TRACED  0x000c

enum { SITE_SWITCH, SITE_WAKEUP, SITE_MIGRATE, SITE_LIFE, SITE_SNAPSHOT };

char LICENSE[] SEC("license") = "GPL";

const volatile struct AggregateConfig CONFIG SEC(".rodata.config");

#include "cgroup.h"

/* Moved on by user space before each look. What is the longest of an epoch is kept until the end of
 * the next one, so that it can be read. */
__u32 EPOCH SEC(".data.control");

/* By thread id. A thread that has ended stays until user space has read it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct ThreadTotals);
} THREADS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct CpuTotals);
} CPUS SEC(".maps");

/* Moves of the target's threads, by place they left and place they went to. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES * PLACES);
	__type(key, __u32);
	__type(value, __u64);
} MOVES SEC(".maps");

/* Processes of the target, for FILTER_PIDS. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8);
} PIDS SEC(".maps");

static const struct ThreadTotals EMPTY;

static __always_inline struct CpuTotals *this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&CPUS, &zero);
}

static __always_inline __u64 place_of(__u64 cpu)
{
	__u64 place = cpu / CONFIG.place_cpus;

	if (place >= PLACES)
		place = PLACES - 1;
	/* The bound must be in the register that the verifier sees used. */
	asm volatile("" : "+r"(place));
	return place & (PLACES - 1);
}

static __always_inline __u32 task_cpu(struct task_struct *task)
{
	struct task_struct___with_cpu *older = (void *)task;

	if (bpf_core_field_exists(older->cpu))
		return BPF_CORE_READ(older, cpu);
	return BPF_CORE_READ(task, thread_info.cpu);
}

static __always_inline bool is_target(struct task_struct *task)
{
	__u32 pid;

	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP)
		return in_cgroup(task);
	pid = BPF_CORE_READ(task, tgid);
	return bpf_map_lookup_elem(&PIDS, &pid) != NULL;
}

/* --- one thread ------------------------------------------------------------------------------ */

static __always_inline void begin_life(struct ThreadTotals *thread, struct task_struct *task,
				       __u64 now)
{
	thread->since_ns = now;
	thread->state = AGGREGATE_UNKNOWN;
	thread->pid = BPF_CORE_READ(task, tgid);
	thread->cpu = task_cpu(task);
	thread->flags = is_target(task) ? AGGREGATE_TARGET : 0;
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		thread->flags |= AGGREGATE_KERNEL;
	bpf_core_read(thread->comm, sizeof(thread->comm), &task->comm);
}

/* The sums of a thread, made if need be; NULL if there is no room, which is counted. */
static __always_inline struct ThreadTotals *thread_of(struct task_struct *task, struct Loss *ledger,
						      __u64 now)
{
	__u32 tid = BPF_CORE_READ(task, pid);
	struct ThreadTotals *thread = bpf_map_lookup_elem(&THREADS, &tid);
	int error;

	if (thread)
		return thread;
	error = bpf_map_update_elem(&THREADS, &tid, &EMPTY, BPF_NOEXIST);
	thread = bpf_map_lookup_elem(&THREADS, &tid);
	if (!thread) {
		ledger->read_failed++;
		return NULL;
	}
	if (!error)
		begin_life(thread, task, now);
	return thread;
}

static __always_inline void become(struct ThreadTotals *thread, __u32 state, __u64 now)
{
	__u64 since = thread->since_ns;

	thread->since_ns = now;
	if (now > since)
		thread->state_ns[thread->state & (AGGREGATE_STATES - 1)] += now - since;
	thread->state = state;
}

static __always_inline __u32 state_after(__u32 state)
{
	if (state & TASK_DEAD_STATES)
		return AGGREGATE_ENDED;
	if (state & TASK_STOPPED_TRACED)
		return AGGREGATE_STOPPED;
	if (state & TASK_UNINTERRUPTIBLE)
		return AGGREGATE_UNINTERRUPTIBLE;
	return state ? AGGREGATE_SLEEPING : AGGREGATE_PREEMPTED;
}

static __always_inline bool is_idle_call(__s32 call)
{
	int place;

	for (place = 0; place < IDLE_CALLS; place++)
		if (CONFIG.idle_calls[place] == call)
			return true;
	return false;
}

/* Keeps the longest sleep of the epoch, with the system call in which the thread slept. */
static __always_inline void note_block(struct ThreadTotals *thread, struct task_struct *task,
				       __u64 block_ns, __u64 now)
{
	struct WorstBlock *worst = &thread->blocks[EPOCH & 1];
	struct pt_regs *regs;
	struct pt_regs___arm64 *arm;
	__u64 argument = 0;
	__s32 call = -1;

	if (worst->epoch == EPOCH && worst->block_ns >= block_ns)
		return;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	arm = (void *)regs;
	if (bpf_core_field_exists(regs->orig_ax)) {
		call = (__s32)BPF_CORE_READ(regs, orig_ax);
		argument = BPF_CORE_READ(regs, di);
	} else if (bpf_core_field_exists(arm->syscallno)) {
		call = BPF_CORE_READ(arm, syscallno);
		argument = BPF_CORE_READ(arm, orig_x0);
	}
	if (is_idle_call(call))
		return;
	worst->block_ns = block_ns;
	worst->end_ns = now;
	worst->argument = argument;
	worst->call = call;
	worst->epoch = EPOCH;
}

/* Who had the CPU longest of all since a moment, as far as its last turns tell: nobody if it was idle, or
 * nobody knows, for longest. */
static __always_inline void find_culprit(struct CpuTotals *cpu, __u64 since,
					 struct WorstWait *worst)
{
	__u64 longest = 0;
	int place;

	worst->by_tid = 0;
	worst->by_pid = 0;
	for (place = 0; place < TURNS; place++) {
		struct Turn *turn = &cpu->turns[place];
		__u64 start = turn->start_ns > since ? turn->start_ns : since;

		if (turn->end_ns <= start || turn->end_ns - start <= longest)
			continue;
		longest = turn->end_ns - start;
		worst->by_tid = turn->tid;
		worst->by_pid = turn->tid ? turn->pid : 0;
	}
}

static __always_inline void note_wait(struct CpuTotals *cpu, struct ThreadTotals *thread, __u64 now)
{
	struct WorstWait *worst = &thread->waits[EPOCH & 1];
	__u64 wait_ns = now > thread->since_ns ? now - thread->since_ns : 0;
	__u32 bucket = bucket_of(wait_ns);

	if (bucket < BUCKETS)
		cpu->waits[bucket]++;
	if (worst->epoch == EPOCH && worst->wait_ns >= wait_ns)
		return;
	worst->wait_ns = wait_ns;
	worst->end_ns = now;
	worst->epoch = EPOCH;
	worst->cpu = bpf_get_smp_processor_id();
	find_culprit(cpu, thread->since_ns, worst);
}

/* --- switches -------------------------------------------------------------------------------- */

static __always_inline void switch_cpu(struct CpuTotals *cpu, struct task_struct *prev,
				       struct task_struct *next, __u64 now)
{
	struct Turn *turn = &cpu->turns[cpu->turn & (TURNS - 1)];
	__u64 since = cpu->since_ns;

	cpu->switches++;
	cpu->since_ns = now;
	turn->start_ns = since;
	turn->end_ns = now;
	turn->tid = since && cpu->tid == (__u32)prev->pid ? cpu->tid : 0;
	turn->pid = cpu->pid;
	cpu->turn++;
	if (since && now > since) {
		if (cpu->tid != (__u32)prev->pid)
			cpu->unknown_ns += now - since;
		else if (cpu->tid)
			cpu->busy_ns += now - since;
		else
			cpu->idle_ns += now - since;
	}
	cpu->tid = next->pid;
	cpu->pid = next->tgid;
}

static __always_inline void leave(struct ThreadTotals *thread, bool is_preempted, __u32 state,
				  __u64 now)
{
	__u64 place = place_of(thread->cpu);

	if (thread->state == AGGREGATE_RUNNING && now > thread->since_ns)
		thread->place_ns[place] += now - thread->since_ns;
	/* Its coming was not seen, so what it did meanwhile is not known. */
	else if (thread->state != AGGREGATE_RUNNING)
		thread->state = AGGREGATE_UNKNOWN;
	if (is_preempted)
		state = 0;
	if (state)
		thread->yields++;
	else
		thread->preemptions++;
	become(thread, state_after(state), now);
}

static __always_inline void come(struct CpuTotals *cpu, struct ThreadTotals *thread, __u64 now)
{
	if ((thread->state == AGGREGATE_WOKEN || thread->state == AGGREGATE_PREEMPTED) &&
	    (thread->flags & AGGREGATE_TARGET))
		note_wait(cpu, thread, now);
	become(thread, AGGREGATE_RUNNING, now);
	thread->cpu = bpf_get_smp_processor_id();
}

/* Before Linux 6.14 the state that the tracepoint passes was read before the scheduler looked for
 * signals: a thread that a signal keeps runnable passes for asleep. */
static __always_inline __u32 true_state(struct task_struct *prev, __u32 state)
{
	if (!state || !prev->on_rq)
		return state;
	if (bpf_core_field_exists(prev->se.sched_delayed) && prev->se.sched_delayed)
		return state;
	return 0;
}

HOOK(sched_switch)
int sched_switch(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	struct task_struct *next = (void *)ctx[2];
	struct CpuTotals *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct ThreadTotals *thread;
	struct Loss *ledger;
	__u64 failed;
	__u32 state;

	if (!cpu)
		return 0;
	ledger = &cpu->ledger[SITE_SWITCH];
	ledger->seen++;
	failed = ledger->read_failed;
	switch_cpu(cpu, prev, next, now);
	if (prev->pid) {
		state = CONFIG.switch_has_state ? (__u32)ctx[3] : prev->__state;
		thread = thread_of(prev, ledger, now);
		if (thread)
			leave(thread, ctx[0], true_state(prev, state), now);
	}
	if (next->pid) {
		thread = thread_of(next, ledger, now);
		if (thread)
			come(cpu, thread, now);
	}
	/* Two threads without room are one switch that was not counted. */
	if (ledger->read_failed == failed)
		ledger->submitted++;
	else
		ledger->read_failed = failed + 1;
	return 0;
}

/* --- wake-ups and moves ---------------------------------------------------------------------- */

static __always_inline void on_wakeup(struct task_struct *task, bool is_new)
{
	struct CpuTotals *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct ThreadTotals *thread;
	struct Loss *ledger;

	if (!cpu)
		return;
	ledger = &cpu->ledger[SITE_WAKEUP];
	ledger->seen++;
	thread = thread_of(task, ledger, now);
	if (!thread)
		return;
	ledger->submitted++;
	if (is_new && thread->state == AGGREGATE_ENDED) {
		/* The id of a thread that ended since the last look: its last sums are lost. */
		cpu->ledger[SITE_LIFE].seen++;
		cpu->ledger[SITE_LIFE].read_failed++;
		*thread = EMPTY;
		begin_life(thread, task, now);
	}
	/* Woken before it slept, it still has its CPU or its place in the queue. */
	if (thread->state == AGGREGATE_RUNNING || thread->state == AGGREGATE_WOKEN ||
	    thread->state == AGGREGATE_PREEMPTED)
		return;
	if ((thread->flags & (AGGREGATE_TARGET | AGGREGATE_KERNEL)) == AGGREGATE_TARGET &&
	    (thread->state == AGGREGATE_SLEEPING || thread->state == AGGREGATE_UNINTERRUPTIBLE) &&
	    now > thread->since_ns)
		note_block(thread, task, now - thread->since_ns, now);
	become(thread, AGGREGATE_WOKEN, now);
}

HOOK(sched_wakeup)
int sched_wakeup(__u64 *ctx)
{
	on_wakeup((void *)ctx[0], false);
	return 0;
}

HOOK(sched_wakeup_new)
int sched_wakeup_new(__u64 *ctx)
{
	on_wakeup((void *)ctx[0], true);
	return 0;
}

HOOK(sched_migrate_task)
int sched_migrate_task(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct CpuTotals *cpu = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	struct ThreadTotals *thread;
	struct Loss *ledger;
	__u32 move;
	__u64 *count;

	if (!cpu)
		return 0;
	ledger = &cpu->ledger[SITE_MIGRATE];
	ledger->seen++;
	thread = thread_of(task, ledger, now);
	if (!thread)
		return 0;
	ledger->submitted++;
	thread->migrations++;
	if (!(thread->flags & AGGREGATE_TARGET))
		return 0;
	move = place_of(task_cpu(task)) * PLACES + place_of(ctx[1]);
	count = bpf_map_lookup_elem(&MOVES, &move);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

/* --- lives ----------------------------------------------------------------------------------- */

HOOK(sched_process_fork)
int sched_process_fork(__u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0];
	struct task_struct *child = (void *)ctx[1];
	struct CpuTotals *cpu = this_cpu();
	__u32 pid = child->tgid;
	__u8 one = 1;

	if (CONFIG.filter != FILTER_PIDS || !CONFIG.follow_children || !cpu || !is_target(parent))
		return 0;
	/* Here interrupts are on, and another program may count on this CPU meanwhile. */
	__sync_fetch_and_add(&cpu->ledger[SITE_LIFE].seen, 1);
	if (bpf_map_update_elem(&PIDS, &pid, &one, BPF_ANY))
		__sync_fetch_and_add(&cpu->ledger[SITE_LIFE].read_failed, 1);
	else
		__sync_fetch_and_add(&cpu->ledger[SITE_LIFE].submitted, 1);
	return 0;
}

HOOK(sched_process_free)
int sched_process_free(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	__u32 pid = task->tgid;

	if (CONFIG.filter == FILTER_PIDS && task->pid == task->tgid)
		bpf_map_delete_elem(&PIDS, &pid);
	return 0;
}

HOOK(task_rename)
int task_rename(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	__u32 tid = task->pid;
	struct ThreadTotals *thread = bpf_map_lookup_elem(&THREADS, &tid);

	if (!thread)
		return 0;
	__builtin_memset(thread->comm, 0, sizeof(thread->comm));
	bpf_probe_read_kernel_str(thread->comm, sizeof(thread->comm), (void *)ctx[1]);
	return 0;
}

/* Every thread that is there when the programs are attached: none of them need move to be known. */
SEC("iter/task")
int snapshot(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct ThreadTotals *thread;
	__u64 now = bpf_ktime_get_ns();
	struct Loss *ledger;
	struct CpuTotals *cpu;

	if (!task || !task->pid)
		return 0;
	cpu = this_cpu();
	if (!cpu)
		return 0;
	ledger = &cpu->ledger[SITE_SNAPSHOT];
	__sync_fetch_and_add(&ledger->seen, 1);
	thread = thread_of(task, ledger, now);
	if (!thread)
		return 0;
	__sync_fetch_and_add(&ledger->submitted, 1);
	/* Its own hook knows better, if one has run. */
	if (thread->state == AGGREGATE_UNKNOWN && thread->since_ns == now && !task->on_cpu)
		thread->state = task->__state ? state_after(task->__state) : AGGREGATE_UNKNOWN;
	return 0;
}
