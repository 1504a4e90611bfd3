/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way (lib/local.h) of TCP, remembered: nearly every packet is sent as one was lately, which its guard let pass and which locals
 * led to the other link. From the same link, MAC and address to the same, neither is asked again under the same revision, which is another
 * one after each change of guards, owned addresses and locals. What policies say of it is not remembered here.
 */
#ifndef FAIRLEAD_LIB_SHORTCUT_H
#define FAIRLEAD_LIB_SHORTCUT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <linux/in.h>

#include "../shared/endpoint.h"
#include "address.h"
#include "answer.h"
#include "local.h"
#include "packet.h"
#include "parse.h"

#define SHORTCUTS_BITS 9

struct shortcut {
	__u64 stamp;		/* of the end that sends; 0: nothing is remembered */
	struct address source;
	struct address destination;
	__u64 from_mac;
	__u64 to_mac;
	__u32 to;		/* the link */
	__u32 mtu;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << SHORTCUTS_BITS);
	__type(key, __u32);
	__type(value, struct shortcut);
} shortcuts SEC(".maps");

/* Of TCP the guard asks about nothing that shortcuts do not have, nor about what parse_transport reads. */
static __always_inline bool shortcut_may_be(const struct packet *packet, enum parsed parsed)
{
	return parsed == PARSED && packet->protocol == IPPROTO_TCP && !packet->first_fragment && !packet->later_fragment
	       && !packet->related;
}

/* Where it is remembered how such packets go. */
static __always_inline struct shortcut *shortcut_place(const struct packet *packet, __u64 stamp)
{
	__u64 all = stamp ^ packet->source.half[0] ^ packet->source.half[1] ^ packet->destination.half[0]
		    ^ packet->destination.half[1] * SPREAD;
	__u32 place = all * SPREAD >> (64 - SHORTCUTS_BITS);

	return bpf_map_lookup_elem(&shortcuts, &place);
}

/* The link that the packet goes to; 0: guard and locals must be asked. */
static __always_inline __u32 shortcut_of(struct __sk_buff *skb, const struct packet *packet, const struct moment *moment,
					 const struct end *end)
{
	__u64 stamp = stamp_of(moment, end);
	struct shortcut *known = shortcut_place(packet, stamp);

	if (!known || !moment->revision || known->stamp != stamp || !address_equal(&known->source, &packet->source)
	    || !address_equal(&known->destination, &packet->destination) || known->from_mac != packet->from_mac
	    || known->to_mac != packet->to_mac || local_piece(skb, packet) > known->mtu)
		return 0;
	return known->to;
}

/* The guard lets the packet pass, and it is for the link of local. On a routed link it would have to be changed. */
static __always_inline void shortcut_learn(const struct packet *packet, const struct moment *moment, const struct end *end,
					   const struct local *local)
{
	__u64 stamp = stamp_of(moment, end);
	struct shortcut *known = shortcut_place(packet, stamp);

	if (!known || local->gateway || !shortcut_may_be(packet, PARSED))
		return;
	*known = (struct shortcut){
		.stamp = stamp,
		.source = packet->source,
		.destination = packet->destination,
		.from_mac = packet->from_mac,
		.to_mac = packet->to_mac,
		.to = local->ifindex,
		.mtu = local->mtu,
	};
}

#endif
