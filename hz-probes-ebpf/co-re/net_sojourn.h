/* How long packets wait in a queueing discipline, from when they come to it until it gives them to the
 * device. Nothing is written for a packet: sums are kept, of each device and of each socket.
 *
 * A packet is noted before it is queued: afterwards another CPU may have taken it out already, and a
 * discipline that cuts it into smaller ones has freed it. It is known again by its address together
 * with its length and where its bytes are in their stream: addresses come back soon.
 *
 * Blind spots: a packet without a socket that the discipline cuts; packets behind the first BULK of
 * those that leave together. Both leave as unmatched. */
#pragma once
#include "histogram.h"
#include "net_owner.h"

/* Packets that wait at the same time; the longest forgotten make room. */
#define QUEUED_MAX 16384
/* Larger packets of one socket that wait to leave in pieces. */
#define WHOLES 32
/* Packets that leave together and are looked at. */
#define BULK 64

struct queued {
	__u64 time_ns;
	__u64 cookie; /* the socket's, 0: none */
	__u32 netns;
	__u32 device;
	__u32 bytes;
	__u32 position; /* of its bytes: TCP's sequence number */
};

/* A packet larger than a segment. */
struct whole {
	__u64 time_ns; /* 0: none yet */
	__u32 begin;
	__u32 end;
};

struct wholes {
	__u32 next;
	__u32 reserved;
	struct whole wholes[WHOLES];
};

struct device_key {
	__u32 netns;
	__u32 device;
};

/* What of a device is told, and behind it the histogram, which is told in parts. */
struct device_waits {
	struct NetSojourn told;
	__u64 buckets[BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, QUEUED_MAX);
	__type(key, __u64); /* the packet's address */
	__type(value, struct queued);
} QUEUED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, __u64); /* the socket's number */
	__type(value, struct wholes);
} WHOLE_PACKETS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct device_key);
	__type(value, struct device_waits);
} DEVICES SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* the socket's number */
	__type(value, struct NetQueued);
} SOCKET_WAITS SEC(".maps");

/* The packet that this CPU is about to queue, until it has. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} COMING SEC(".maps");

/* What a device and a socket begin with: too large for a program's stack. */
static const struct device_waits NO_WAITS;
static const struct wholes NO_WHOLES;

static __always_inline __u64 *coming(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&COMING, &zero);
}

/* Whether packets to the device wait anywhere: lo and veth have no queue. */
static __always_inline bool has_queue(struct sk_buff *skb, struct net_device *device)
{
	struct netdev_queue *queue = device->_tx;
	__u32 place = skb->queue_mapping;

	if (!place)
		return queue->qdisc->enqueue;
	/* Linux 6.1 allows no sums with a pointer that it knows. */
	queue = BPF_CORE_READ(device, _tx);
	queue = (void *)queue + place * bpf_core_type_size(struct netdev_queue);
	return BPF_CORE_READ(queue, qdisc, enqueue);
}

/* The number of the packet's socket, which it has since it was told; 0: none. */
static __always_inline __u64 cookie_of(struct sock *sk)
{
	return sk ? BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) : 0;
}

/* Behind the ports of TCP and of UDP; in ICMP it is the request's number. */
static __always_inline __u32 position_of(struct sk_buff *skb)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	__u16 transport = BPF_CORE_READ(skb, transport_header);
	__be32 position = 0;

	bpf_probe_read_kernel(&position, sizeof(position), head + transport + 4);
	return bpf_ntohl(position);
}

/* Bytes of a TCP packet behind its headers. */
static __always_inline __u32 payload_of(struct sk_buff *skb)
{
	unsigned char *transport = skb->head + skb->transport_header;
	__u8 words = 0;

	if (bpf_probe_read_kernel(&words, sizeof(words), transport + 12))
		return 0;
	return skb->len - (__u32)(transport - skb->data) - (words >> 4) * 4;
}

static __always_inline bool is_whole(struct sk_buff *skb)
{
	struct skb_shared_info *shared = (void *)(skb->head + skb->end);

	return BPF_CORE_READ(shared, gso_size) != 0;
}

static __always_inline void note_whole(struct sk_buff *skb, const struct queued *packet)
{
	struct wholes *wholes = bpf_map_lookup_elem(&WHOLE_PACKETS, &packet->cookie);
	struct whole *whole;

	if (!wholes) {
		bpf_map_update_elem(&WHOLE_PACKETS, &packet->cookie, &NO_WHOLES, BPF_NOEXIST);
		wholes = bpf_map_lookup_elem(&WHOLE_PACKETS, &packet->cookie);
		if (!wholes)
			return;
	}
	whole = &wholes->wholes[wholes->next & (WHOLES - 1)];
	whole->begin = packet->position;
	whole->end = packet->position + payload_of(skb);
	whole->time_ns = packet->time_ns;
	wholes->next++;
}

static __always_inline struct device_waits *waits_of(const struct device_key *key,
						     struct net_device *device)
{
	struct device_waits *waits = bpf_map_lookup_elem(&DEVICES, key);

	if (waits || !device)
		return waits;
	bpf_map_update_elem(&DEVICES, key, &NO_WAITS, BPF_NOEXIST);
	waits = bpf_map_lookup_elem(&DEVICES, key);
	if (waits) {
		waits->told.netns = key->netns;
		waits->told.device = key->device;
		bpf_probe_read_kernel(waits->told.name, sizeof(waits->told.name), device->name);
	}
	return waits;
}

/* Whether the packet is the target's. A request's and a TIME_WAIT's socket have nothing kept. */
static __always_inline bool is_ours(struct sock *sk)
{
	if (CONFIG.filter == FILTER_ALL)
		return true;
	return sk && bpf_sk_storage_get(&SOCKETS, sk, NULL, 0);
}

SEC("tp_btf/net_dev_queue")
int net_queue(__u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct net_device *device = skb->dev;
	struct queued packet = {};
	struct device_waits *waits;
	struct device_key key = {};
	struct Loss *ledger;
	__u64 *next, address = (__u64)skb;
	struct sock *sk;

	if (!has_queue(skb, device))
		return 0;
	ledger = row(HZ_SITE_NET_QUEUE);
	next = coming();
	if (!ledger || !next)
		return 0;
	COUNT(ledger->seen);
	sk = skb->sk;
	*next = 0;
	if (!is_ours(sk)) {
		COUNT(ledger->filtered);
		return 0;
	}
	key.netns = device->nd_net.net->ns.inum;
	key.device = device->ifindex;
	waits = waits_of(&key, device);
	if (!waits) {
		/* More devices than there is room for. */
		COUNT(ledger->read_failed);
		return 0;
	}
	/* It is summed, no record is written. */
	COUNT(ledger->filtered);
	COUNT(waits->told.came);
	packet.time_ns = bpf_ktime_get_ns();
	packet.cookie = cookie_of(sk);
	packet.netns = key.netns;
	packet.device = key.device;
	packet.bytes = skb->len;
	packet.position = position_of(skb);
	*next = address;
	bpf_map_update_elem(&QUEUED, &address, &packet, BPF_ANY);
	if (packet.cookie && is_whole(skb))
		note_whole(skb, &packet);
	return 0;
}

/* Afterwards: the packet itself may be gone. */
SEC("tp_btf/qdisc_enqueue")
int net_enqueued(__u64 *ctx)
{
	__u64 *next = coming();

	if (next)
		*next = 0;
	return 0;
}

static __always_inline void add_wait(struct device_waits *waits, __u64 cookie, __u64 wait_ns,
				     __u64 now)
{
	__u32 bucket = bucket_of(wait_ns);
	struct NetQueued *socket;

	COUNT(waits->told.packets);
	__sync_fetch_and_add(&waits->told.total_ns, wait_ns);
	if (bucket < BUCKETS)
		COUNT(waits->buckets[bucket]);
	if (wait_ns > waits->told.max_ns) {
		waits->told.max_ns = wait_ns;
		waits->told.max_time_ns = now;
		waits->told.max_cookie = cookie;
	}
	if (!cookie || !wait_ns)
		return;
	socket = bpf_map_lookup_elem(&SOCKET_WAITS, &cookie);
	if (!socket) {
		struct NetQueued first = { .cookie = cookie };

		bpf_map_update_elem(&SOCKET_WAITS, &cookie, &first, BPF_NOEXIST);
		socket = bpf_map_lookup_elem(&SOCKET_WAITS, &cookie);
		if (!socket)
			return;
	}
	COUNT(socket->packets);
	__sync_fetch_and_add(&socket->total_ns, wait_ns);
	if (wait_ns > socket->max_ns) {
		socket->max_ns = wait_ns;
		socket->max_time_ns = now;
	}
}

/* When the packet came of which this one is a piece; 0: not known. The newest that has its bytes. */
static __always_inline __u64 whole_time(__u64 cookie, __u32 position)
{
	struct wholes *wholes = bpf_map_lookup_elem(&WHOLE_PACKETS, &cookie);
	__u32 back, next;

	if (!wholes)
		return 0;
	next = wholes->next;
	for (back = 1; back <= WHOLES; back++) {
		const struct whole *whole = &wholes->wholes[(next - back) & (WHOLES - 1)];

		if (back > next)
			return 0;
		if ((__s32)(position - whole->begin) >= 0 && (__s32)(position - whole->end) < 0)
			return whole->time_ns;
	}
	return 0;
}

static __always_inline void leave(struct sk_buff *skb, const struct device_key *key, __u64 now)
{
	struct device_waits *waits = waits_of(key, NULL);
	__u32 position = position_of(skb);
	__u64 address = (__u64)skb, came_ns, cookie;
	struct queued *packet;

	/* No packet of the target has come to this device. */
	if (!waits)
		return;
	packet = bpf_map_lookup_elem(&QUEUED, &address);
	if (packet && packet->position == position && packet->device == key->device &&
	    packet->bytes == BPF_CORE_READ(skb, len)) {
		came_ns = packet->time_ns;
		cookie = packet->cookie;
		/* It does not leave twice, but if the driver refuses it. */
		packet->bytes = 0;
		add_wait(waits, cookie, now - came_ns, now);
		return;
	}
	cookie = cookie_of(BPF_CORE_READ(skb, sk));
	came_ns = cookie ? whole_time(cookie, position) : 0;
	if (came_ns) {
		COUNT(waits->told.split);
		add_wait(waits, cookie, now - came_ns, now);
	} else if (CONFIG.filter == FILTER_ALL) {
		COUNT(waits->told.unmatched);
	}
}

SEC("tp_btf/qdisc_dequeue")
int net_dequeue(__u64 *ctx)
{
	struct netdev_queue *queue = (void *)ctx[1];
	struct sk_buff *skb = (void *)ctx[3];
	struct Loss *ledger = row(HZ_SITE_NET_DEQUEUE);
	__u64 now = bpf_ktime_get_ns();
	struct device_waits *waits;
	struct device_key key = {};
	struct net_device *device;
	__u64 *next = coming();
	__u32 packets = ctx[2];
	__u32 count;

	if (next)
		*next = 0;
	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	COUNT(ledger->filtered);
	device = BPF_CORE_READ(queue, dev);
	key.netns = BPF_CORE_READ(device, nd_net.net, ns.inum);
	key.device = BPF_CORE_READ(device, ifindex);
	if (!skb) {
		waits = queue->state & QUEUE_IS_STOPPED ? waits_of(&key, NULL) : NULL;
		if (waits)
			COUNT(waits->told.stops);
		return 0;
	}
	for (count = 0; count < BULK && count < packets && skb; count++) {
		leave(skb, &key, now);
		skb = BPF_CORE_READ(skb, next);
	}
	waits = packets > BULK ? waits_of(&key, NULL) : NULL;
	if (waits)
		__sync_fetch_and_add(&waits->told.unmatched, packets - BULK);
	return 0;
}

/* A packet that was to be queued and is given to the device by the same CPU, which has queued none and
 * taken none out meanwhile: it went past the queue, as it may when that is empty. */
SEC("tp_btf/net_dev_start_xmit")
int net_bypass(__u64 *ctx)
{
	struct net_device *device = (void *)ctx[1];
	struct device_waits *waits;
	struct device_key key = {};
	struct queued *packet;
	__u64 *next = coming();
	__u64 address;

	if (!next || !*next)
		return 0;
	address = *next;
	*next = 0;
	packet = bpf_map_lookup_elem(&QUEUED, &address);
	if (!packet || packet->device != (__u32)device->ifindex)
		return 0;
	key.netns = packet->netns;
	key.device = packet->device;
	packet->bytes = 0;
	waits = waits_of(&key, NULL);
	if (waits) {
		COUNT(waits->told.bypassed);
		add_wait(waits, packet->cookie, 0, packet->time_ns);
	}
	return 0;
}
