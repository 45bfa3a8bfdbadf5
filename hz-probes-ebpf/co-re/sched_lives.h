/* The lives of threads. These hooks run in the thread itself, with interrupts on. */
#pragma once
#include "sched_target.h"

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
	record->run_delay_ns = 0;
	if (bpf_core_field_exists(task->sched_info.run_delay))
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
