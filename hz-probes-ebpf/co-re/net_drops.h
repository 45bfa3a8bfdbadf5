/* Packets of TCP and UDP that the kernel dropped, with its reason. */
#pragma once
#include "net_owner.h"

#define ETH_P_IP   0x0800
#define ETH_P_IPV6 0x86dd

/* What the headers of a packet say. */
struct packet {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u16 protocol;
	__u16 tcp_flags;
};

/* Bytes of the IP header; 0 if the packet is neither TCP nor UDP. IPv6 packets with more headers than one
 * are left out. */
static __always_inline __u32 read_network(struct packet *packet, struct sk_buff *skb)
{
	unsigned char *start = skb->head + skb->network_header;
	__u16 protocol = bpf_ntohs(skb->protocol);
	__u8 header[40] = {};
	__be32 address;

	if (protocol == ETH_P_IP) {
		if (bpf_probe_read_kernel(header, 20, start) || header[0] >> 4 != 4)
			return 0;
		packet->protocol = header[9];
		__builtin_memcpy(&address, &header[12], 4);
		map_address(packet->source, address);
		__builtin_memcpy(&address, &header[16], 4);
		map_address(packet->destination, address);
		return (header[0] & 15) * 4;
	}
	if (protocol != ETH_P_IPV6)
		return 0;
	if (bpf_probe_read_kernel(header, 40, start) || header[0] >> 4 != 6)
		return 0;
	packet->protocol = header[6];
	__builtin_memcpy(packet->source, &header[8], 16);
	__builtin_memcpy(packet->destination, &header[24], 16);
	return 40;
}

static __always_inline bool read_packet(struct packet *packet, struct sk_buff *skb)
{
	__u32 length = read_network(packet, skb);
	unsigned char *start = skb->head + skb->network_header + length;
	__u8 header[14] = {};

	if (!length || (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP))
		return false;
	if (bpf_probe_read_kernel(header, packet->protocol == IPPROTO_TCP ? 14 : 8, start))
		return false;
	packet->source_port = (__u16)header[0] << 8 | header[1];
	packet->destination_port = (__u16)header[2] << 8 | header[3];
	packet->tcp_flags = header[13];
	return true;
}

static __always_inline __u32 namespace_of(struct sk_buff *skb, struct sock *sk)
{
	struct net_device *device = skb->dev;
	__u32 inode = 0;

	if (sk)
		inode = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (!inode && device)
		inode = BPF_CORE_READ(device, nd_net.net, ns.inum);
	return inode;
}

SEC("tp_btf/kfree_skb")
int net_drop(__u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct Loss *ledger = row(HZ_SITE_NET_DROP);
	struct packet packet = {};
	struct NetDrop *record;
	struct sock *sk = NULL;

	if (!ledger)
		return 0;
	COUNT(ledger->seen);
	/* Nothing was sent or received yet, or something that is no packet. */
	if (!read_packet(&packet, skb) ||
	    (CONFIG.filter != FILTER_ALL && !is_port_known(packet.source_port) &&
	     !is_port_known(packet.destination_port))) {
		COUNT(ledger->filtered);
		return 0;
	}
	if (CONFIG.drop_has_socket)
		sk = (void *)ctx[3];
	if (!sk)
		sk = skb->sk;
	record = reserve(ledger, sizeof(*record));
	if (!record)
		return 0;
	fill_header(&record->header, HZ_KIND_NET_DROP, bpf_ktime_get_ns());
	fill_owner(&record->header, NULL);
	record->header.arg = ctx[2];
	record->cookie = sk ? BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) : 0;
	record->place = ctx[1];
	__builtin_memcpy(record->source, packet.source, 16);
	__builtin_memcpy(record->destination, packet.destination, 16);
	record->netns = namespace_of(skb, sk);
	record->source_port = packet.source_port;
	record->destination_port = packet.destination_port;
	record->bytes = skb->len;
	record->protocol = packet.protocol;
	record->tcp_flags = packet.protocol == IPPROTO_TCP ? packet.tcp_flags : 0;
	submit(ledger, record);
	return 0;
}
