/* What the `net` programs share: settings, what they keep of each socket, the ring and the ledger. */
#pragma once
#include "kernel_net.h"
#include "vocabulary.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

/* Sends of a socket that are remembered: what is in flight, for most senders. */
#define SENDS 16
/* Sends of one thread that follow each other faster are one: a poll of a task lasts about as long. */
#define SEND_MERGE_NS 100000

const volatile struct NetConfig CONFIG SEC(".rodata.config");

/* Who queued the bytes from `seq` on. */
struct sent {
	__u64 time_ns; /* 0: nobody yet */
	__u32 seq;
	__u32 tid;
	__u32 pid;
	__u32 reserved;
};

struct socket_state {
	__u64 cookie; /* as it was told; a listener's in what its children begin with */
	__u64 used_ns;
	__u64 received_ns;
	__u32 pid; /* the process that used it last, 0: none */
	__u32 tid;
	__u32 source; /* how that is known, NET_OWNER_* */
	__u32 is_target;
	__u32 next;
	__u32 send_bursts; /* sends that followed a receive */
	__u32 receive_bursts; /* receives that followed a send */
	__u32 did_last; /* NET_OWNER_SENDS or NET_OWNER_RECEIVES, 0: neither */
	__u32 reserved;
	struct sent sends[SENDS];
};

/* Freed with its socket, so it is as large as the sockets are many. A connection begins with its
 * listener's. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_state);
} SOCKETS SEC(".maps");

/* One ring for all CPUs: a record costs a microsecond of TCP or more. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} EVENTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HZ_NET_SITES);
	__type(key, __u32);
	__type(value, struct Loss);
} LEDGER SEC(".maps");

/* Processes of the target, for FILTER_PIDS: the map of `sched`, which keeps it up to date. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u8);
} PIDS SEC(".maps");

/* 1: a socket of the target has had this port. Packets of others that have it too are told apart
 * when the recording is read. */
__u8 PORTS[65536];

/* Linux 6.1 knows no bounds of a number whose bytes were swapped, and the compiler drops a mask that
 * the type makes needless. */
static __always_inline bool is_port_known(__u32 port)
{
	asm volatile("" : "+r"(port));
	return PORTS[port & 0xffff];
}

/* Softirqs interrupt programs that run in threads. */
#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

static __always_inline struct Loss *row(__u32 site)
{
	return bpf_map_lookup_elem(&LEDGER, &site);
}

/* Reserves a record of `size` bytes, or counts it as lost. */
static __always_inline void *reserve(struct Loss *ledger, __u64 size)
{
	void *record = bpf_ringbuf_reserve(&EVENTS, size, 0);

	if (!record)
		COUNT(ledger->ring_full);
	return record;
}

static __always_inline void submit(struct Loss *ledger, void *record)
{
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	COUNT(ledger->submitted);
}

static __always_inline void fill_header(struct Header *header, __u16 kind, __u64 now)
{
	header->time_ns = now;
	header->kind = kind;
	header->cpu = bpf_get_smp_processor_id();
}

/* A record about a socket is about who used it last, if that is known. */
static __always_inline void fill_owner(struct Header *header, const struct socket_state *state)
{
	header->tid = state ? state->tid : 0;
	header->pid = state ? state->pid : 0;
}

/* Writes an IPv4 address as IPv6 does. */
static __always_inline void map_address(__u8 *to, __be32 address)
{
	__u32 words[4] = { 0, 0, bpf_htonl(0xffff), address };

	__builtin_memcpy(to, words, sizeof(words));
}

static __always_inline void fill_addresses(__u8 *local, __u8 *peer, struct sock_common *common)
{
	if (BPF_CORE_READ(common, skc_family) == AF_INET6) {
		bpf_core_read(local, 16, &common->skc_v6_rcv_saddr);
		bpf_core_read(peer, 16, &common->skc_v6_daddr);
		return;
	}
	map_address(local, BPF_CORE_READ(common, skc_rcv_saddr));
	map_address(peer, BPF_CORE_READ(common, skc_daddr));
}
