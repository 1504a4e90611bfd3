/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet as the programs speak of it: filled by parse, read by everything after. */
#ifndef FAIRLEAD_LIB_PACKET_H
#define FAIRLEAD_LIB_PACKET_H

#include <linux/bpf.h>
#include <stdbool.h>

#include "../shared/connection.h"
#include "../shared/verdict.h"

struct packet {
	struct __sk_buff *skb;
	struct party source;
	struct party destination;
	__u32 offset;		/* of the header that is parsed next; in the end that of the payload */
	__u32 fragment;		/* identification, where one of the next two is set */
	bool first_fragment;
	bool later_fragment;
	bool related;		/* an ICMP error: the parties are those of the packet that it is about, turned round */
	bool stray;		/* an ICMP error that is not between those parties: nobody on the way would have sent it here */
	bool reply;		/* says of itself that it answers: ICMP echo reply */
	__u8 family;		/* 4 or 6 */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 direction;		/* enum direction */
};

/* Large sends travel as one packet and are cut at the very end: count what will be on the wire. */
static __always_inline struct amount packet_amount(const struct packet *packet)
{
	__u64 segments = packet->skb->gso_segs;

	if (segments < 2)
		return (struct amount){ 1, packet->skb->len };
	return (struct amount){ segments, packet->skb->len + (segments - 1) * packet->offset };
}

#endif
