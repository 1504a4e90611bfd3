/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A container speaks as itself and for nobody else: what it sends is held against what its link's guard has.
 *
 *	guard_check          its MAC?   IP: its address?   ARP: neighbour.h   anything else, and every VLAN tag: dropped
 *	  guard_protocol       no DHCP server, router, multicast listener
 *	    guard_control        ICMPv6: neighbour discovery (neighbour.h)
 *
 * The table `bridge fairlead` says the same of links without these programs (fairlead/datapath/filter/spoofing.py), and lets pass what
 * bears MARK_GUARDED; tests/kernel/attacks.py holds both to it. A header is read only where it lies in the packet: never in a later
 * fragment. Where what matters cannot be read it is taken for what would be forbidden there.
 */
#ifndef FAIRLEAD_LIB_GUARD_H
#define FAIRLEAD_LIB_GUARD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "neighbour.h"
#include "owner.h"
#include "packet.h"
#include "parse.h"
#include "verdict.h"

#define BOOTP_SERVER 67
#define BOOTP_CLIENT 68
#define DHCPV6_CLIENT 546
#define DHCPV6_SERVER 547

#define ICMP_REDIRECT 5
#define ICMP_ROUTER_ADVERTISEMENT 9

static __always_inline bool is_mld(__u8 type)
{
	return (type >= MLD_QUERY && type <= MLD_DONE) || type == ICMPV6_MLD2_REPORT;
}

/* Router discovery, redirect, renumbering, multicast router discovery. */
static __always_inline bool is_router_control(__u8 type)
{
	return type == NDISC_ROUTER_SOLICITATION || type == NDISC_ROUTER_ADVERTISEMENT || type == NDISC_REDIRECT || type == 138
	       || (type >= 151 && type <= 153);
}

static __always_inline bool is_nobody(const struct packet *packet)
{
	return packet->family == 6 && !packet->source.half[0] && !packet->source.half[1];
}

/* Whether the IP header claims no more than there is. 0: a send larger than the field can say, cut at the very end. */
static __always_inline bool guard_fits(struct __sk_buff *skb, const struct packet *packet)
{
	struct {
		__u8 length;
		__u8 service;
		__be16 total;
	} four;
	__u32 there = skb->len - ETH_HLEN, total;
	__be16 payload;

	if (packet->family == 6)
		return load(skb, IPV6_LENGTH_AT, &payload) && bpf_ntohs(payload) + sizeof(struct ipv6hdr) <= there;
	if (!load(skb, ETH_HLEN, &four))
		return false;
	total = bpf_ntohs(four.total) ?: there;
	return total <= there && (four.length & 0xf) * 4 <= total;
}

static __always_inline enum reason guard_udp(struct __sk_buff *skb, const struct packet *packet)
{
	bool six = packet->family == 6;
	struct ports ports;

	if (!load(skb, packet->offset, &ports)
	    || ports.source == bpf_htons(six ? DHCPV6_SERVER : BOOTP_SERVER)
	    || ports.destination == bpf_htons(six ? DHCPV6_CLIENT : BOOTP_CLIENT))
		return REASON_DHCP_SERVER;
	return REASON_NONE;
}

static __always_inline enum reason guard_icmp(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type;

	if (!load(skb, packet->offset, &type) || type == ICMP_REDIRECT || type == ICMP_ROUTER_ADVERTISEMENT)
		return REASON_ROUTER;
	return REASON_NONE;
}

/* Errors and echoes pass, neighbour discovery as it is said there. Who has no address yet may ask for its own alone. */
static __always_inline enum reason guard_control(struct __sk_buff *skb, const struct packet *packet, const struct guard *guard)
{
	bool nobody = is_nobody(packet);
	__u8 type;

	if (!load(skb, packet->offset, &type))
		return nobody ? REASON_FOREIGN_ADDRESS : REASON_FOREIGN_NEIGHBOUR;
	if (is_mld(type))
		return REASON_MEMBERSHIP;
	if (nobody)
		return neighbour_detect(skb, packet, type);
	if (type < NDISC_FIRST)
		return REASON_NONE;
	return is_router_control(type) ? REASON_ROUTER : neighbour_check(skb, packet, guard, type);
}

/* Behind a later fragment's header nothing is known of what a further header would say. */
static __always_inline bool is_hidden(const struct packet *packet)
{
	switch (packet->protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return packet->family == 6;
	default:
		return false;
	}
}

/* From an address of its own, or nobody's: what may it not say? A function of its own for the verifier, who looks at it once. */
__noinline int guard_protocol(struct __sk_buff *skb, const struct packet *packet, const struct guard *guard)
{
	if (!packet || !guard)
		return REASON_NO_GUARD;
	if (!guard_fits(skb, packet) || is_hidden(packet))
		return REASON_UNREADABLE;
	if (packet->family == 4 && packet->protocol == IPPROTO_IGMP)
		return REASON_MEMBERSHIP;
	if (packet->later_fragment)
		return is_nobody(packet) ? REASON_FOREIGN_ADDRESS : REASON_NONE;
	if (packet->protocol == IPPROTO_UDP)
		return guard_udp(skb, packet);
	if (packet->family == 4 && packet->protocol == IPPROTO_ICMP)
		return guard_icmp(skb, packet);
	if (packet->family == 6 && packet->protocol == IPPROTO_ICMPV6)
		return guard_control(skb, packet, guard);
	return REASON_NONE;
}

static __always_inline enum reason guard_ip(struct __sk_buff *skb, const struct packet *packet, const struct guard *guard)
{
	bool may_be_nobody = packet->protocol == IPPROTO_ICMPV6 && is_nobody(packet);

	if (!may_be_nobody && !owner_has(packet, guard, &packet->source))
		return REASON_FOREIGN_ADDRESS;
	if (packet->protocol == IPPROTO_TCP)
		return REASON_NONE;
	return guard_protocol(skb, packet, guard);
}

/* parsed: what parse_network made of the packet. A function of its own for the verifier, who looks at it once. */
__noinline int guard_check(struct __sk_buff *skb, struct packet *packet, const struct guard *guard, enum parsed parsed)
{
	if (!packet || !guard)
		return REASON_NO_GUARD;
	if (!guard->checked)
		return REASON_NONE;
	if (packet->from_mac != guard->mac)
		return REASON_FOREIGN_MAC;
	switch (parsed) {
	case PARSED:
		return guard_ip(skb, packet, guard);
	case LINK_UPKEEP:
		return neighbour_arp(skb, packet, guard);
	case MALFORMED:
		return REASON_UNREADABLE;
	default:
		return REASON_OTHER_PROTOCOL;
	}
}

/* On to whoever else is attached, then to the bridge. What came through here unchecked has no mark: the table lets it pass anyway. */
static __always_inline int guard_pass(struct __sk_buff *skb, const struct guard *guard)
{
	if (guard && guard->checked && !guard->routed)
		skb->mark = MARK_GUARDED;
	return TCX_NEXT;
}

/* The frame is for the container behind the link, or for many; where anybody may be behind it, everything is. */
static __always_inline enum reason guard_expects(const struct packet *packet, const struct guard *guard)
{
	const __u8 *first = (const __u8 *)&packet->to_mac;

	if (!guard)
		return REASON_NO_GUARD;
	if (!guard->checked || (*first & 1) || packet->to_mac == guard->mac)
		return REASON_NONE;
	return REASON_NOT_ADDRESSED;
}

#endif
