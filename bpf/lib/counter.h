/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef FAIRLEAD_LIB_COUNTER_H
#define FAIRLEAD_LIB_COUNTER_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/counter.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, enum counter);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(enum counter which)
{
	__u32 key = which;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		(*value)++;
}

#endif
