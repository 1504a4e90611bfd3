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

/* Below, equal or above zero, by address, then port, as numbers. */
static __always_inline int party_compare(const struct party *one, const struct party *other)
{
	for (int at = 0; at < 2; at++) {
		__u64 a = bpf_be64_to_cpu(one->address.half[at]);
		__u64 b = bpf_be64_to_cpu(other->address.half[at]);

		if (a != b)
			return a < b ? -1 : 1;
	}
	return (int)bpf_ntohs(one->port) - (int)bpf_ntohs(other->port);
}

#endif
