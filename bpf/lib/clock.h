/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The time as of the last tick, asked once a tick: exact enough for all but a beginning and an end. */
#ifndef FAIRLEAD_LIB_CLOCK_H
#define FAIRLEAD_LIB_CLOCK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct tick {
	__u64 jiffies;		/* at which it was asked */
	__u64 now;		/* nanoseconds of CLOCK_MONOTONIC */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tick);
} ticks SEC(".maps");

/* The kernel's clock of ticks takes three calls; the number of the tick is one word that the program reads itself. */
static __always_inline __u64 clock_now(void)
{
	__u32 only = 0;
	struct tick *tick = bpf_map_lookup_elem(&ticks, &only);
	__u64 jiffies = bpf_jiffies64();

	if (!tick)
		return bpf_ktime_get_coarse_ns();
	if (tick->jiffies != jiffies) {
		tick->now = bpf_ktime_get_coarse_ns();
		tick->jiffies = jiffies;
	}
	return tick->now;
}

#endif
