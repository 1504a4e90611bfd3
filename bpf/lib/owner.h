/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who is behind a link: its MAC, and its addresses. */
#ifndef FAIRLEAD_LIB_OWNER_H
#define FAIRLEAD_LIB_OWNER_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/endpoint.h"
#include "address.h"
#include "packet.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct guard);
} guards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct owned_key);
	__type(value, __u32);	/* enum ownership */
} owned SEC(".maps");

static __always_inline struct guard *owner_guard(const struct packet *packet)
{
	__u32 ifindex = packet->ifindex;

	return bpf_map_lookup_elem(&guards, &ifindex);
}

/* How the container behind the link of the packet has an address; 0: not at all. */
static __always_inline __u32 owner_way(const struct packet *packet, const struct address *address)
{
	struct owned_key key = { .address = *address, .ifindex = packet->ifindex };
	__u32 *way = bpf_map_lookup_elem(&owned, &key);

	return way ? *way : 0;
}

static __always_inline bool owner_has(const struct packet *packet, const struct guard *guard, const struct address *address)
{
	return address_equal(address, &guard->first[packet->family == 6]) || owner_way(packet, address);
}

#endif
