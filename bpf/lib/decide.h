/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What both sides of a container's link have in common: read the packet, find its connection, let it pass or not. */
#ifndef FAIRLEAD_LIB_DECIDE_H
#define FAIRLEAD_LIB_DECIDE_H

#include "counter.h"
#include "parse.h"
#include "policy.h"
#include "verdict.h"

static __always_inline int decide(struct packet *packet)
{
	struct verdict verdict = { .reason = REASON_NONE };

	switch (parse(packet)) {
	case PARSED:
		verdict = policy_connection(packet);
		break;
	case LINK_UPKEEP:
		count(COUNTER_NOT_TRACKED);
		verdict = policy_untracked(packet, REASON_NONE);
		break;
	case NOT_TRACKED:
		count(COUNTER_NOT_TRACKED);
		verdict = policy_untracked(packet, REASON_NOT_TRACKED);
		break;
	case MALFORMED:
		count(COUNTER_MALFORMED);
		verdict = policy_untracked(packet, REASON_MALFORMED);
		break;
	case FRAGMENT_UNMATCHED:
		count(COUNTER_FRAGMENT_UNMATCHED);
		verdict = policy_untracked(packet, REASON_FRAGMENT_UNMATCHED);
		break;
	}
	return verdict_execute(packet, &verdict);
}

#endif
