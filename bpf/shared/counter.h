/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is counted for the node as a whole, per CPU. */
#ifndef FAIRLEAD_SHARED_COUNTER_H
#define FAIRLEAD_SHARED_COUNTER_H

enum counter {
	COUNTER_NEW_LOST,		/* events for which the ring buffer had no room */
	COUNTER_CLOSE_LOST,
	COUNTER_NOT_TRACKED,		/* packets without a connection: ARP, neighbour discovery, VLAN tags, ... */
	COUNTER_MALFORMED,		/* headers cut short or that contradict themselves */
	COUNTER_FRAGMENT_UNMATCHED,	/* fragments that came before the first one */
	COUNTER_TABLE_FULL,		/* connections that could not be remembered */
	COUNTER_DROP_LOST,
	COUNTER_HITS_LOST,		/* decisions that no rule was credited with */
	COUNTER_REMEMBERED,		/* entries that were added to the table of connections */
	COUNTER_FORGOTTEN,		/* those that user space removed: what is missing else was evicted */
	COUNTERS,
};

#endif
