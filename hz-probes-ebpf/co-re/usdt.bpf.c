/* User probe `usdt`: statically defined probes of programs, with their arguments.
 *
 * Blind spots: an argument in memory that is not there at the moment is not read, and said to be
 * so; arguments behind the sixth. */
#define __VMLINUX_H__ /* libbpf then takes the kernel's names of registers, which kernel.h has */
#define BPF_USDT_MAX_SPEC_CNT 4096
/* Only for kernels without cookies, where hz does not run. */
#define BPF_USDT_MAX_IP_CNT 1
#include "kernel.h"
#include "vocabulary.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/usdt.bpf.h>

char LICENSE[] SEC("license") = "GPL";

const volatile struct UsdtConfig CONFIG SEC(".rodata.config");

/* 1 once nothing more is to be recorded: to take many probes away takes a second. */
__u32 IS_STOPPED SEC(".data.control");

/* One ring for all CPUs: a hit costs half a microsecond or more, so that no machine gets near what
 * the ring's lock allows. 8 MiB hold 95,325 records. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} EVENTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HZ_USDT_SITES);
	__type(key, __u32);
	__type(value, struct Loss);
} LEDGER SEC(".maps");

/* Processes of the target, for FILTER_PIDS. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8);
} PIDS SEC(".maps");

/* Programs on user probes can be preempted by another thread that hits one on the same CPU. */
#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

static __always_inline bool is_target(__u32 pid)
{
	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP)
		return bpf_get_current_ancestor_cgroup_id(CONFIG.cgroup_level) == CONFIG.cgroup_id;
	return bpf_map_lookup_elem(&PIDS, &pid) != NULL;
}

static __always_inline void read_args(struct pt_regs *ctx, struct UsdtHit *record)
{
	int count = bpf_usdt_arg_cnt(ctx);
	__u32 unread = 0;

	record->count = count < 0 ? 0 : count;
#pragma unroll
	for (int place = 0; place < USDT_ARGS; place++) {
		long value = 0;

		if (place < count && bpf_usdt_arg(ctx, place, &value))
			unread |= 1 << place;
		record->args[place] = value;
	}
	record->unread = unread;
}

SEC("usdt")
int usdt_hit(struct pt_regs *ctx)
{
	__u32 site = HZ_USDT_HIT;
	struct Loss *ledger = bpf_map_lookup_elem(&LEDGER, &site);
	__u64 thread = bpf_get_current_pid_tgid();
	struct UsdtHit *record;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	if (*(volatile __u32 *)&IS_STOPPED || !is_target(thread >> 32)) {
		COUNT(ledger->filtered);
		return 0;
	}
	record = bpf_ringbuf_reserve(&EVENTS, sizeof(*record), 0);
	if (!record) {
		COUNT(ledger->ring_full);
		return 0;
	}
	record->header.time_ns = bpf_ktime_get_ns();
	record->header.kind = HZ_KIND_USDT;
	record->header.cpu = bpf_get_smp_processor_id();
	record->header.tid = thread;
	record->header.pid = thread >> 32;
	record->header.arg = bpf_usdt_cookie(ctx);
	read_args(ctx, record);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	COUNT(ledger->submitted);
	return 0;
}

/* Makes the children of targets targets. The parent is `current`, also under CLONE_PARENT. */
SEC("tp_btf/sched_process_fork")
int usdt_fork(__u64 *ctx)
{
	struct task_struct *child = (void *)ctx[1];
	__u32 parent_pid = bpf_get_current_pid_tgid() >> 32;
	__u32 child_pid = child->tgid;
	__u32 site = HZ_USDT_FORK;
	struct Loss *ledger = bpf_map_lookup_elem(&LEDGER, &site);
	__u8 one = 1;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	if (child_pid == parent_pid || !is_target(parent_pid))
		COUNT(ledger->filtered);
	else if (bpf_map_update_elem(&PIDS, &child_pid, &one, BPF_ANY))
		COUNT(ledger->read_failed);
	else
		COUNT(ledger->submitted);
	return 0;
}

/* Forgets a process that is gone, before its number can be another's. Its leader's task is freed
 * last; `sched_process_exit` would come too early for a leader that exits before its threads. */
SEC("tp_btf/sched_process_free")
int usdt_free(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	__u32 pid = task->tgid;

	if (task->pid == pid)
		bpf_map_delete_elem(&PIDS, &pid);
	return 0;
}
