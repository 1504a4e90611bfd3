/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How often a rule decided, per CPU; by its number. 0: no rule did, the endpoint is isolated. */
#ifndef FAIRLEAD_SHARED_HITS_H
#define FAIRLEAD_SHARED_HITS_H

#include <linux/types.h>

struct hits {
	__u64 connections;	/* that it let through */
	__u64 drops;		/* packets */
	__u64 last;		/* nanoseconds of CLOCK_MONOTONIC, as of the last tick */
};

#endif
