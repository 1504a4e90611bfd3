/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way: from one container of a network to another on this node. The bridge, or the host's routing, and the hook at the
 * other's link are skipped. So both ends' policies are asked where the packet is seen, and then it is put into the other's namespace.
 *
 * Only what would have gone there alone takes it: on a bridge a frame with the address and the MAC of one container, on a routed link
 * a packet to the gateway's MAC and the address of one, both of the same network. User space gives no network and no local to links
 * where somebody on the long way has a say: limits on bandwidth, networks whose containers may not reach each other or may send as others.
 */
#ifndef FAIRLEAD_LIB_LOCAL_H
#define FAIRLEAD_LIB_LOCAL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include "../shared/endpoint.h"
#include "packet.h"
#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct local);
} locals SEC(".maps");

/* The largest piece that the packet will be cut into, without its link-layer header. */
static __always_inline __u32 local_piece(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 segment = skb->gso_size;

	return (segment ? segment + packet->offset : skb->len) - ETH_HLEN;
}

/* Whether a packet that is to be routed may live on: who answers one that has come too far is the host. */
static __always_inline bool local_outlives(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 left;

	return load(skb, ETH_HLEN + (packet->family == 6 ? offsetof(struct ipv6hdr, hop_limit) : offsetof(struct iphdr, ttl)),
		    &left) && left > 1;
}

/* The link where the packet goes if it passes; NULL if it goes the long way. */
static __always_inline struct local *local_of(struct __sk_buff *skb, const struct packet *packet, const struct guard *guard)
{
	struct local *local;

	if (!guard || !guard->network || packet->stray)
		return NULL;
	local = bpf_map_lookup_elem(&locals, &packet->destination);
	if (!local || local->network != guard->network || local->ifindex == packet->ifindex
	    || packet->to_mac != (guard->gateway ?: local->mac) || local_piece(skb, packet) > local->mtu
	    || (guard->gateway && !local_outlives(skb, packet)))
		return NULL;
	return local;
}

/* One hop further. */
static __always_inline bool local_age(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 at = ETH_HLEN + offsetof(struct ipv6hdr, hop_limit);
	__be16 before, after;
	__u8 limit;

	if (packet->family == 6) {
		if (!load(skb, at, &limit))
			return false;
		limit--;
		return !bpf_skb_store_bytes(skb, at, &limit, sizeof(limit), 0);
	}
	at = ETH_HLEN + offsetof(struct iphdr, ttl);
	if (!load(skb, at, &before))
		return false;
	after = bpf_htons(bpf_ntohs(before) - 0x100);	/* beside it stands the protocol */
	return !bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), before, after, sizeof(before))
	       && !bpf_skb_store_bytes(skb, at, &after, sizeof(after), 0);
}

/* One hop further, from the host's MAC to the container's. */
static __always_inline bool local_route(struct __sk_buff *skb, const struct packet *packet, const struct local *local)
{
	struct {
		__u8 to[ETH_ALEN];
		__u8 from[ETH_ALEN];
	} macs;

	__builtin_memcpy(macs.to, &local->mac, ETH_ALEN);
	__builtin_memcpy(macs.from, &local->gateway, ETH_ALEN);
	return !bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0) && local_age(skb, packet);
}

/* Into the namespace of the container behind the link, as if it had just come out of its veth. */
static __always_inline int local_enter(struct __sk_buff *skb, __u32 link)
{
	if (bpf_skb_change_type(skb, PACKET_HOST))	/* it came in as somebody else's: its MAC is not the link's */
		return TC_ACT_SHOT;
	return bpf_redirect_peer(link, 0);
}

/* There, from the gateway if there is one. */
static __always_inline int local_deliver(struct __sk_buff *skb, const struct packet *packet, const struct local *local)
{
	if (local->gateway && !local_route(skb, packet, local))
		return TC_ACT_SHOT;
	return local_enter(skb, local->ifindex);
}

#endif
