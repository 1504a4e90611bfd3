/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef FAIRLEAD_LIB_HITS_H
#define FAIRLEAD_LIB_HITS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/hits.h"
#include "counter.h"

/* User space removes rules that are no more. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);	/* the rule */
	__type(value, struct hits);
} hits SEC(".maps");

static __noinline void hits_add(__u64 rule, __u64 connections, __u64 drops, __u64 now)
{
	struct hits first = { connections, drops, now };
	struct hits *known = bpf_map_lookup_elem(&hits, &rule);

	if (!known && bpf_map_update_elem(&hits, &rule, &first, BPF_NOEXIST) == 0)
		return;
	if (!known)	/* another CPU was first, or there is no room */
		known = bpf_map_lookup_elem(&hits, &rule);
	if (!known) {
		count(COUNTER_HITS_LOST);
		return;
	}
	known->connections += connections;
	known->drops += drops;
	known->last = now;
}

#endif
