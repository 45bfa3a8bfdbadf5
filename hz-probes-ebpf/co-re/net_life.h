/* The lives of sockets: states, resets, ends. */
#pragma once
#include "net_owner.h"

/* States that a thread brings about itself, so that `current` is the one. */
static __always_inline __u32 source_of_state(int new_state)
{
	if (new_state == TCP_SYN_SENT)
		return NET_OWNER_CONNECTS;
	return new_state == TCP_LISTEN ? NET_OWNER_LISTENS : 0;
}

SEC("tp_btf/inet_sock_set_state")
int net_state(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	int old_state = ctx[1];
	int new_state = ctx[2];
	struct Loss *ledger = row(HZ_SITE_NET_STATE);
	__u32 source = source_of_state(new_state);
	__u64 now = bpf_ktime_get_ns();
	struct socket_state *state;
	struct NetState *record;
	struct tcp_sock *tp;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	/* A listener's child begins as its copy, and has neither addresses nor its number yet. */
	if (sk->sk_protocol != IPPROTO_TCP ||
	    (old_state == TCP_LISTEN && new_state == TCP_SYN_RECV)) {
		COUNT(ledger->filtered);
		return 0;
	}
	state = state_of(sk, ledger, source && is_target_now(), now);
	if (!state)
		return 0;
	if (source)
		use(sk, state, source, now);
	tp = bpf_skc_to_tcp_sock(sk);
	/* Only a thread closes: what it queues is the FIN. */
	if (tp && (new_state == TCP_FIN_WAIT1 || new_state == TCP_LAST_ACK))
		note_send(state, tp->write_seq, now);
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_NET_STATE, now);
	fill_owner(&record->header, state);
	record->header.arg = (__u32)old_state << 8 | (__u32)new_state;
	record->cookie = bpf_get_socket_cookie(sk);
	record->local_port = sk->__sk_common.skc_num;
	record->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	record->error = sk->sk_err;
	/* `connect` enters SYN_SENT, looks for a port, and chooses where its numbers begin when it has one. */
	if (old_state == TCP_SYN_SENT && new_state == TCP_CLOSE && !record->error && tp &&
	    !tp->write_seq)
		record->error = NET_NO_PORT;
	note_port(sk);
	submit(ledger, record);
	return 0;
}

static __always_inline void fill_reset(struct NetReset *record, struct sock *sk)
{
	record->cookie = bpf_get_socket_cookie(sk);
	fill_addresses(record->local, record->peer, &sk->__sk_common);
	record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	record->local_port = sk->__sk_common.skc_num;
	record->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	record->state = sk->__sk_common.skc_state;
}

static __always_inline int on_reset(struct sock *sk, __u32 direction, __u32 reason)
{
	struct Loss *ledger = row(HZ_SITE_NET_RESET);
	__u64 now = bpf_ktime_get_ns();
	struct socket_state *state;
	struct NetReset *record;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	state = bpf_sk_storage_get(&SOCKETS, sk, NULL, 0);
	/* One that waits for its time to be over is no whole socket any more. */
	if (!state && CONFIG.filter != FILTER_ALL && !is_port_known(sk->__sk_common.skc_num)) {
		COUNT(ledger->filtered);
		return 0;
	}
	if (state)
		tell_socket(sk, state, now);
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_NET_RESET, now);
	fill_owner(&record->header, state);
	record->header.arg = direction;
	fill_reset(record, sk);
	record->reason = reason;
	submit(ledger, record);
	return 0;
}

/* Without a socket there is only the packet, whose drop says the rest. */
static __always_inline int reset_without_socket(void)
{
	return not_inet(HZ_SITE_NET_RESET);
}

SEC("tp_btf/tcp_send_reset")
int net_send_reset(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (!sk)
		return reset_without_socket();
	return on_reset(sk, NET_RESET_SENT, CONFIG.reset_has_reason ? ctx[2] : UINT32_MAX);
}

SEC("tp_btf/tcp_receive_reset")
int net_receive_reset(__u64 *ctx)
{
	return on_reset((void *)ctx[0], NET_RESET_RECEIVED, UINT32_MAX);
}

SEC("tp_btf/tcp_cong_state_set")
int net_congestion(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	__u8 new_state = ctx[1];
	struct Loss *ledger = row(HZ_SITE_NET_CONGESTION);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 now = bpf_ktime_get_ns();
	struct NetCongestion *record;
	struct socket_state *state;
	__u8 old_state;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	if (!tp) {
		COUNT(ledger->filtered);
		return 0;
	}
	old_state = BPF_CORE_READ_BITFIELD(&tp->inet_conn, icsk_ca_state);
	/* Disorder comes and goes with every reordered packet and says little. */
	if (old_state == new_state || (old_state < TCP_CA_RECOVERY && new_state < TCP_CA_RECOVERY)) {
		COUNT(ledger->filtered);
		return 0;
	}
	state = state_of(sk, ledger, false, now);
	if (!state)
		return 0;
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_NET_CONGESTION, now);
	fill_owner(&record->header, state);
	record->header.arg = (__u32)old_state << 8 | new_state;
	record->cookie = bpf_get_socket_cookie(sk);
	record->cwnd = tp->snd_cwnd;
	record->ssthresh = tp->snd_ssthresh;
	/* An undo, and nothing else on the way back to open, forgets where the loss began; but for
	 * the end of a handshake. */
	record->is_undone = old_state >= TCP_CA_RECOVERY && new_state < TCP_CA_RECOVERY &&
			    !tp->undo_marker && sk->__sk_common.skc_state != TCP_SYN_SENT &&
			    sk->__sk_common.skc_state != TCP_SYN_RECV;
	record->spurious = tp->dsack_dups;
	submit(ledger, record);
	return 0;
}

/* A segment came: its window, not yet taken over, against the one before. */
SEC("tp_btf/tcp_probe")
int net_window(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct sk_buff *skb = (void *)ctx[1];
	struct Loss *ledger = row(HZ_SITE_NET_WINDOW);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct socket_state *state;
	struct NetWindow *record;
	__u16 window = 1;
	__u64 now;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	if (!tp) {
		COUNT(ledger->filtered);
		return 0;
	}
	/* 14 bytes into the TCP header. */
	if (bpf_probe_read_kernel(&window, sizeof(window),
				  skb->head + skb->transport_header + 14)) {
		COUNT(ledger->read_failed);
		return 0;
	}
	if (!window == !tp->snd_wnd) {
		COUNT(ledger->filtered);
		return 0;
	}
	now = bpf_ktime_get_ns();
	state = state_of(sk, ledger, false, now);
	if (!state)
		return 0;
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_NET_WINDOW, now);
	fill_owner(&record->header, state);
	record->header.arg = window ? NET_WINDOW_OPEN : NET_WINDOW_CLOSED;
	record->cookie = bpf_get_socket_cookie(sk);
	record->unsent_bytes = tp->write_seq - tp->snd_nxt;
	record->unacked_bytes = tp->snd_nxt - tp->snd_una;
	submit(ledger, record);
	return 0;
}
