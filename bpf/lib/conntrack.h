/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connection table: one entry for both directions, shared by every interface.
 *
 * A connection between two containers of this node passes four hooks. It is counted at one interface alone, the first that
 * saw it; another takes over once that one has seen nothing for a second, as when its link was made anew. Each packet passes
 * either interface once, so that it is counted once.
 *
 *	(no entry) --first packet--> OPENING --answer--> ESTABLISHED --FIN from both--> CLOSING --any other packet--> CLOSED
 *	                                any state --RST--> CLOSED --SYN--> OPENING, as a new connection
 *
 * A closed entry stays until user space sweeps it or the table needs its place: the last packet has one more hook to pass.
 */
#ifndef FAIRLEAD_LIB_CONNTRACK_H
#define FAIRLEAD_LIB_CONNTRACK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <linux/errno.h>
#include <linux/in.h>

#include "address.h"
#include "counter.h"
#include "flow.h"
#include "packet.h"

#define SECOND 1000000000LL

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct tuple);
	__type(value, struct connection);
} connections SEC(".maps");

/* A new entry and its key. */
struct beginning {
	struct tuple tuple;
	struct connection connection;
};

/* Where it is made: the stack is too small, and before Linux 6.2 a key may not lie in what a function of its own was given a pointer to. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct beginning);
} beginnings SEC(".maps");

/* What else is known where a connection begins. */
struct opening {
	__u64 stamp;		/* 0: this side has not decided */
	__u64 rule;
	struct connection *closed;	/* in whose place it begins, if in any */
	bool by_sender;
	bool wait;		/* it is told of later */
};

static __always_inline struct tuple tuple_of(const struct packet *packet)
{
	bool high = packet->source_is_high;

	return (struct tuple){
		.low = high ? packet->destination : packet->source,
		.high = high ? packet->source : packet->destination,
		.low_port = high ? packet->destination_port : packet->source_port,
		.high_port = high ? packet->source_port : packet->destination_port,
		.protocol = packet->protocol,
	};
}

static __always_inline bool is_syn(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* From which end the packet comes, if nobody has translated it yet; else 0. */
static __always_inline __u8 sight_of(const struct end *end)
{
	if (end->direction == FROM_POD)
		return SEEN_SENT;
	return end->remote ? SEEN_RECEIVED : 0;
}

/* The beginning of a TCP connection that was not seen: a SYN+ACK answers, and servers have the lower ports. */
static __always_inline bool sent_by_opener(const struct packet *packet)
{
	if (packet->protocol != IPPROTO_TCP)
		return !packet->reply;
	if (packet->tcp_flags & TCP_SYN)
		return !(packet->tcp_flags & TCP_ACK);
	return bpf_ntohs(packet->source_port) >= bpf_ntohs(packet->destination_port);
}

static __always_inline void connection_begin(struct connection *connection, const struct packet *packet, const struct end *end,
					     bool opener)
{
	__u64 now = bpf_ktime_get_ns();
	enum way way = opener ? WAY_FORTH : WAY_BACK;

	*connection = (struct connection){
		.first = now,
		.last = now,
		.state = STATE_OPENING,
		.ifindex = end->ifindex,
		.opener_is_high = packet->source_is_high == opener,
		.outgoing = (end->direction == FROM_POD) == opener,
		.midway = packet->protocol == IPPROTO_TCP ? !is_syn(packet) : packet->reply,
		.as_is = sight_of(end),
	};
	connection->amount[way] = packet->amount;
	connection->tcp_flags[way] = packet->tcp_flags;
}

/* A new entry. Whether there is one: another CPU may have been first, then this packet goes uncounted. */
static __always_inline bool conntrack_add(struct beginning *beginning, const struct tuple *tuple)
{
	long failed;

	beginning->tuple = *tuple;
	failed = bpf_map_update_elem(&connections, &beginning->tuple, &beginning->connection, BPF_NOEXIST);
	if (failed && failed != -EEXIST)
		count(COUNTER_TABLE_FULL);
	if (failed)
		return false;
	count(COUNTER_REMEMBERED);
	return true;
}

/* The entry of a connection that is over, used again where it lies: a new one would cost as much as all else about the packet. */
static __always_inline bool conntrack_reuse(struct connection *closed, const struct connection *fresh)
{
	if (__sync_val_compare_and_swap(&closed->state, STATE_CLOSED, STATE_OPENING) != STATE_CLOSED)
		return false;
	*closed = *fresh;
	return true;
}

/* Remember the connection that the packet begins, which this side has let pass because of rule; whether it is remembered. */
static __always_inline bool conntrack_open(const struct packet *packet, const struct end *end, const struct tuple *tuple,
					   const struct opening *opening)
{
	__u32 only = 0;
	struct beginning *beginning = bpf_map_lookup_elem(&beginnings, &only);
	struct connection *fresh;

	if (!beginning)
		return false;
	fresh = &beginning->connection;
	connection_begin(fresh, packet, end, opening->by_sender);
	if (fresh->outgoing) {
		fresh->decided[SIDE_OPENER] = opening->stamp;
		fresh->egress_rule = opening->rule;
	} else {
		fresh->decided[SIDE_RESPONDER] = opening->stamp;
		fresh->ingress_rule = opening->rule;
	}
	if (opening->closed ? !conntrack_reuse(opening->closed, fresh) : !conntrack_add(beginning, tuple))
		return false;
	if (!opening->wait)
		flow_tell(EVENT_NEW, tuple, fresh, REASON_NONE, FROM_POD);
	return true;
}

/* The clock of ticks is behind the one that a connection begins by. */
static __always_inline void connection_touch(struct connection *connection, __u64 now)
{
	if ((__s64)(now - connection->last) > 0)
		connection->last = now;
}

/* Once for each connection, whichever CPU comes first. reason: as flow_tell has it. */
static __always_inline void conntrack_close(struct connection *connection, const struct tuple *tuple, enum reason reason,
					    enum direction direction)
{
	__u32 state = connection->state;

	if (state == STATE_CLOSED || __sync_val_compare_and_swap(&connection->state, state, STATE_CLOSED) != state)
		return;
	connection->last = bpf_ktime_get_ns();
	flow_tell(EVENT_CLOSE, tuple, connection, reason, direction);
}

static __always_inline void conntrack_advance(struct connection *connection, enum way way)
{
	if (way == WAY_BACK && connection->state == STATE_OPENING)
		__sync_val_compare_and_swap(&connection->state, STATE_OPENING, STATE_ESTABLISHED);
	if (connection->tcp_flags[WAY_FORTH] & connection->tcp_flags[WAY_BACK] & TCP_FIN)
		__sync_val_compare_and_swap(&connection->state, STATE_ESTABLISHED, STATE_CLOSING);
}

static __always_inline enum way way_of(const struct connection *connection, const struct packet *packet)
{
	if (packet->reply && address_equal(&packet->source, &packet->destination))
		return WAY_BACK;	/* to oneself: both parties are the same */
	return packet->source_is_high == connection->opener_is_high ? WAY_FORTH : WAY_BACK;
}

/* At this end, or at the other, which the packet does not pass on its own. */
static __always_inline bool counted_here(struct connection *connection, const struct end *end, __u32 other, __u64 now)
{
	__u32 ifindex = connection->ifindex;

	if (ifindex == end->ifindex || ifindex == other)
		return true;
	/* Signed: another CPU may have written a later time meanwhile. */
	if ((__s64)(now - connection->last) < SECOND)
		return false;
	connection->ifindex = end->ifindex;
	return true;
}

static __always_inline void conntrack_see(struct connection *connection, const struct packet *packet, const struct tuple *tuple)
{
	enum way way = way_of(connection, packet);
	struct amount amount = packet->amount;
	bool closing = connection->state == STATE_CLOSING;

	__sync_fetch_and_add(&connection->amount[way].packets, amount.packets);
	__sync_fetch_and_add(&connection->amount[way].bytes, amount.bytes);
	if (packet->related || packet->later_fragment)
		return;
	if (packet->tcp_flags & ~connection->tcp_flags[way])
		connection->tcp_flags[way] |= packet->tcp_flags;
	conntrack_advance(connection, way);
	if ((packet->tcp_flags & TCP_RST) || (closing && !(packet->tcp_flags & TCP_FIN)))
		conntrack_close(connection, tuple, REASON_NONE, FROM_POD);
}

static __always_inline void conntrack_count(struct connection *connection, const struct packet *packet, const struct end *end,
					    __u32 other, const struct tuple *tuple, __u64 now)
{
	if (!counted_here(connection, end, other, now))
		return;
	connection_touch(connection, now);
	conntrack_see(connection, packet, tuple);
}

#endif
