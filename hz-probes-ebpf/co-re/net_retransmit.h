/* What TCP sends again, and why. */
#pragma once
#include "net_owner.h"

static __always_inline __u32 jiffies_to_us(__u32 jiffies)
{
	return (__u64)jiffies * CONFIG.jiffy_ns / 1000;
}

/* A peer that had no memory left may take back the window that it offered (Linux 6.6): what is in flight
 * is then sent again to ask, without being counted as a timeout, for as long as a process has the socket
 * (tcp_retransmit_timer). */
static __always_inline bool is_asking(struct tcp_sock *tp)
{
	struct sock_common *common = &tp->inet_conn.icsk_inet.sk.__sk_common;

	return !tp->snd_wnd && !(common->skc_flags & (1UL << SOCK_DEAD)) &&
	       common->skc_state != TCP_SYN_RECV;
}

/* The kernel has entered the state that makes it retransmit before it does, and taken the timer
 * away before it acts on it; a probe's timer it takes away afterwards (net/ipv4/tcp_timer.c,
 * tcp_send_loss_probe in tcp_output.c). */
static __always_inline __u8 reason_of(struct tcp_sock *tp, __u8 congestion)
{
	__u8 pending = tp->inet_conn.icsk_pending;

	if (tp->inet_conn.icsk_inet.sk.__sk_common.skc_state == TCP_SYN_SENT)
		return NET_RETRANSMIT_SYN;
	if (congestion == TCP_CA_LOSS && pending)
		return NET_RETRANSMIT_SLOW_START;
	if (congestion == TCP_CA_LOSS)
		return is_asking(tp) ? NET_RETRANSMIT_CLOSED : NET_RETRANSMIT_TIMEOUT;
	if (congestion == TCP_CA_RECOVERY)
		return NET_RETRANSMIT_FAST;
	return pending == ICSK_TIME_LOSS_PROBE ? NET_RETRANSMIT_PROBE : NET_RETRANSMIT_OTHER;
}

static __always_inline void fill_sender(struct NetRetransmit *record,
					const struct socket_state *state)
{
	const struct sent *sender = sender_of(state, record->seq);

	record->owner = state->tid ? NET_THREAD_WAS_LAST : 0;
	record->owner_ns = state->used_ns;
	fill_owner(&record->header, state);
	if (sender) {
		record->header.tid = sender->tid;
		record->header.pid = sender->pid;
		record->owner_ns = sender->time_ns;
		record->owner = NET_THREAD_QUEUED_IT;
	} else if (record->reason == NET_RETRANSMIT_SYN && state->source == NET_OWNER_CONNECTS) {
		record->owner = NET_THREAD_QUEUED_IT;
	}
}

static __always_inline void fill_buffer(struct NetRetransmit *record, struct sk_buff *skb)
{
	struct tcp_skb_cb *cb = (void *)skb->cb;
	__u16 segments = 0;
	__u32 end = 0;

	bpf_core_read(&record->seq, sizeof(record->seq), &cb->seq);
	bpf_core_read(&end, sizeof(end), &cb->end_seq);
	bpf_core_read(&segments, sizeof(segments), &cb->tcp_gso_segs);
	bpf_core_read(&record->tcp_flags, sizeof(record->tcp_flags), &cb->tcp_flags);
	record->bytes = end - record->seq;
	record->segments = segments;
}

static __always_inline void fill_sending(struct NetRetransmit *record, struct tcp_sock *tp)
{
	struct inet_connection_sock *icsk = &tp->inet_conn;

	record->pacing_bytes_per_s = icsk->icsk_inet.sk.sk_pacing_rate;
	record->cwnd = tp->snd_cwnd;
	record->ssthresh = tp->snd_ssthresh;
	record->srtt_us = tp->srtt_us >> 3;
	record->rttvar_us = tp->rttvar_us >> 2;
	record->rto_us = jiffies_to_us(icsk->icsk_rto);
	record->packets_out = tp->packets_out;
	record->lost_out = tp->lost_out;
	record->sacked_out = tp->sacked_out;
	record->retrans_out = tp->retrans_out;
	record->unsent_bytes = tp->write_seq - tp->snd_nxt;
	record->unacked_bytes = tp->snd_nxt - tp->snd_una;
	record->peer_window_bytes = tp->snd_wnd;
	record->congestion = BPF_CORE_READ_BITFIELD(icsk, icsk_ca_state);
	record->reason = reason_of(tp, record->congestion);
	record->state = icsk->icsk_inet.sk.__sk_common.skc_state;
	record->pending = icsk->icsk_pending;
	record->backoff = icsk->icsk_backoff;
	record->timeouts = icsk->icsk_retransmits;
}

SEC("tp_btf/tcp_retransmit_skb")
int net_retransmit(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct sk_buff *skb = (void *)ctx[1];
	struct Loss *ledger = row(HZ_SITE_NET_RETRANSMIT);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 now = bpf_ktime_get_ns();
	struct NetRetransmit *record;
	struct socket_state *state;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	if (!tp) {
		COUNT(ledger->read_failed);
		return 0;
	}
	state = state_of(sk, ledger, false, now);
	if (!state)
		return 0;
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_NET_RETRANSMIT, now);
	record->header.arg = CONFIG.retransmit_has_error ? ctx[2] : 0;
	record->cookie = bpf_get_socket_cookie(sk);
	record->reserved = 0;
	fill_buffer(record, skb);
	fill_sending(record, tp);
	fill_sender(record, state);
	submit(ledger, record);
	return 0;
}

/* The request's timer has run out while its handler runs; when the client asks again, it still
 * runs (reqsk_timer_handler, tcp_check_req). Both ends begin with the same second, so that the client
 * often asks while the handler runs: then on another CPU than the one that the timer belongs to, for
 * softirqs do not interrupt each other. */
static __always_inline __u32 synack_reason(struct request_sock *request)
{
	__u32 cpu = request->rsk_timer.flags & TIMER_CPUMASK;

	return request->rsk_timer.entry.pprev || cpu != bpf_get_smp_processor_id() ?
		       NET_RETRANSMIT_SYNACK_ASKED :
		       NET_RETRANSMIT_SYNACK;
}

SEC("tp_btf/tcp_retransmit_synack")
int net_synack(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct request_sock *request = (void *)ctx[1];
	struct Loss *ledger = row(HZ_SITE_NET_SYNACK);
	__u64 now = bpf_ktime_get_ns();
	struct socket_state *state;
	struct NetSynAck *record;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	state = state_of(sk, ledger, false, now);
	if (!state)
		return 0;
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_NET_SYNACK, now);
	fill_owner(&record->header, state);
	record->header.arg = synack_reason(request);
	record->cookie = bpf_get_socket_cookie(sk);
	fill_addresses(record->local, record->peer, &request->__req_common);
	record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	record->local_port = request->__req_common.skc_num;
	record->peer_port = bpf_ntohs(request->__req_common.skc_dport);
	record->earlier = request->num_retrans;
	record->reserved = 0;
	submit(ledger, record);
	return 0;
}
