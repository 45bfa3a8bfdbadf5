/* Who belongs to the target, and which of them wait for which CPU. */
#pragma once
#include "sched_state.h"
#include "cgroup.h"

/* `task` may also be an address that the verifier knows nothing of. */
static __always_inline bool is_target(struct task_struct *task)
{
	__u32 pid;

	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP)
		return BPF_CORE_READ(task, pid) != 0 && in_cgroup(task);
	pid = BPF_CORE_READ(task, tgid);
	return bpf_map_lookup_elem(&PIDS, &pid) != NULL;
}

static __always_inline __u32 task_cpu(struct task_struct *task)
{
	struct task_struct___with_cpu *older = (void *)task;

	if (bpf_core_field_exists(older->cpu))
		return BPF_CORE_READ(older, cpu);
	return BPF_CORE_READ(task, thread_info.cpu);
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

static __always_inline void stop_waiting(__u32 tid)
{
	__u32 *found = bpf_map_lookup_elem(&WAITERS, &tid);
	__u32 place;

	if (!found)
		return;
	place = *found;
	/* Whoever deletes it counts it out, once. */
	if (!bpf_map_delete_elem(&WAITERS, &tid))
		__sync_fetch_and_add(&cpu_at(place)->waiting, -1);
}

static __always_inline void start_waiting(struct cpu_state *cpu, __u32 tid, __u32 place)
{
	/* Not long: Linux 6.1 leaves the upper half of the result empty. */
	int error;

	cpu->ledger[HZ_SITE_WAITERS].seen++;
	error = bpf_map_update_elem(&WAITERS, &tid, &place, BPF_NOEXIST);
	if (error == -EEXIST) {
		cpu->ledger[HZ_SITE_WAITERS].filtered++;
		return;
	}
	if (error) {
		/* The map is full: who has the CPU meanwhile is not recorded. */
		cpu->ledger[HZ_SITE_WAITERS].read_failed++;
		return;
	}
	cpu->ledger[HZ_SITE_WAITERS].submitted++;
	__sync_fetch_and_add(&cpu_at(place)->waiting, 1);
}
