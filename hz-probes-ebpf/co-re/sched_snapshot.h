/* What every thread of the target is, at the start and the end of a recording. */
#pragma once
#include "sched_target.h"

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

/* Counts a child whose process does not fit into PIDS as not read: nothing of it would follow. */
static __always_inline bool is_in_snapshot(struct task_struct *task, struct Loss *ledger)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	__u8 one = 1;

	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP) {
		if (in_cgroup(task))
			return true;
		__sync_fetch_and_add(&ledger->filtered, 1);
		return false;
	}
	if (bpf_map_lookup_elem(&PIDS, &pid))
		return true;
	if (!CONFIG.follow_children || !is_descendant(task)) {
		__sync_fetch_and_add(&ledger->filtered, 1);
		return false;
	}
	if (bpf_map_update_elem(&PIDS, &pid, &one, BPF_ANY)) {
		__sync_fetch_and_add(&ledger->read_failed, 1);
		return false;
	}
	return true;
}

/* A CPU that has not switched yet is had by whoever has it now. */
static __always_inline void note_occupant(struct task_struct *task)
{
	struct cpu_state *cpu = cpu_at(task_cpu(task));

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
	if (!is_in_snapshot(task, ledger)) {
		__sync_fetch_and_add(&ledger->seen, 1);
		return 0;
	}
	record.header.kind = HZ_KIND_THREAD;
	record.header.cpu = task_cpu(task);
	record.header.tid = BPF_CORE_READ(task, pid);
	record.header.pid = BPF_CORE_READ(task, tgid);
	record.header.arg = BPF_CORE_READ(task, real_parent, tgid);
	if (bpf_core_field_exists(task->sched_info.run_delay))
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
	else if (CONFIG.filter != FILTER_ALL && (record.flags & THREAD_QUEUED) && !record.state)
		start_waiting(this_cpu(), record.header.tid, record.header.cpu);
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
