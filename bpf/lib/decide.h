/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What both hooks of a container's link have in common: find the packet's connection, let it pass or not. */
#ifndef FAIRLEAD_LIB_DECIDE_H
#define FAIRLEAD_LIB_DECIDE_H

#include "counter.h"
#include "parse.h"
#include "policy.h"
#include "verdict.h"

static __always_inline struct verdict decide_untracked(const struct end *here, enum parsed parsed)
{
	switch (parsed) {
	case LINK_UPKEEP:
		count(COUNTER_NOT_TRACKED);
		return policy_untracked(here, REASON_NONE);
	case NOT_TRACKED:
		count(COUNTER_NOT_TRACKED);
		return policy_untracked(here, REASON_NOT_TRACKED);
	case FRAGMENT_UNMATCHED:
		count(COUNTER_FRAGMENT_UNMATCHED);
		return policy_untracked(here, REASON_FRAGMENT_UNMATCHED);
	default:
		count(COUNTER_MALFORMED);
		return policy_untracked(here, REASON_MALFORMED);
	}
}

/*
 * Whether nobody between the two ends changes addresses: who opens a TCP connection answers nobody, and what goes on passed the other
 * end as it is. Where the bridge translates (a published port of a neighbour), the answer's connection began at this end alone.
 */
static __always_inline bool decide_for_both(const struct packet *packet, const struct end *there,
					    const struct connection *connection)
{
	if (!connection || policy_anew(connection, packet))
		return is_syn(packet);
	return connection->decided[side_of(there, way_of(connection, packet)) & 1];
}

/*
 * Whether nobody on this node changes addresses between the container at the end here and another node: who opens a TCP connection
 * answers nobody; else both ends were seen to send to each other. A fragment goes where the others of its datagram can be waited for.
 */
static __always_inline bool decide_is_plain(const struct packet *packet, const struct end *here, struct connection *connection)
{
	__u8 sight = sight_of(here);

	if (packet->first_fragment || packet->later_fragment || packet->stray)
		return false;
	if (!connection || policy_anew(connection, packet))
		return is_syn(packet);
	if (!packet->related && !(connection->as_is & sight))
		connection->as_is |= sight;
	return connection->as_is == SEEN_BOTH || is_syn(packet);
}

/* Where a packet that passes may go on to. */
enum onward {
	ONWARD_HOST,		/* whoever else is attached, the bridge, the host's stack */
	ONWARD_LOCAL,		/* the other link, at which it was decided on */
	ONWARD_REMOTE,		/* another node, if its container is there */
};

/* Both ends have decided on the connection, and nothing is left to say of the packet. */
static __always_inline bool decide_is_settled(const struct packet *packet, const struct moment *moment, const struct end *here,
					      const struct end *there, const struct connection *connection)
{
	return connection && connection->state != STATE_CLOSED && policy_decided(connection, packet, here, moment)
	       && policy_decided(connection, packet, there, moment);
}

/*
 * At the end where the packet is seen, which decision has; then at the link there, if it can go to one (0: none) without being seen
 * again.
 */
static __always_inline enum onward decide(const struct packet *packet, const struct moment *moment, struct connection *connection,
					  __u32 there, struct decision *decision)
{
	struct end other = { .ifindex = there, .direction = TO_POD };
	enum onward onward = ONWARD_HOST;
	bool settled;

	if (there && decide_is_settled(packet, moment, &decision->end, &other, connection)) {
		conntrack_count(connection, packet, &decision->end, there, &moment->tuple, moment->now);
		return ONWARD_LOCAL;
	}
	if (there && !decide_for_both(packet, &other, connection))
		there = 0;
	if (packet->direction == FROM_POD && decide_is_plain(packet, &decision->end, connection))
		onward = ONWARD_REMOTE;
	settled = there && connection && !policy_anew(connection, packet) && policy_decided(connection, packet, &other, moment);
	if (there && !settled)
		decision->end.telling = TELL_LATER;
	if (policy_at(packet, moment, connection, decision, settled ? there : 0) != REASON_NONE)
		return ONWARD_HOST;
	if (!there)
		return onward;
	if (settled)
		return ONWARD_LOCAL;
	if (!connection)	/* there may be one by now */
		connection = bpf_map_lookup_elem(&connections, &moment->tuple);
	other.telling = decision->end.telling == TELL_OF_OTHER ? TELL_OF_OTHER : TELL_AT_ONCE;
	decision->end = other;
	policy_at(packet, moment, connection, decision, 0);
	return ONWARD_LOCAL;
}

/* The same of what comes from another node for the end that decision has. Whether it can go there as it is; else nothing was decided. */
static __always_inline bool decide_arrived(const struct packet *packet, struct decision *decision)
{
	struct connection *connection;
	struct moment moment;

	moment_begin(&moment, packet);
	connection = bpf_map_lookup_elem(&connections, &moment.tuple);
	if (!decide_is_plain(packet, &decision->end, connection))
		return false;
	policy_at(packet, &moment, connection, decision, 0);
	return true;
}

#endif
