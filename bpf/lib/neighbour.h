/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ARP and IPv6 neighbour discovery: who says that an address is at a MAC, or asks for it, says so of its own alone.
 *
 * A message of neighbour discovery stands right behind the IPv6 header and has at most one option, as Linux sends it: none (24
 * bytes) or one of eight bytes (32). Anything else is not believed.
 */
#ifndef FAIRLEAD_LIB_NEIGHBOUR_H
#define FAIRLEAD_LIB_NEIGHBOUR_H

#include <linux/if_ether.h>
#include <linux/ipv6.h>

#include "bounds.h"
#include "owner.h"
#include "packet.h"

#define NDISC_FIRST 130		/* multicast listeners, routers and neighbours: every link has them */
#define MLD_QUERY 130
#define MLD_DONE 132
#define NDISC_ROUTER_SOLICITATION 133
#define NDISC_ROUTER_ADVERTISEMENT 134
#define NDISC_SOLICITATION 135
#define NDISC_ADVERTISEMENT 136
#define NDISC_REDIRECT 137
#define NDISC_LAST 137

#define OPTION_SOURCE 1
#define OPTION_TARGET 2
#define OPTION_NONCE 14		/* RFC 7527 */

#define IPV6_LENGTH_AT (ETH_HLEN + 4)

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	__u8 from_mac[ETH_ALEN];
	__be32 from;
	__u8 to_mac[ETH_ALEN];
	__be32 to;
} __attribute__((packed));

struct solicitation {
	struct in6_addr target;
	struct {
		__u8 type;
		__u8 units;	/* of eight bytes */
		__u8 mac[ETH_ALEN];
	} option;
	bool has_option;
};

static __always_inline bool is_mac(const __u8 *bytes, __u64 mac)
{
	__u64 found = 0;

	__builtin_memcpy(&found, bytes, ETH_ALEN);
	return found == mac;
}

/* Target and option of a solicitation or an advertisement; false if it is neither in the form that is believed. */
static __always_inline bool neighbour_parse(struct __sk_buff *skb, const struct packet *packet, struct solicitation *found)
{
	__u32 at = ETH_HLEN + sizeof(struct ipv6hdr);
	__be16 length;

	if (packet->offset != at || !load(skb, IPV6_LENGTH_AT, &length) || !load(skb, at + 8, &found->target))
		return false;
	found->has_option = length == bpf_htons(32);
	if (!found->has_option)
		return length == bpf_htons(24);
	return load(skb, at + 24, &found->option);
}

static __always_inline bool is_own_target(const struct packet *packet, const struct solicitation *found)
{
	struct address target = address_of_v6(&found->target);

	return owner_way(packet, &target) == OWNED_HERE;
}

/* The option that says where the sender is; none is fine. */
static __always_inline bool tells_own_mac(const struct solicitation *found, __u8 option, __u64 mac)
{
	if (!found->has_option)
		return true;
	return found->option.type == option && found->option.units == 1 && is_mac(found->option.mac, mac);
}

static __always_inline enum reason neighbour_check(struct __sk_buff *skb, const struct packet *packet, const struct guard *guard, __u8 type)
{
	struct solicitation found = { 0 };

	if (!neighbour_parse(skb, packet, &found))
		return REASON_FOREIGN_NEIGHBOUR;
	if (type == NDISC_SOLICITATION && tells_own_mac(&found, OPTION_SOURCE, guard->mac))
		return REASON_NONE;
	if (type == NDISC_ADVERTISEMENT && is_own_target(packet, &found) && tells_own_mac(&found, OPTION_TARGET, guard->mac))
		return REASON_NONE;
	return REASON_FOREIGN_NEIGHBOUR;
}

/* From nobody: is anybody using the address that is to be mine? */
static __always_inline enum reason neighbour_detect(struct __sk_buff *skb, const struct packet *packet, __u8 type)
{
	struct solicitation found = { 0 };

	if (type != NDISC_SOLICITATION || packet->offset != ETH_HLEN + sizeof(struct ipv6hdr))
		return REASON_FOREIGN_ADDRESS;
	if (!neighbour_parse(skb, packet, &found) || !is_own_target(packet, &found))
		return REASON_FOREIGN_NEIGHBOUR;
	if (found.has_option && (found.option.type != OPTION_NONCE || found.option.units != 1))
		return REASON_FOREIGN_NEIGHBOUR;
	return REASON_NONE;
}

/* Requests and replies from its own MAC and address; a probe for its own from no address yet. */
__noinline int neighbour_arp(struct __sk_buff *skb, struct packet *packet, const struct guard *guard)
{
	struct arp arp;

	if (!packet || !guard)
		return REASON_NO_GUARD;
	if (!load(skb, ETH_HLEN, &arp))
		return REASON_FOREIGN_ARP;
	packet->source = address_of_v4(arp.from);
	packet->destination = address_of_v4(arp.to);
	if (arp.hardware != bpf_htons(ARP_ETHERNET) || arp.protocol != bpf_htons(ETH_P_IP) || arp.hardware_size != ETH_ALEN
	    || arp.protocol_size != 4 || !is_mac(arp.from_mac, guard->mac))
		return REASON_FOREIGN_ARP;
	if (arp.operation == bpf_htons(ARP_REQUEST) && !arp.from)
		return owner_way(packet, &packet->destination) ? REASON_NONE : REASON_FOREIGN_ARP;
	if (arp.operation != bpf_htons(ARP_REQUEST) && arp.operation != bpf_htons(ARP_REPLY))
		return REASON_FOREIGN_ARP;
	return owner_way(packet, &packet->source) ? REASON_NONE : REASON_FOREIGN_ARP;
}

#endif
