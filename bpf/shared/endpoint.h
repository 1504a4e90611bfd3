/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is known of the links of this node, as user space writes it (fairlead/datapath/ebpf/entries.py).
 *
 *	endpoints   interface            -> the policy set of each direction
 *	guards      interface            -> who may send there as whom, and within which network the short way (lib/local.h)
 *	owned       address, interface   -> whether neighbour discovery may name it
 *	locals      address              -> the link that the short way leads to
 *	realms      prefix of addresses  -> the network that has them on all nodes, if the short way leads there (lib/remote.h)
 *	uplinks     interface            -> how it leads to other nodes (shared/tunnel.h)
 */
#ifndef FAIRLEAD_SHARED_ENDPOINT_H
#define FAIRLEAD_SHARED_ENDPOINT_H

#include <linux/types.h>

#include "connection.h"

/* A link without one carries nothing. */
struct endpoint {
	__u64 ingress;		/* 0: not isolated */
	__u64 egress;
};

/* A link without one sends nothing. */
struct guard {
	struct address first[2];	/* the first address of IPv4 and of IPv6, which owned has too: nearly every packet is from it */
	__u64 mac;		/* its bytes, then two zeros */
	__u64 network;		/* within which it may take the short way; 0: never */
	__u64 gateway;		/* the MAC that a routed link sends to; 0: a port of a bridge, which sends to its neighbours' own */
	__u32 checked;		/* 0: it may send as whom it likes */
	__u32 routed;		/* no port of a bridge */
};

struct owned_key {
	struct address address;
	__u32 ifindex;
	__u32 zero;
};

/* Values of owned. */
enum ownership {
	OWNED_ELSEWHERE = 1,	/* the container has it on another of its interfaces, and may send from it */
	OWNED_HERE,		/* and neighbour discovery may say so */
};

struct local {
	__u64 network;
	__u64 mac;
	__u64 gateway;		/* the MAC that a routed link receives from */
	__u32 ifindex;
	__u32 mtu;
};

#endif
