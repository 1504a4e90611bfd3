/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet as the programs speak of it: filled by parse, read by everything after. */
#ifndef FAIRLEAD_LIB_PACKET_H
#define FAIRLEAD_LIB_PACKET_H

#include <linux/bpf.h>
#include <stdbool.h>

#include "../shared/connection.h"
#include "../shared/verdict.h"

/* No padding: the verifier reads it as memory where a function of its own is called. */
struct packet {
	struct address source;
	struct address destination;
	struct amount amount;
	__u64 from_mac;		/* as guards have them */
	__u64 to_mac;
	__u32 ifindex;		/* of the link where it is seen */
	__u32 offset;		/* of the header that is parsed next; in the end that of the payload */
	__u32 fragment;		/* identification, where one of the next two is set */
	__be16 source_port;
	__be16 destination_port;
	bool first_fragment;
	bool later_fragment;
	bool related;		/* an ICMP error: the parties are those of the packet that it is about, turned round */
	bool stray;		/* an ICMP error that is not between those parties: nobody on the way would have sent it here */
	bool reply;		/* says of itself that it answers: ICMP echo reply */
	bool source_is_high;	/* of the connection's two parties */
	__u8 family;		/* 4 or 6; 0: neither, there are no parties */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 direction;		/* enum direction: the hook where it is seen */
	__u8 zero[6];
};

/* When a connection that begins is told of: where the packet is seen at both ends of it, when both have decided. */
enum telling {
	TELL_AT_ONCE,
	TELL_LATER,		/* at the other end, which decides next */
	TELL_OF_OTHER,		/* it has begun at the other end, and is told of here */
};

/* One end of a connection as a packet passes it: the link of an endpoint, from or to its container. */
struct end {
	__u32 ifindex;		/* 0: no link of this node */
	__u8 direction;		/* enum direction */
	bool ours;		/* this node itself made the packet */
	bool remote;		/* it is as another node sent it */
	__u8 telling;		/* enum telling */
};

/* Large sends travel as one packet and are cut at the very end: count what will be on the wire. */
static __always_inline struct amount amount_of(const struct __sk_buff *skb, __u32 payload_at)
{
	__u64 segments = skb->gso_segs;

	if (segments < 2)
		return (struct amount){ 1, skb->len };
	return (struct amount){ segments, skb->len + (segments - 1) * payload_at };
}

static __always_inline struct packet packet_at(const struct __sk_buff *skb, enum direction direction)
{
	return (struct packet){ .ifindex = skb->ifindex, .direction = direction, .amount = amount_of(skb, 0) };
}

/* The end where the packet is seen. Nothing but what this node made comes with no interface by which it came. */
static __always_inline struct end end_at(const struct __sk_buff *skb, enum direction direction)
{
	return (struct end){
		.ifindex = skb->ifindex,
		.direction = direction,
		.ours = direction == TO_POD && !skb->ingress_ifindex,
	};
}

#endif
