/* What sockets hold: at the start whose they are, then at a rate and at their end what is in their queues. */
#pragma once
#include "net_owner.h"
#include "net_retransmit.h"

static __always_inline void fill_queues(struct NetSample *record, struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	record->send_memory_bytes = sk->sk_wmem_queued;
	record->send_limit_bytes = sk->sk_sndbuf;
	record->receive_memory_bytes = sk->sk_backlog.rmem_alloc.counter;
	record->drops = sk->sk_drops.counter;
	record->error = sk->sk_err;
	record->state = sk->__sk_common.skc_state;
	if (record->state == TCP_LISTEN) {
		record->unread_bytes = sk->sk_ack_backlog;
		record->receive_limit_bytes = sk->sk_max_ack_backlog;
		record->syn_queue = tp->inet_conn.icsk_accept_queue.qlen.counter;
		record->unsent_bytes = 0;
		record->unacked_bytes = 0;
		return;
	}
	record->unread_bytes = tp->rcv_nxt - tp->copied_seq;
	record->receive_limit_bytes = sk->sk_rcvbuf;
	record->syn_queue = 0;
	record->unsent_bytes = tp->write_seq - tp->snd_nxt;
	record->unacked_bytes = tp->snd_nxt - tp->snd_una;
}

/* Jiffies, whatever the kernel's own are long. */
static __always_inline __u32 jiffies_to_ms(__u32 jiffies)
{
	return (__u64)jiffies * CONFIG.jiffy_ns / 1000000;
}

static __always_inline void fill_life(struct NetSample *record, struct tcp_sock *tp)
{
	record->sent_bytes = tp->bytes_sent - tp->bytes_retrans;
	record->acked_bytes = tp->bytes_acked;
	record->received_bytes = tp->bytes_received;
	record->retransmitted_bytes = tp->bytes_retrans;
	record->retransmitted = tp->total_retrans;
	record->spurious = tp->dsack_dups;
	record->window_limited_ms = jiffies_to_ms(tp->chrono_stat[1]);
	record->buffer_limited_ms = jiffies_to_ms(tp->chrono_stat[2]);
	record->busy_ms = jiffies_to_ms(tp->chrono_stat[0]) + record->window_limited_ms +
			  record->buffer_limited_ms;
}

static __always_inline void fill_sample(struct NetSample *record, struct tcp_sock *tp,
					const struct socket_state *state, __u64 now)
{
	struct inet_connection_sock *icsk = &tp->inet_conn;

	fill_header(&record->header, HZ_KIND_NET_SAMPLE, now);
	fill_owner(&record->header, state);
	record->cookie = state->cookie;
	record->last_receive_ns = state->received_ns;
	record->pacing_bytes_per_s = icsk->icsk_inet.sk.sk_pacing_rate;
	fill_queues(record, tp);
	fill_life(record, tp);
	record->own_window_bytes = tp->rcv_wnd;
	record->peer_window_bytes = tp->snd_wnd;
	record->cwnd = tp->snd_cwnd;
	record->ssthresh = tp->snd_ssthresh;
	record->srtt_us = tp->srtt_us >> 3;
	record->rttvar_us = tp->rttvar_us >> 2;
	record->rto_us = jiffies_to_us(icsk->icsk_rto);
	record->packets_out = tp->packets_out;
	record->lost_out = tp->lost_out;
	record->mss = tp->mss_cache;
	record->congestion = BPF_CORE_READ_BITFIELD(icsk, icsk_ca_state);
	record->limit = BPF_CORE_READ_BITFIELD(tp, chrono_type);
	record->pending = icsk->icsk_pending;
	record->send_bursts = state->send_bursts;
	record->receive_bursts = state->receive_bursts;
}

SEC("tp_btf/tcp_destroy_sock")
int net_destroy(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct Loss *ledger = row(HZ_SITE_NET_DESTROY);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 now = bpf_ktime_get_ns();
	struct socket_state *state;
	struct NetSample *record;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	/* One that was never more than made has nothing to say. */
	state = tp ? bpf_sk_storage_get(&SOCKETS, sk, NULL, 0) : NULL;
	if (!tp || !state || !state->cookie) {
		COUNT(ledger->filtered);
		return 0;
	}
	tell_socket(sk, state, now);
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_sample(record, tp, state, now);
	record->header.arg = NET_SAMPLE_LAST;
	submit(ledger, record);
	return 0;
}

static __always_inline bool is_target_task(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);

	if (CONFIG.filter == FILTER_ALL)
		return true;
	if (CONFIG.filter == FILTER_CGROUP)
		return in_cgroup(task);
	return bpf_map_lookup_elem(&PIDS, &pid) != NULL;
}

/* One holder of a socket: describes the socket, or says that a further process holds it. True if
 * the reader's buffer has no room: the kernel calls again. */
static __always_inline bool tell_holder(struct seq_file *seq, struct sock *sk,
					struct socket_state *state, struct task_struct *task)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct NetSocket record = {};
	struct NetOwner owner = {};
	__u64 now = bpf_ktime_get_ns();
	__u32 pid = BPF_CORE_READ(task, tgid);
	__u32 tid = BPF_CORE_READ(task, pid);

	if (state->cookie == cookie) {
		fill_header(&owner.header, HZ_KIND_NET_OWNER, now);
		owner.header.tid = tid;
		owner.header.pid = pid;
		owner.header.arg = NET_OWNER_HELD;
		owner.cookie = cookie;
		return bpf_seq_write(seq, &owner, sizeof(owner));
	}
	fill_socket(&record, sk, state, now);
	record.header.tid = tid;
	record.header.pid = pid;
	record.header.arg = NET_OWNER_HELD;
	record.flags = NET_SOCKET_WAS_THERE;
	if (tp)
		fill_algorithm(&record, tp);
	if (bpf_seq_write(seq, &record, sizeof(record)))
		return true;
	state->pid = pid;
	state->tid = tid;
	state->used_ns = now;
	state->source = NET_OWNER_HELD;
	state->cookie = cookie;
	note_port(sk);
	return false;
}

SEC("iter/task_file")
int net_holders(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct Loss *ledger = row(HZ_SITE_NET_HOLDERS);
	struct socket_state *state;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file || !ledger)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !is_inet(sk))
		return 0;
	if (!is_target_task(task)) {
		COUNT(ledger->seen);
		COUNT(ledger->filtered);
		return 0;
	}
	state = bpf_sk_storage_get(&SOCKETS, sk, NULL, BPF_SK_STORAGE_CREATE);
	if (!state) {
		COUNT(ledger->seen);
		COUNT(ledger->read_failed);
		return 0;
	}
	state->is_target = 1;
	if (tell_holder(ctx->meta->seq, sk, state, task))
		return 1;
	COUNT(ledger->seen);
	COUNT(ledger->submitted);
	return 0;
}

/* Sees the network namespace of who opens it. */
SEC("iter/tcp")
int net_sample(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct Loss *ledger = row(HZ_SITE_NET_SAMPLE);
	struct seq_file *seq = ctx->meta->seq;
	struct NetSample record = {};
	struct socket_state *state;
	struct tcp_sock *tp;

	if (!common || !ledger)
		return 0;
	tp = bpf_skc_to_tcp_sock(common);
	/* Requests, and those that wait for their time to be over. */
	if (!tp)
		return 0;
	state = bpf_sk_storage_get(&SOCKETS, tp, NULL,
				   CONFIG.filter == FILTER_ALL ? BPF_SK_STORAGE_CREATE : 0);
	if (!state) {
		COUNT(ledger->seen);
		COUNT(ledger->filtered);
		return 0;
	}
	tell_socket((struct sock *)tp, state, bpf_ktime_get_ns());
	fill_sample(&record, tp, state, bpf_ktime_get_ns());
	record.header.arg = NET_SAMPLE_PERIODIC;
	if (bpf_seq_write(seq, &record, sizeof(record)))
		return 1;
	COUNT(ledger->seen);
	COUNT(ledger->submitted);
	return 0;
}
