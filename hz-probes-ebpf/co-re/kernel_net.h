/* The kernel's types of sockets and packets, cut to the fields that hz reads. As in kernel.h only
 * names and types matter. */
#pragma once
#include "kernel.h"

/* include/net/tcp_states.h */
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT	2
#define TCP_SYN_RECV	3
#define TCP_FIN_WAIT1	4
#define TCP_CLOSE	7
#define TCP_LAST_ACK	9
#define TCP_LISTEN	10

#define AF_INET	    2
#define AF_INET6    10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

/* include/net/tcp.h and inet_connection_sock.h */
#define TCP_CA_RECOVERY	     3
#define TCP_CA_LOSS	     4
#define ICSK_TIME_LOSS_PROBE 5

/* include/net/sock.h: the bit of skc_flags of a socket that no file has any more. */
#define SOCK_DEAD 0

/* include/linux/timer.h: the CPU that a timer is queued on. */
#define TIMER_CPUMASK 0x0003ffff

/* include/linux/netdevice.h: the driver, its byte limit or a reset has stopped the queue. */
#define QUEUE_IS_STOPPED 7

#define BPF_MAP_TYPE_LRU_HASH	9
#define BPF_MAP_TYPE_SK_STORAGE 24
#define BPF_F_CLONE		(1U << 9)
#define BPF_SK_STORAGE_CREATE	1

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
};

struct sock {
	struct sock_common __sk_common;
	atomic_t sk_drops;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	int sk_rcvbuf;
	int sk_err;
	int sk_wmem_queued;
	unsigned long sk_pacing_rate;
	__u16 sk_protocol;
	int sk_sndbuf;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
};

struct socket {
	struct sock *sk;
};

struct file;

struct tcp_congestion_ops {
	char name[16];
};

struct request_sock_queue {
	atomic_t qlen;
};

struct inet_sock {
	struct sock sk;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct request_sock_queue icsk_accept_queue;
	__u32 icsk_rto;
	const struct tcp_congestion_ops *icsk_ca_ops;
	__u8 icsk_ca_state : 5;
	__u8 icsk_retransmits;
	__u8 icsk_pending;
	__u8 icsk_backoff;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 snd_wnd;
	__u32 mss_cache;
	__u32 snd_cwnd;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 copied_seq;
	__u32 rttvar_us;
	__u32 retrans_out;
	__u32 snd_ssthresh;
	__u64 bytes_sent;
	__u8 chrono_type : 2; /* a whole byte in newer kernels */
	__u32 chrono_stat[3];
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 srtt_us;
	__u32 packets_out;
	__u32 rcv_wnd;
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 dsack_dups;
	__u32 undo_marker;
	__u64 bytes_retrans;
	__u32 total_retrans;
};

struct hlist_node {
	struct hlist_node **pprev;
};

struct timer_list {
	struct hlist_node entry;
	__u32 flags;
};

struct request_sock {
	struct sock_common __req_common;
	__u8 num_retrans;
	struct timer_list rsk_timer;
};

struct net_device;

struct netdev_queue {
	struct net_device *dev;
	struct Qdisc *qdisc;
	unsigned long state;
};

struct net_device {
	possible_net_t nd_net;
	int ifindex;
	char name[16];
	struct netdev_queue *_tx;
};

struct Qdisc {
	void *enqueue;
};

struct skb_shared_info {
	unsigned short gso_size;
};

struct sk_buff {
	struct sk_buff *next;
	struct net_device *dev;
	struct sock *sk;
	char cb[48];
	unsigned int len;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 queue_mapping;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
};

struct tcp_skb_cb {
	__u32 seq;
	__u32 end_seq;
	__u16 tcp_gso_segs;
	__u8 tcp_flags;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

#pragma clang attribute pop
