/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to a packet: Ethernet, IPv4 or IPv6 with its extension headers, TCP, UDP, SCTP, ICMP.
 *
 *	parse -> parse_ip -> parse_ports
 *	                  -> parse_icmp  -> (an error: parse_ip, parse_ports of the packet that it quotes)
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
#define NDISC_FIRST 130		/* multicast listeners, routers and neighbours: every link has them */
#define NDISC_LAST 137

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

static __always_inline enum parsed parse_ipv4(struct packet *packet)
{
	struct iphdr ip;
	__u16 fragment;

	if (!load(packet->skb, packet->offset, &ip) || ip.version != 4 || ip.ihl < 5)
		return MALFORMED;
	packet->family = 4;
	packet->source.address = address_of_v4(ip.saddr);
	packet->destination.address = address_of_v4(ip.daddr);
	packet->protocol = ip.protocol;
	packet->offset += ip.ihl * 4;
	fragment = bpf_ntohs(ip.frag_off) & 0x3fff;	/* MF and the offset */
	packet->later_fragment = fragment & 0x1fff;
	packet->first_fragment = fragment == 0x2000;
	packet->fragment = ip.id;
	return PARSED;
}

/* A fragment header names the protocol of the first fragment's payload: what follows an offset of 0 alone is a header. */
static __always_inline enum parsed parse_fragment(struct packet *packet)
{
	struct {
		__u8 next;
		__u8 reserved;
		__be16 offset;
		__be32 identification;
	} header;

	if (!load(packet->skb, packet->offset, &header))
		return MALFORMED;
	packet->protocol = header.next;
	packet->offset += sizeof(header);
	packet->later_fragment = bpf_ntohs(header.offset) & 0xfff8;
	packet->first_fragment = !packet->later_fragment && (bpf_ntohs(header.offset) & 1);
	packet->fragment = header.identification;
	return PARSED;
}

static __always_inline enum parsed parse_ipv6(struct packet *packet)
{
	struct ipv6hdr ip;

	if (!load(packet->skb, packet->offset, &ip) || ip.version != 6)
		return MALFORMED;
	packet->family = 6;
	packet->source.address = address_of_v6(&ip.saddr);
	packet->destination.address = address_of_v6(&ip.daddr);
	if (address_is_v4(&packet->source.address) || address_is_v4(&packet->destination.address))
		return MALFORMED;	/* would pass for another's; no host sends it */
	packet->protocol = ip.nexthdr;
	packet->offset += sizeof(ip);
	for (int at = 0; at < IPV6_EXTENSIONS; at++) {
		struct ipv6_opt_hdr extension;

		switch (packet->protocol) {
		case IPPROTO_FRAGMENT:
			if (parse_fragment(packet) != PARSED)
				return MALFORMED;
			if (packet->later_fragment)
				return PARSED;
			continue;
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
			if (!load(packet->skb, packet->offset, &extension))
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

static __always_inline enum parsed parse_ip(struct packet *packet, __be16 ethertype)
{
	switch (ethertype) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(packet);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(packet);
	case bpf_htons(ETH_P_ARP):
		return LINK_UPKEEP;
	default:
		return NOT_TRACKED;
	}
}

static __always_inline enum parsed parse_ports(struct packet *packet)
{
	struct ports ports;

	if (!load(packet->skb, packet->offset, &ports))
		return MALFORMED;
	packet->source.port = ports.source;
	packet->destination.port = ports.destination;
	return PARSED;
}

static __always_inline enum parsed parse_tcp(struct packet *packet)
{
	struct tcphdr tcp;

	if (!load(packet->skb, packet->offset, &tcp) || tcp.doff < 5)
		return MALFORMED;
	packet->source.port = tcp.source;
	packet->destination.port = tcp.dest;
	packet->tcp_flags = ((__u8 *)&tcp)[13];
	packet->offset += tcp.doff * 4;
	return PARSED;
}

static __always_inline bool is_icmp_echo(bool six, __u8 type)
{
	if (six)
		return type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY;
	return type == ICMP_ECHO || type == ICMP_ECHOREPLY;
}

/* The error belongs to the connection of the packet that it quotes, and travels the other way. */
static __always_inline enum parsed parse_quoted(struct packet *packet)
{
	struct address from = packet->source.address;
	struct address to = packet->destination.address;
	bool six = packet->family == 6;
	struct party source;
	struct icmp icmp;

	if (parse_ip(packet, packet->skb->protocol) != PARSED)
		return MALFORMED;
	switch (packet->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (packet->later_fragment)
			return NOT_TRACKED;
		if (parse_ports(packet) != PARSED)
			return MALFORMED;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (packet->later_fragment)
			return NOT_TRACKED;
		if (!load(packet->skb, packet->offset, &icmp))
			return MALFORMED;
		if (!is_icmp_echo(six, icmp.type))
			return NOT_TRACKED;
		packet->source.port = icmp.identifier;
		packet->destination.port = icmp.identifier;
		break;
	default:
		return NOT_TRACKED;
	}
	source = packet->source;
	packet->source = packet->destination;
	packet->destination = source;
	packet->related = true;
	packet->stray = !address_equal(&packet->destination.address, &to)
			|| (packet->direction == FROM_POD && !address_equal(&packet->source.address, &from));
	packet->first_fragment = false;
	return PARSED;
}

static __always_inline bool is_icmp_error(bool six, __u8 type)
{
	if (six)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

static __always_inline enum parsed parse_icmp(struct packet *packet)
{
	bool six = packet->protocol == IPPROTO_ICMPV6;
	__u8 reply = six ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;
	struct icmp icmp;

	if (six != (packet->family == 6) || !load(packet->skb, packet->offset, &icmp))
		return MALFORMED;
	packet->offset += sizeof(icmp);
	if (is_icmp_error(six, icmp.type))
		return parse_quoted(packet);
	if (six && ((icmp.type >= NDISC_FIRST && icmp.type <= NDISC_LAST) || icmp.type == ICMPV6_MLD2_REPORT))
		return LINK_UPKEEP;
	packet->reply = icmp.type == reply;
	packet->source.port = is_icmp_echo(six, icmp.type) ? icmp.identifier : bpf_htons(icmp.type << 8 | icmp.code);
	packet->destination.port = packet->source.port;
	return PARSED;
}

static __always_inline enum parsed parse(struct packet *packet)
{
	enum parsed parsed;

	packet->offset = ETH_HLEN;
	parsed = packet->skb->vlan_present ? NOT_TRACKED : parse_ip(packet, packet->skb->protocol);
	if (parsed != PARSED)
		return parsed;
	if (packet->later_fragment)
		return fragment_recall(packet) ? PARSED : FRAGMENT_UNMATCHED;
	switch (packet->protocol) {
	case IPPROTO_TCP:
		parsed = parse_tcp(packet);
		break;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		parsed = parse_ports(packet);
		packet->offset += packet->protocol == IPPROTO_UDP ? UDP_HEADER : SCTP_HEADER;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		parsed = parse_icmp(packet);
		break;
	case IPPROTO_IGMP:
		parsed = LINK_UPKEEP;	/* as its IPv6 counterpart */
		break;
	}
	if (parsed == PARSED && packet->first_fragment)
		fragment_remember(packet);
	return parsed;
}

#endif
