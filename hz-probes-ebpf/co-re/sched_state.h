/* What the `sched` programs share: settings, the state of each CPU, rings, and the way of a record
 * into them. */
#pragma once
#include "kernel.h"
#include "vocabulary.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#ifdef HZ_RAW_TRACEPOINT
#define HOOK(name)	    SEC("raw_tp/" #name)
#define GET(pointer, field) BPF_CORE_READ(pointer, field)
#else
#define HOOK(name)	    SEC("tp_btf/" #name)
#define GET(pointer, field) ((pointer)->field)
#endif

#define PF_KTHREAD  0x00200000 /* include/linux/sched.h */
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

/* The loader reads each CPU's ledger from the start of its part of CPUS, and what is behind it. */
_Static_assert(__builtin_offsetof(struct cpu_state, ledger) == 0, "the ledger is first");
_Static_assert(__builtin_offsetof(struct cpu_state, lost_since_ns) ==
		       HZ_SITES * sizeof(struct Loss),
	       "what was lost and not yet told is behind it");

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
