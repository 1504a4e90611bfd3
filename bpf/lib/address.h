/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses of both families in one form, and the order that makes a connection's key the same for both directions. */
#ifndef FAIRLEAD_LIB_ADDRESS_H
#define FAIRLEAD_LIB_ADDRESS_H

#include <bpf/bpf_endian.h>
#include <linux/in6.h>
#include <stdbool.h>

#include "../shared/connection.h"

static __always_inline struct address address_of_v4(__be32 v4)
{
	return (struct address){ { 0, bpf_cpu_to_be64(0xffff00000000ULL | bpf_ntohl(v4)) } };
}

static __always_inline struct address address_of_v6(const struct in6_addr *v6)
{
	struct address address;

	__builtin_memcpy(&address, v6, sizeof(address));
	return address;
}

static __always_inline bool address_is_v4(const struct address *address)
{
	return !address->half[0] && bpf_be64_to_cpu(address->half[1]) >> 32 == 0xffff;
}

static __always_inline bool address_equal(const struct address *one, const struct address *other)
{
	return one->half[0] == other->half[0] && one->half[1] == other->half[1];
}

/* Whether one is above the other, as numbers. */
static __always_inline bool address_above(const struct address *one, const struct address *other)
{
	__u64 upper = bpf_be64_to_cpu(one->half[0]), others = bpf_be64_to_cpu(other->half[0]);

	if (upper != others)
		return upper > others;
	return bpf_be64_to_cpu(one->half[1]) > bpf_be64_to_cpu(other->half[1]);
}

#endif
