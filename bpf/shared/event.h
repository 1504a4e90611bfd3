/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs tell user space through the ring buffer. */
#ifndef FAIRLEAD_SHARED_EVENT_H
#define FAIRLEAD_SHARED_EVENT_H

#include "connection.h"
#include "verdict.h"

enum event_kind {
	EVENT_NEW = 1,
	EVENT_CLOSE,
	EVENT_DROP = 4,		/* 3 is said by user space alone */
};

/*
 * Of EVENT_DROP the connection is what would have been: its opener is who sent the packet, forth is that packet alone, and the rule of
 * the end where it was dropped is that which dropped it. With REASON_POLICY and rule 0 no rule allows it: the endpoint is isolated.
 * Of EVENT_CLOSE with a reason policies cut the connection: FROM_POD those of the opener, TO_POD those of the responder, by the rule that
 * stands for that end.
 */
struct event {
	struct tuple tuple;
	struct connection connection;
	__u32 kind;		/* enum event_kind */
	__u8 reason;		/* of EVENT_DROP and EVENT_CLOSE: enum reason */
	__u8 direction;		/* of EVENT_DROP: enum direction, the hook */
	__u8 zero[2];
};

#endif
