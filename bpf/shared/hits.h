/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How often a rule decided, per CPU; by its number. */
#ifndef FAIRLEAD_SHARED_HITS_H
#define FAIRLEAD_SHARED_HITS_H

#include <linux/types.h>

struct hits {
	__u64 connections;	/* that it let through */
	__u64 dropped;		/* packets */
};

#endif
