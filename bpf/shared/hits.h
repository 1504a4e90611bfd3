/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How often a rule decided, per CPU; by its number, or by one of those that no rule has: an endpoint is isolated, and no rule allows it. */
#ifndef FAIRLEAD_SHARED_HITS_H
#define FAIRLEAD_SHARED_HITS_H

#include <linux/types.h>

enum unallowed {
	UNALLOWED_EGRESS = 1,
	UNALLOWED_INGRESS,
};

struct hits {
	__u64 connections;	/* that it let through */
	__u64 drops;		/* packets */
	__u64 last;		/* nanoseconds of CLOCK_MONOTONIC, as of the last tick */
};

#endif
