/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The devices by which other nodes are reached, and what each is for. */
#ifndef FAIRLEAD_LIB_UPLINK_H
#define FAIRLEAD_LIB_UPLINK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/tunnel.h"

/* sys/socket.h cannot be read without the C library's headers. */
#define AF_INET 2
#define AF_INET6 10

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, enum uplink);
} uplinks SEC(".maps");

static __always_inline bool uplink_is_for(__u32 ifindex, enum uplink use)
{
	enum uplink *uses = bpf_map_lookup_elem(&uplinks, &ifindex);

	return uses && (*uses & use);
}

#endif
