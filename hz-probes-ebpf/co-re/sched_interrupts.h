/* Time that interrupts take from each CPU. */
#pragma once
#include "sched_target.h"

/* Writes what interrupts took, once it is worth a record: soon where the target runs or waits,
 * late elsewhere. A hardware interrupt may come within: it adds, and does not tell, since
 * `soft_depth` still stands. */
static __always_inline void tell_interrupts(struct cpu_state *cpu, __u64 now)
{
	__u64 hard_ns = cpu->hard_ns, soft_ns = cpu->soft_ns, since_ns = cpu->since_ns;
	__u64 taken = hard_ns + soft_ns;
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
	record->since_ns = since_ns;
	record->hard_ns = hard_ns;
	record->soft_ns = soft_ns;
	record->steal_ns = 0;
	cpu->hard_ns -= hard_ns;
	cpu->soft_ns -= soft_ns;
	cpu->interrupts = 0;
	cpu->since_ns = now;
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
	cpu->soft_ns += now - cpu->soft_start_ns - hard_ns;
	cpu->interrupts++;
	tell_interrupts(cpu, now);
	cpu->soft_depth = 0;
	return 0;
}
