/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * VXLAN over IPv4 (RFC 7348) without the VXLAN device, for what takes the short way between nodes: the headers are put in front of the
 * packet at the link of the container that sends it, and taken off where it comes in at the other node. In between it is what the
 * device would have made, but for the checksum of UDP, which is 0; either end may be the device's.
 *
 *	Ethernet, IP, UDP, VXLAN  |  Ethernet  IP  ...
 *	        capsule                the packet
 *
 * The device keeps what has to be answered or cut, a neighbour that is not known yet, and tunnels over IPv6. It also gets, opened, what
 * turns out not to be for the short way.
 */
#ifndef FAIRLEAD_LIB_TUNNEL_H
#define FAIRLEAD_LIB_TUNNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include "../shared/tunnel.h"
#include "bounds.h"
#include "local.h"
#include "packet.h"
#include "parse.h"
#include "uplink.h"

#define VXLAN_HAS_VNI bpf_htonl(0x08000000)
#define ECN_MASK 3
#define ECN_CE 3
#define ECN_ECT0 2
#define TUNNEL_TTL 64
#define FIRST_SOURCE_PORT 32768		/* half of all ports, by the flow: what spreads packets over several ways looks at it */
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)	/* since Linux 6.3; linux/bpf.h of Debian 12 does not know it */
#define ANY_FRAGMENT bpf_htons(0x3fff)	/* MF and the offset */

struct vxlan {
	__be32 flags;
	__be32 vni;
};

/* What stands between the Ethernet header and the inner IP header. */
struct capsule {
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
	struct ethhdr inner;
	__u16 end;
};

#define CAPSULE_SIZE offsetof(struct capsule, end)

/* With the Ethernet header; the pad aligns what follows. */
struct shell {
	__u16 pad;
	struct ethhdr outer;
	struct capsule capsule;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct tunnel);
} tunnels SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct arrival_key);
	__type(value, struct tunnel);
} arrivals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vtep_key);
	__type(value, __be32);
} vteps SEC(".maps");

/* Where headers are put together; the stack has no room. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shell);
} shells SEC(".maps");

static __always_inline __be32 *tunnel_vtep(const struct tunnel *tunnel, const unsigned char *mac)
{
	struct vtep_key key = { .tunnel = tunnel->number };

	__builtin_memcpy(&key.mac, mac, ETH_ALEN);
	return bpf_map_lookup_elem(&vteps, &key);
}

/* RFC 6040: the outer header tells of congestion where the inner one can; what already does is not told again. */
static __always_inline __u8 tunnel_ecn(__u8 inner)
{
	return (inner & ECN_MASK) == ECN_CE ? ECN_ECT0 : inner & ECN_MASK;
}

/* Sent in any order, so that fragments, where something on the way makes them, need an identification of their own. */
static __always_inline void tunnel_fill_ip(struct iphdr *ip, __be32 from, __be32 to, __u32 length, __u8 inner_tos)
{
	__s64 sum;

	*ip = (struct iphdr){
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tos = tunnel_ecn(inner_tos),
		.tot_len = bpf_htons(length),
		.id = bpf_get_prandom_u32(),
		.ttl = TUNNEL_TTL,
		.protocol = IPPROTO_UDP,
		.saddr = from,
		.daddr = to,
	};
	sum = bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
}

/* The way of the node's own packet to the other end: as the kernel has it, if it can be sent at once; else false. */
static __always_inline bool tunnel_route(struct __sk_buff *skb, struct bpf_fib_lookup *way, struct shell *shell, __u32 piece)
{
	*way = (struct bpf_fib_lookup){
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.sport = shell->capsule.udp.source,
		.dport = shell->capsule.udp.dest,
		.tot_len = piece + CAPSULE_SIZE,
		.ifindex = skb->ifindex,
		.ipv4_src = shell->capsule.ip.saddr,
		.ipv4_dst = shell->capsule.ip.daddr,
	};
	if (bpf_fib_lookup(skb, way, sizeof(*way), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return false;
	__builtin_memcpy(shell->outer.h_dest, way->dmac, ETH_ALEN);
	__builtin_memcpy(shell->outer.h_source, way->smac, ETH_ALEN);
	shell->outer.h_proto = bpf_htons(ETH_P_IP);
	return uplink_is_for(way->ifindex, UPLINK_TUNNELS);
}

/*
 * The headers for a packet whose way, which has been found, leads to the tunnel; what it is cut into has this size. The way is then
 * that of the node's own packet. NULL: the device sends it.
 */
static __always_inline struct shell *tunnel_wrap(struct __sk_buff *skb, struct bpf_fib_lookup *way, const struct tunnel *tunnel,
						 __u32 piece, __u8 tos)
{
	__be32 *remote = tunnel_vtep(tunnel, way->dmac);
	__u32 length = skb->len - ETH_HLEN + CAPSULE_SIZE;
	struct capsule *capsule;
	struct shell *shell;
	__u32 only = 0;

	shell = remote && length <= 0xffff ? bpf_map_lookup_elem(&shells, &only) : NULL;
	if (!shell)
		return NULL;
	capsule = &shell->capsule;
	capsule->udp = (struct udphdr){
		.source = bpf_htons(FIRST_SOURCE_PORT | (bpf_get_hash_recalc(skb) & (FIRST_SOURCE_PORT - 1))),
		.dest = tunnel->port,
		.len = bpf_htons(length - sizeof(capsule->ip)),
	};
	capsule->vxlan = (struct vxlan){ VXLAN_HAS_VNI, tunnel->vni };
	__builtin_memcpy(capsule->inner.h_dest, way->dmac, ETH_ALEN);
	__builtin_memcpy(capsule->inner.h_source, &tunnel->mac, ETH_ALEN);
	capsule->inner.h_proto = skb->protocol;
	tunnel_fill_ip(&capsule->ip, tunnel->local, *remote, length, tos);
	return tunnel_route(skb, way, shell, piece) ? shell : NULL;
}

static __always_inline int tunnel_send(struct __sk_buff *skb, const struct shell *shell, __u32 ifindex)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
		      | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_NO_CSUM_RESET;

	if (bpf_skb_adjust_room(skb, CAPSULE_SIZE, BPF_ADJ_ROOM_MAC, flags)
	    || bpf_skb_store_bytes(skb, 0, &shell->outer, ETH_HLEN + CAPSULE_SIZE, 0))
		return TC_ACT_SHOT;
	return bpf_redirect(ifindex, 0);
}

/* Whether the inner packet may be for a container that the short way leads to. Datagrams in one piece are the device's: it cuts them. */
static __always_inline bool tunnel_is_for_local(struct __sk_buff *skb, bool six)
{
	__u32 at = ETH_HLEN + CAPSULE_SIZE;
	struct address address;
	struct ipv6hdr *inner6;
	struct iphdr *inner4;
	__u8 protocol;

	if (six) {
		inner6 = in_place(skb, at, sizeof(*inner6));
		if (!inner6)
			return false;
		address = address_of_v6(&inner6->daddr);
		protocol = inner6->nexthdr;
	} else {
		inner4 = in_place(skb, at, sizeof(*inner4));
		if (!inner4)
			return false;
		address = address_of_v4(inner4->daddr);
		protocol = inner4->protocol;
	}
	return (!skb->gso_size || protocol == IPPROTO_TCP) && bpf_map_lookup_elem(&locals, &address);
}

/*
 * The tunnel that the packet comes by, if it may be for the short way, and its inner Ethernet header. Only from whom that tunnel's end
 * is, which the device does not ask. NULL: it is none, or the device's to open.
 */
static __always_inline struct tunnel *tunnel_arrival(struct __sk_buff *skb, struct ethhdr *inner)
{
	struct arrival_key key = { 0 };
	struct capsule *capsule;
	struct tunnel *tunnel;
	__be32 *remote;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return NULL;
	capsule = in_place(skb, ETH_HLEN, CAPSULE_SIZE);
	if (!capsule || capsule->ip.ihl != 5 || capsule->ip.protocol != IPPROTO_UDP || capsule->ip.frag_off & ANY_FRAGMENT
	    || (capsule->ip.tos & ECN_MASK) == ECN_CE || capsule->vxlan.flags != VXLAN_HAS_VNI)
		return NULL;
	key.vni = capsule->vxlan.vni;
	key.port = capsule->udp.dest;
	tunnel = bpf_map_lookup_elem(&arrivals, &key);
	if (!tunnel || capsule->ip.daddr != tunnel->local || mac_of(capsule->inner.h_dest) != tunnel->mac)
		return NULL;
	remote = tunnel_vtep(tunnel, capsule->inner.h_source);
	if (!remote || capsule->ip.saddr != *remote)
		return NULL;
	*inner = capsule->inner;
	if (inner->h_proto != bpf_htons(ETH_P_IP) && inner->h_proto != bpf_htons(ETH_P_IPV6))
		return NULL;
	return tunnel_is_for_local(skb, inner->h_proto == bpf_htons(ETH_P_IPV6)) ? tunnel : NULL;
}

/* Whether the packet is the inner one now; else it is as it was. What the network card has verified was the outer checksum first. */
static __always_inline bool tunnel_open(struct __sk_buff *skb, const struct ethhdr *inner)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;

	if (inner->h_proto == bpf_htons(ETH_P_IPV6))
		flags |= ADJ_ROOM_DECAP_L3_IPV6;
	bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
	if (bpf_skb_adjust_room(skb, -(__s32)CAPSULE_SIZE, BPF_ADJ_ROOM_MAC, flags))
		return false;
	bpf_skb_store_bytes(skb, 0, inner, sizeof(*inner), 0);
	return true;
}

/* As if the device had opened it. */
static __always_inline int tunnel_to_device(const struct tunnel *tunnel)
{
	return bpf_redirect(tunnel->ifindex, BPF_F_INGRESS);
}

#endif
