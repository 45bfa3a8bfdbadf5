/* Whose socket it is. Only hooks that run in the thread itself ask who that is: a packet may come
 * while anybody runs. */
#pragma once
#include "net_state.h"
#include "cgroup.h"

static __always_inline bool is_target_now(void)
{
	__u32 pid;

	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP)
		return bpf_get_current_ancestor_cgroup_id(CONFIG.cgroup_level) == CONFIG.cgroup_id;
	pid = bpf_get_current_pid_tgid() >> 32;
	return bpf_map_lookup_elem(&PIDS, &pid) != NULL;
}

static __always_inline void note_port(struct sock *sk)
{
	PORTS[sk->__sk_common.skc_num] = 1;
}

static __always_inline void fill_socket(struct NetSocket *record, struct sock *sk,
					const struct socket_state *state, __u64 now)
{
	fill_header(&record->header, HZ_KIND_NET_SOCKET, now);
	fill_owner(&record->header, state);
	record->header.arg = state->source;
	record->cookie = bpf_get_socket_cookie(sk);
	fill_addresses(record->local, record->peer, &sk->__sk_common);
	record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	record->local_port = sk->__sk_common.skc_num;
	record->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	record->family = sk->__sk_common.skc_family;
	record->state = sk->__sk_common.skc_state;
	record->flags = 0;
	record->protocol = sk->sk_protocol;
	__builtin_memset(record->algorithm, 0, sizeof(record->algorithm));
}

static __always_inline void fill_algorithm(struct NetSocket *record, struct tcp_sock *tp)
{
	const struct tcp_congestion_ops *ops = tp->inet_conn.icsk_ca_ops;

	bpf_probe_read_kernel_str(record->algorithm, sizeof(record->algorithm), &ops->name);
}

/* A connection begins with what its listener had: it is the target's if that was, and the
 * listener's processes have it until one of them uses it. */
static __always_inline void inherit(struct socket_state *state, __u64 cookie)
{
	if (state->cookie && state->cookie != cookie) {
		state->source = state->pid ? NET_OWNER_OF_LISTENER : 0;
		state->received_ns = 0;
		state->send_bursts = 0;
		state->receive_bursts = 0;
		state->did_last = 0;
		state->next = 0;
		state->cookie = 0;
	}
}

/* Describes a socket before the first record that names it. */
static __always_inline void tell_socket(struct sock *sk, struct socket_state *state, __u64 now)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct NetSocket *record;
	struct Loss *ledger;

	if (state->cookie == cookie)
		return;
	inherit(state, cookie);
	ledger = row(HZ_SITE_NET_SOCKET);
	if (!ledger)
		return;
	COUNT(ledger->seen);
	note_port(sk);
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return;
	fill_socket(record, sk, state, now);
	if (tp)
		fill_algorithm(record, tp);
	submit(ledger, record);
	state->cookie = cookie;
}

/* What is kept of a socket of the target; counts in `ledger` why there is nothing. */
static __always_inline struct socket_state *state_of(struct sock *sk, struct Loss *ledger,
						     bool is_to_be, __u64 now)
{
	bool may_create = is_to_be || CONFIG.filter == FILTER_ALL;
	struct socket_state *state;

	state = bpf_sk_storage_get(&SOCKETS, sk, NULL, may_create ? BPF_SK_STORAGE_CREATE : 0);
	if (!state) {
		if (may_create)
			COUNT(ledger->read_failed);
		else
			COUNT(ledger->filtered);
		return NULL;
	}
	if (may_create)
		state->is_target = 1;
	tell_socket(sk, state, now);
	return state;
}

/* The running thread uses a socket. True if a record says so: the process is another than before. */
static __always_inline void use(struct sock *sk, struct socket_state *state, __u32 source,
				__u64 now)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct Loss *ledger = row(HZ_SITE_NET_OWNER);
	__u32 pid = thread >> 32;
	struct NetOwner *record;
	bool is_known;

	if (!ledger)
		return;
	/* What a process had, or had from a listener, it now uses: worth saying once. */
	is_known = state->pid == pid && state->source != NET_OWNER_HELD &&
		   state->source != NET_OWNER_OF_LISTENER;
	state->tid = thread;
	state->used_ns = now;
	COUNT(ledger->seen);
	if (is_known) {
		COUNT(ledger->filtered);
		return;
	}
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return;
	state->pid = pid;
	state->source = source;
	fill_header(&record->header, HZ_KIND_NET_OWNER, now);
	fill_owner(&record->header, state);
	record->header.arg = source;
	record->cookie = bpf_get_socket_cookie(sk);
	submit(ledger, record);
}

/* Remembers that the running thread queues the bytes from `seq` on. */
static __always_inline void note_send(struct socket_state *state, __u32 seq, __u64 now)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct sent *last = &state->sends[(state->next - 1) & (SENDS - 1)];
	struct sent *entry = &state->sends[state->next & (SENDS - 1)];

	if (state->next && last->tid == (__u32)thread && now - last->time_ns < SEND_MERGE_NS)
		return;
	entry->time_ns = now;
	entry->seq = seq;
	entry->tid = thread;
	entry->pid = thread >> 32;
	state->next++;
}

/* Who queued the byte `seq`: the last that began at or before it. From the newest on, and out at the
 * first that fits: what a comparison of all would ask of the verifier is too much for Linux 6.1. */
static __always_inline const struct sent *sender_of(const struct socket_state *state, __u32 seq)
{
	__u32 next = state->next;
	__u32 back;

	for (back = 1; back <= SENDS; back++) {
		const struct sent *entry = &state->sends[(next - back) & (SENDS - 1)];

		if (back > next)
			return NULL;
		if ((__s32)(seq - entry->seq) >= 0)
			return entry;
	}
	return NULL;
}

static __always_inline int on_send(struct sock *sk, __u32 back)
{
	struct Loss *ledger = row(HZ_SITE_NET_SEND);
	__u64 now = bpf_ktime_get_ns();
	struct socket_state *state;
	struct tcp_sock *tp;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	state = state_of(sk, ledger, is_target_now(), now);
	if (!state)
		return 0;
	COUNT(ledger->filtered);
	use(sk, state, NET_OWNER_SENDS, now);
	if (state->did_last != NET_OWNER_SENDS) {
		state->did_last = NET_OWNER_SENDS;
		state->send_bursts++;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		note_send(state, tp->write_seq - back, now);
	return 0;
}

static __always_inline bool is_inet(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;
	__u16 protocol = sk->sk_protocol;

	return (family == AF_INET || family == AF_INET6) &&
	       (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP);
}

/* Counts a use of a socket that is none of TCP and UDP. */
static __always_inline int not_inet(__u32 site)
{
	struct Loss *ledger = row(site);

	if (ledger) {
		COUNT(ledger->seen);
		COUNT(ledger->filtered);
	}
	return 0;
}

/* `has_some`: bytes came; a look at an empty queue is a use, but no receive. */
static __always_inline int on_receive(struct sock *sk, bool has_some)
{
	struct Loss *ledger = row(HZ_SITE_NET_RECEIVE);
	__u64 now = bpf_ktime_get_ns();
	struct socket_state *state;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	state = state_of(sk, ledger, is_target_now(), now);
	if (!state)
		return 0;
	COUNT(ledger->filtered);
	use(sk, state, NET_OWNER_RECEIVES, now);
	if (!has_some)
		return 0;
	state->received_ns = now;
	if (state->did_last != NET_OWNER_RECEIVES) {
		state->did_last = NET_OWNER_RECEIVES;
		state->receive_bursts++;
	}
	return 0;
}

/* Under the socket's lock, before bytes are queued, for each buffer (Linux 6.16). */
SEC("tp_btf/tcp_sendmsg_locked")
int net_send_locked(__u64 *ctx)
{
	return on_send((void *)ctx[0], 0);
}

/* After a send (Linux 6.3), where the former is missing. Bytes that are retransmitted before their
 * send has returned have no thread then. */
SEC("tp_btf/sock_send_length")
int net_send_length(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	int length = ctx[1];

	if (!is_inet(sk) || length <= 0)
		return not_inet(HZ_SITE_NET_SEND);
	return on_send(sk, sk->sk_protocol == IPPROTO_TCP ? length : 0);
}

/* Where neither is there. */
SEC("fentry/tcp_sendmsg_locked")
int net_send_function(__u64 *ctx)
{
	return on_send((void *)ctx[0], 0);
}

/* What sendfile calls before Linux 6.5. */
SEC("fentry/tcp_sendpage_locked")
int net_sendpage_function(__u64 *ctx)
{
	return on_send((void *)ctx[0], 0);
}

SEC("tp_btf/sock_recv_length")
int net_receive_length(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (!is_inet(sk))
		return not_inet(HZ_SITE_NET_RECEIVE);
	return on_receive(sk, (int)ctx[1] > 0);
}

/* Before it is known whether there is something. */
SEC("fentry/tcp_recvmsg")
int net_receive_function(__u64 *ctx)
{
	return on_receive((void *)ctx[0], true);
}

/* In the thread that accepts, with what it accepts. */
SEC("fexit/inet_csk_accept")
int net_accept_function(__u64 *ctx)
{
	struct sock *sk = CONFIG.accept_has_two ? (void *)ctx[2] : (void *)ctx[4];
	struct Loss *ledger = row(HZ_SITE_NET_ACCEPT);
	__u64 now = bpf_ktime_get_ns();
	struct socket_state *state;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	if (!sk) {
		COUNT(ledger->filtered);
		return 0;
	}
	state = state_of(sk, ledger, is_target_now(), now);
	if (!state)
		return 0;
	COUNT(ledger->filtered);
	use(sk, state, NET_OWNER_ACCEPTS, now);
	return 0;
}
