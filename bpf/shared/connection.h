/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A connection: who talks to whom, and what was counted. Python reads these structs too (fairlead/datapath/ebpf/layout.py);
 * tests/bpf compares the two through BTF. Every byte is named, so that a key has no padding of unknown content.
 */
#ifndef FAIRLEAD_SHARED_CONNECTION_H
#define FAIRLEAD_SHARED_CONNECTION_H

#include <linux/types.h>

/* 128 bits in network order; IPv4 is ::ffff:a.b.c.d, so that one code serves both families. */
struct address {
	__be64 half[2];
};

/* The same for both directions: low is the party whose address, then port, is the lower number. */
struct tuple {
	struct address low;
	struct address high;
	__be16 low_port;	/* of ICMP echo its identifier, of other ICMP its type and code */
	__be16 high_port;
	__u8 protocol;
	__u8 zero[3];
};

enum state {
	STATE_OPENING = 1,	/* one side alone has spoken */
	STATE_ESTABLISHED,	/* both have */
	STATE_CLOSING,		/* TCP: both have said FIN */
	STATE_CLOSED,		/* TCP: reset, or the last FIN was acknowledged; kept for what still comes */
};

struct amount {
	__u64 packets;
	__u64 bytes;		/* with link-layer headers, as on the wire */
};

enum way {
	WAY_FORTH,		/* from the party that opened the connection */
	WAY_BACK,
	WAYS,
};

/* Whose policies decide: each side's container is asked once, both of its hooks follow. */
enum side {
	SIDE_OPENER,
	SIDE_RESPONDER,
	SIDES,
};

/* A connection of a container of this node that was seen from both ends is between these two, and nobody translates it here. */
enum sight {
	SEEN_SENT = 1,		/* by the container, at its link */
	SEEN_RECEIVED,		/* from another node, at the device by which it came */
	SEEN_BOTH,
};

struct connection {
	__u64 first;		/* nanoseconds of CLOCK_MONOTONIC */
	__u64 last;
	struct amount amount[WAYS];
	__u32 state;		/* enum state; 32 bits for compare-and-swap */
	__u32 ifindex;		/* the one interface at which it is counted */
	__u8 tcp_flags[WAYS];	/* all that were seen */
	__u8 opener_is_high;
	__u8 outgoing;		/* opened by the container behind ifindex */
	__u8 midway;		/* its beginning was not seen: who opened it is a guess */
	__u8 denied[SIDES];	/* the last decision there was against it; then the entry is CLOSED, unless it is midway */
	__u8 as_is;		/* enum sight: from which of its ends it was seen before anybody on this node could translate it */
	__u64 ingress_rule;	/* by which the responder's end let it pass, or cut it; 0: none, or it was not asked */
	__u64 decided[SIDES];	/* the revision of the policies under which each side let it pass; 0: not yet */
	__u64 egress_rule;	/* the same of the opener's end */
};

#endif
