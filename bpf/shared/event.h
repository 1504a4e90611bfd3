/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs tell user space through the ring buffer. */
#ifndef FAIRLEAD_SHARED_EVENT_H
#define FAIRLEAD_SHARED_EVENT_H

#include "connection.h"

enum event_kind {
	EVENT_NEW = 1,
	EVENT_CLOSE,
};

struct event {
	struct tuple tuple;
	struct connection connection;
	__u32 kind;		/* enum event_kind */
	__u32 zero;
};

#endif
