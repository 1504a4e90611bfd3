/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Only the first fragment has ports: they are remembered for those that follow it. Functions of their own for the verifier, who looks at
 * them once.
 */
#ifndef FAIRLEAD_LIB_FRAGMENT_H
#define FAIRLEAD_LIB_FRAGMENT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"

struct fragment_key {
	struct address source;
	struct address destination;
	__u32 identification;
	__u8 protocol;
	__u8 zero[3];
};

struct fragment_ports {
	__be16 source;
	__be16 destination;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
} fragments SEC(".maps");

static __always_inline struct fragment_key fragment_key(const struct packet *packet)
{
	return (struct fragment_key){
		.source = packet->source,
		.destination = packet->destination,
		.identification = packet->fragment,
		.protocol = packet->protocol,
	};
}

__noinline int fragment_remember(const struct packet *packet)
{
	struct fragment_ports ports;
	struct fragment_key key;

	if (!packet)
		return 0;
	key = fragment_key(packet);
	ports = (struct fragment_ports){ packet->source_port, packet->destination_port };
	return bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
}

/* Whether the ports are known. */
__noinline int fragment_recall(struct packet *packet)
{
	struct fragment_ports *ports;
	struct fragment_key key;

	if (!packet)
		return false;
	key = fragment_key(packet);
	ports = bpf_map_lookup_elem(&fragments, &key);
	if (!ports)
		return false;
	packet->source_port = ports->source;
	packet->destination_port = ports->destination;
	return true;
}

#endif
