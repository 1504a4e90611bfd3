/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Why a packet is dropped. The numbers are told to user space and must not change their meaning. */
#ifndef FAIRLEAD_SHARED_VERDICT_H
#define FAIRLEAD_SHARED_VERDICT_H

/* The hook, from the container's point of view. */
enum direction {
	FROM_POD,
	TO_POD,
};

/* On a packet from its link to the bridge. */
enum mark {
	MARK_GUARDED = 0x666c,		/* held against the link's guard */
};

enum reason {
	REASON_NONE,			/* it passes */
	REASON_POLICY,			/* a ruling says so */
	REASON_NO_RULING,		/* policies apply, but what they say of this peer is not in the maps */
	REASON_NO_ENDPOINT,		/* the link has no endpoint */
	REASON_NOT_TRACKED,		/* isolated, and policies cannot be applied: a VLAN tag, no IP */
	REASON_MALFORMED,		/* isolated, and its headers contradict themselves */
	REASON_FRAGMENT_UNMATCHED,	/* isolated, and the first fragment was not seen */
	REASON_RELATED_UNKNOWN,		/* isolated, and an ICMP error about nothing that is known */
	REASON_NO_GUARD,		/* who may send here is not known */
	REASON_FOREIGN_MAC,		/* from here on: what the container may not say; docs/spoofing.md */
	REASON_FOREIGN_ADDRESS,
	REASON_FOREIGN_ARP,
	REASON_FOREIGN_NEIGHBOUR,
	REASON_ROUTER,
	REASON_DHCP_SERVER,
	REASON_MEMBERSHIP,
	REASON_OTHER_PROTOCOL,
	REASON_UNREADABLE,
	REASON_NOT_ADDRESSED,		/* a frame for another container, which the bridge sent to all */
	REASONS,
};

#endif
