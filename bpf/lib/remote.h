/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way between nodes: from a container of a routed network to one on another node. On either node the host's stack is skipped:
 * here from the link to the device that leads there, there from the device to the link.
 *
 *	from_pod   the way is the kernel's own (bpf_fib_lookup), and so is the neighbour's MAC (bpf_redirect_neigh); where it leads to a
 *	           tunnel, its headers are put in front (lib/tunnel.h)
 *	from_net   taken out of its tunnel; as the short way within a node: decided for the container's link, put into its namespace (lib/local.h)
 *
 * Whatever has to be answered or cut is left to the stack: too old, too large, no way, IP options, fragments. A neighbour that is not
 * known yet is not: bpf_redirect_neigh asks for it, and an answer whose question did not pass the stack is invalid to its connection
 * tracking, which rules of others may drop (kube-proxy's do).
 * User space gives no realm to networks that are encrypted, or whose containers may not reach each other; nor to prefixes that less gets
 * to than the device carries.
 */
#ifndef FAIRLEAD_LIB_REMOTE_H
#define FAIRLEAD_LIB_REMOTE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/endpoint.h"
#include "../shared/policy.h"
#include "local.h"
#include "packet.h"
#include "tunnel.h"
#include "uplink.h"

#define FLOWINFO 0x0fffffff

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct block_key);
	__type(value, __u64);
} realms SEC(".maps");

static __always_inline bool remote_is_of(const struct address *address, __u64 network)
{
	struct block_key key = { .prefixlen = 128 };
	__u64 *realm;

	__builtin_memcpy(key.address, address, sizeof(key.address));
	realm = bpf_map_lookup_elem(&realms, &key);
	return realm && *realm == network;
}

/* Whether the packet is for the network of the container that sends it, and the host to forward. */
static __always_inline bool remote_of(const struct packet *packet, const struct guard *guard)
{
	return guard && guard->network && guard->gateway && packet->to_mac == guard->gateway
	       && remote_is_of(&packet->destination, guard->network);
}

/* Whether a hop changes nothing but the age: no options that one has a part in. What stands in front says how it is routed. */
static __always_inline bool remote_is_simple(struct __sk_buff *skb, const struct packet *packet, struct bpf_fib_lookup *way)
{
	struct ipv6hdr *six;
	struct iphdr *four;

	if (packet->family == 6) {
		six = in_place(skb, ETH_HLEN, sizeof(*six));
		if (!six || six->nexthdr == IPPROTO_HOPOPTS || six->nexthdr == IPPROTO_ROUTING)
			return false;
		way->family = AF_INET6;
		way->flowinfo = *(__be32 *)six & bpf_htonl(FLOWINFO);
		__builtin_memcpy(way->ipv6_src, &six->saddr, sizeof(way->ipv6_src));
		__builtin_memcpy(way->ipv6_dst, &six->daddr, sizeof(way->ipv6_dst));
		return six->hop_limit > 1;
	}
	four = in_place(skb, ETH_HLEN, sizeof(*four));
	if (!four || four->ihl != 5)
		return false;
	way->family = AF_INET;
	way->tos = four->tos;
	way->ipv4_src = four->saddr;
	way->ipv4_dst = four->daddr;
	return four->ttl > 1;
}

/*
 * To the next hop on the way, if the kernel knows it and may send there; else on to the stack, which says why not.
 * A function of its own for the verifier, who looks at it once.
 */
__noinline int remote_send(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup way = { .ifindex = skb->ifindex };
	struct bpf_redir_neigh next = { 0 };
	struct tunnel *tunnel;
	struct shell *shell;
	__u32 piece, to;
	long found;
	__u8 tos;

	if (!packet || !remote_is_simple(skb, packet, &way))
		return TCX_NEXT;
	piece = local_piece(skb, packet);
	if (piece > 0xffff)
		return TCX_NEXT;
	tos = way.family == AF_INET6 ? bpf_ntohl(way.flowinfo) >> 20 : way.tos;
	way.tot_len = piece;
	way.l4_protocol = packet->protocol;
	way.sport = packet->source_port;
	way.dport = packet->destination_port;
	found = bpf_fib_lookup(skb, &way, sizeof(way), 0);
	if ((found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH) || !uplink_is_for(way.ifindex, UPLINK_ROUTES))
		return TCX_NEXT;
	next.nh_family = way.family;
	__builtin_memcpy(next.ipv6_nh, way.ipv6_dst, sizeof(next.ipv6_nh));	/* or the IPv4 address, which lies in the same place */
	to = way.ifindex;
	tunnel = found == BPF_FIB_LKUP_RET_SUCCESS ? bpf_map_lookup_elem(&tunnels, &way.ifindex) : NULL;
	shell = tunnel ? tunnel_wrap(skb, &way, tunnel, piece, tos) : NULL;
	if (!local_age(skb, packet))
		return TC_ACT_SHOT;
	return shell ? tunnel_send(skb, shell, way.ifindex) : bpf_redirect_neigh(to, &next, sizeof(next), 0);
}

/*
 * The link of the container that the packet is for, if one of its network on another node sent it; NULL: the stack has it. Who comes
 * in as a container of this node is none: the stack asks its rp_filter.
 */
static __always_inline struct local *remote_arrival(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup unused = { 0 };
	struct local *local = bpf_map_lookup_elem(&locals, &packet->destination);

	if (!local || !local->gateway || !remote_is_of(&packet->source, local->network)
	    || bpf_map_lookup_elem(&locals, &packet->source) || !remote_is_simple(skb, packet, &unused))
		return NULL;
	return local;
}

#endif
