/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What policies say, as user space writes it (fairlead/datapath/ebpf/entries.py). Policy sets, classes of peers, rulings and
 * rules are 64-bit numbers, never 0; 0 means no policy, any other peer, no rule.
 *
 *	peers       address                  -> the class of peers that has it
 *	blocks      prefix of addresses      -> the class of those that peers does not have; the longest prefix counts
 *	judgements  policy set, class        -> ruling
 *	ports       ruling, protocol, port   -> allow or not, and the rule that says so
 *	rulings     ruling, protocol, ports  -> the same of runs of ports, of whole protocols, and of everything else
 */
#ifndef FAIRLEAD_SHARED_POLICY_H
#define FAIRLEAD_SHARED_POLICY_H

#include <linux/types.h>

#include "connection.h"

struct block_key {
	__u32 prefixlen;	/* of IPv4: 96 more */
	__u8 address[16];
};

struct judgement_key {
	__u64 policy;
	__u64 peer;		/* 0: every class that has no judgement of its own */
};

struct port_key {
	__u64 ruling;
	__u32 protocol;
	__be16 port;
	__u8 zero[2];
};

/* One longest-prefix match finds the port, else the protocol, else the ruling alone: 96, 80 and 64 bits, ports also between. */
struct ruling_key {
	__u32 prefixlen;
	__u64 ruling;
	__u8 protocol;
	__u8 zero;
	__be16 port;
} __attribute__((packed));

struct ruling_value {
	__u64 rule;
	__u8 allow;
	__u8 zero[7];
};

struct config {
	__u64 revision;		/* another number after each change of these maps; 0: nobody has written them yet */
	__u32 node_reaches_pods;	/* what this node itself sends is not asked about */
	__u32 zero;
};

/* What was dropped at one hook for one reason. */
struct drop_key {
	struct tuple tuple;
	__u32 reason;
	__u32 ifindex;
};

#endif
