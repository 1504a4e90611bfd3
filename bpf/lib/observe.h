/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What both sides of a container's link have in common: read the packet, then remember it or count why not. */
#ifndef FAIRLEAD_LIB_OBSERVE_H
#define FAIRLEAD_LIB_OBSERVE_H

#include "conntrack.h"
#include "counter.h"
#include "parse.h"

#define TCX_NEXT -1	/* whoever else is attached decides; the same number as TC_ACT_UNSPEC */

static __always_inline void observe(struct packet *packet)
{
	switch (parse(packet)) {
	case PARSED:
		conntrack(packet);
		break;
	case NOT_TRACKED:
		count(COUNTER_NOT_TRACKED);
		break;
	case MALFORMED:
		count(COUNTER_MALFORMED);
		break;
	case FRAGMENT_UNMATCHED:
		count(COUNTER_FRAGMENT_UNMATCHED);
		break;
	}
}

#endif
