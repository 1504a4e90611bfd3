/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to a packet: Ethernet, IPv4 or IPv6 with its extension headers, TCP, UDP, SCTP, ICMP.
 *
 *	parse_network   -> parse_ip
 *	parse_transport -> parse_ports
 *	                -> parse_icmp  -> (an error: parse_ip, parse_ports of the packet that it quotes)
 */
#ifndef FAIRLEAD_LIB_PARSE_H
#define FAIRLEAD_LIB_PARSE_H

#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "address.h"
#include "bounds.h"
#include "fragment.h"
#include "neighbour.h"
#include "packet.h"

#define IPV6_EXTENSIONS 6	/* more of them no honest packet has */
#define SCTP_HEADER 12
#define UDP_HEADER 8

/* linux/icmp.h cannot be read without the C library's headers. */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

enum parsed {
	PARSED,
	LINK_UPKEEP,		/* has no connection, and the link does not work without: ARP, neighbour discovery */
	NOT_TRACKED,		/* has no connection */
	MALFORMED,
	FRAGMENT_UNMATCHED,
};

/* Of both families: type, code and identifier lie in the same places. */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};

struct ports {
	__be16 source;
	__be16 destination;
};

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr *ip = in_place(skb, packet->offset, sizeof(*ip));
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return MALFORMED;
	packet->family = 4;
	packet->source = address_of_v4(ip->saddr);
	packet->destination = address_of_v4(ip->daddr);
	packet->protocol = ip->protocol;
	packet->offset += ip->ihl * 4;
	fragment = bpf_ntohs(ip->frag_off) & 0x3fff;	/* MF and the offset */
	packet->later_fragment = fragment & 0x1fff;
	packet->first_fragment = fragment == 0x2000;
	packet->fragment = ip->id;
	return PARSED;
}

/* A fragment header names the protocol of the first fragment's payload: what follows an offset of 0 alone is a header. */
static __always_inline enum parsed parse_fragment(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		__u8 next;
		__u8 reserved;
		__be16 offset;
		__be32 identification;
	} header;

	if (!load(skb, packet->offset, &header))
		return MALFORMED;
	packet->protocol = header.next;
	packet->offset += sizeof(header);
	packet->later_fragment = bpf_ntohs(header.offset) & 0xfff8;
	packet->first_fragment = !packet->later_fragment && (bpf_ntohs(header.offset) & 1);
	packet->fragment = header.identification;
	return PARSED;
}

static __always_inline enum parsed parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr *ip = in_place(skb, packet->offset, sizeof(*ip));

	if (!ip || ip->version != 6)
		return MALFORMED;
	packet->family = 6;
	packet->source = address_of_v6(&ip->saddr);
	packet->destination = address_of_v6(&ip->daddr);
	if (address_is_v4(&packet->source) || address_is_v4(&packet->destination))
		return MALFORMED;	/* would pass for another's; no host sends it */
	packet->protocol = ip->nexthdr;
	packet->offset += sizeof(*ip);
	for (int at = 0; at < IPV6_EXTENSIONS; at++) {
		struct ipv6_opt_hdr extension;

		switch (packet->protocol) {
		case IPPROTO_FRAGMENT:
			if (parse_fragment(skb, packet) != PARSED)
				return MALFORMED;
			if (packet->later_fragment)
				return PARSED;
			continue;
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
			if (!load(skb, packet->offset, &extension))
				return MALFORMED;
			packet->offset += packet->protocol == IPPROTO_AH ? (extension.hdrlen + 2) * 4 : (extension.hdrlen + 1) * 8;
			packet->protocol = extension.nexthdr;
			continue;
		default:
			return PARSED;
		}
	}
	return MALFORMED;
}

static __always_inline enum parsed parse_ip(struct __sk_buff *skb, struct packet *packet, __be16 ethertype)
{
	switch (ethertype) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(skb, packet);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(skb, packet);
	case bpf_htons(ETH_P_ARP):
		return LINK_UPKEEP;
	default:
		return NOT_TRACKED;
	}
}

static __always_inline enum parsed parse_ports(struct __sk_buff *skb, struct packet *packet)
{
	struct ports *ports = in_place(skb, packet->offset, sizeof(*ports));

	if (!ports)
		return MALFORMED;
	packet->source_port = ports->source;
	packet->destination_port = ports->destination;
	return PARSED;
}

static __always_inline enum parsed parse_tcp(struct __sk_buff *skb, struct packet *packet)
{
	struct tcphdr *tcp = in_place(skb, packet->offset, sizeof(*tcp));

	if (!tcp || tcp->doff < 5)
		return MALFORMED;
	packet->source_port = tcp->source;
	packet->destination_port = tcp->dest;
	packet->tcp_flags = ((__u8 *)tcp)[13];
	packet->offset += tcp->doff * 4;
	return PARSED;
}

static __always_inline bool is_icmp_echo(bool six, __u8 type)
{
	if (six)
		return type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY;
	return type == ICMP_ECHO || type == ICMP_ECHOREPLY;
}

/* Who sent it becomes to whom it was sent. */
static __always_inline void parse_turn(struct packet *packet)
{
	struct address source = packet->source;
	__be16 port = packet->source_port;

	packet->source = packet->destination;
	packet->source_port = packet->destination_port;
	packet->destination = source;
	packet->destination_port = port;
}

/* Whether the source is the higher of a connection's two parties: by address, then port, as numbers. */
static __always_inline bool parse_is_high(const struct packet *packet)
{
	if (!address_equal(&packet->source, &packet->destination))
		return address_above(&packet->source, &packet->destination);
	return bpf_ntohs(packet->source_port) > bpf_ntohs(packet->destination_port);
}

/* The error belongs to the connection of the packet that it quotes, and travels the other way. */
static __always_inline enum parsed parse_quoted(struct __sk_buff *skb, struct packet *packet)
{
	struct address from = packet->source;
	struct address to = packet->destination;
	bool six = packet->family == 6;
	struct icmp icmp;

	if (parse_ip(skb, packet, skb->protocol) != PARSED)
		return MALFORMED;
	switch (packet->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (packet->later_fragment)
			return NOT_TRACKED;
		if (parse_ports(skb, packet) != PARSED)
			return MALFORMED;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (packet->later_fragment)
			return NOT_TRACKED;
		if (!load(skb, packet->offset, &icmp))
			return MALFORMED;
		if (!is_icmp_echo(six, icmp.type))
			return NOT_TRACKED;
		packet->source_port = icmp.identifier;
		packet->destination_port = icmp.identifier;
		break;
	default:
		return NOT_TRACKED;
	}
	parse_turn(packet);
	packet->related = true;
	packet->stray = !address_equal(&packet->destination, &to)
			|| (packet->direction == FROM_POD && !address_equal(&packet->source, &from));
	packet->first_fragment = false;
	return PARSED;
}

static __always_inline bool is_icmp_error(bool six, __u8 type)
{
	if (six)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* A function of its own for the verifier, who looks at it once. */
__noinline int parse_icmp(struct __sk_buff *skb, struct packet *packet)
{
	struct icmp icmp;
	__u8 reply;
	bool six;

	if (!packet)
		return MALFORMED;
	six = packet->protocol == IPPROTO_ICMPV6;
	reply = six ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;
	if (six != (packet->family == 6) || !load(skb, packet->offset, &icmp))
		return MALFORMED;
	packet->offset += sizeof(icmp);
	if (is_icmp_error(six, icmp.type))
		return parse_quoted(skb, packet);
	if (six && ((icmp.type >= NDISC_FIRST && icmp.type <= NDISC_LAST) || icmp.type == ICMPV6_MLD2_REPORT))
		return LINK_UPKEEP;
	packet->reply = icmp.type == reply;
	packet->source_port = is_icmp_echo(six, icmp.type) ? icmp.identifier : bpf_htons(icmp.type << 8 | icmp.code);
	packet->destination_port = packet->source_port;
	return PARSED;
}

static __always_inline __u64 mac_of(const unsigned char *bytes)
{
	__u64 mac = 0;

	__builtin_memcpy(&mac, bytes, ETH_ALEN);
	return mac;
}

/* Ethernet and IP: who speaks to whom. What is no IP has no parties. */
static __always_inline enum parsed parse_network(struct __sk_buff *skb, struct packet *packet)
{
	struct ethhdr *ethernet = in_place(skb, 0, sizeof(*ethernet));

	if (!ethernet)
		return MALFORMED;
	packet->to_mac = mac_of(ethernet->h_dest);
	packet->from_mac = mac_of(ethernet->h_source);
	packet->offset = ETH_HLEN;
	return skb->vlan_present ? NOT_TRACKED : parse_ip(skb, packet, skb->protocol);
}

static __always_inline enum parsed parse_protocol(struct __sk_buff *skb, struct packet *packet)
{
	enum parsed parsed;

	switch (packet->protocol) {
	case IPPROTO_TCP:
		return parse_tcp(skb, packet);
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		parsed = parse_ports(skb, packet);
		packet->offset += packet->protocol == IPPROTO_UDP ? UDP_HEADER : SCTP_HEADER;
		return parsed;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return parse_icmp(skb, packet);
	case IPPROTO_IGMP:
		return LINK_UPKEEP;	/* as its IPv6 counterpart */
	default:
		return PARSED;
	}
}

/* Ports, and what else tells one connection between the two from another; where parse_network found no two, that. */
static __always_inline enum parsed parse_transport(struct __sk_buff *skb, struct packet *packet, enum parsed parsed)
{
	if (parsed == PARSED && packet->later_fragment)
		parsed = fragment_recall(packet) ? PARSED : FRAGMENT_UNMATCHED;
	else if (parsed == PARSED)
		parsed = parse_protocol(skb, packet);
	if (parsed == PARSED && packet->first_fragment)
		fragment_remember(packet);
	packet->amount = amount_of(skb, packet->offset);
	packet->source_is_high = parse_is_high(packet);
	return parsed;
}

#endif
