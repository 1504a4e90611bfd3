/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What policies say of a packet at one end of its connection, the link of endpoint E. Each side is decided once for each revision of
 * the policies and each link; whatever belongs to it then passes, answers too.
 *
 *	known, decided at this revision    passes
 *	known                              as the side of E: the opener by its egress, the responder by its ingress
 *	begun before it was seen           as if who sends had opened it
 *	not known                          the same; at an endpoint that is not isolated the port numbers say who opened it
 */
#ifndef FAIRLEAD_LIB_POLICY_H
#define FAIRLEAD_LIB_POLICY_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/endpoint.h"
#include "answer.h"
#include "conntrack.h"
#include "hits.h"
#include "packet.h"
#include "verdict.h"

/* What is asked where a connection begins: who sends it opens it. */
static __always_inline struct question policy_first(const struct packet *packet, const struct end *end, const struct moment *moment)
{
	return question_of(packet, end, moment, end->direction == FROM_POD ? SIDE_OPENER : SIDE_RESPONDER, true);
}

/* To itself; an ICMP error between other parties is not. */
static __always_inline bool is_to_itself(const struct packet *packet)
{
	return address_equal(&packet->source, &packet->destination) && !packet->related;
}

/* Made by this node itself: probes of containers' health must reach them. */
static __always_inline bool policy_exempt(const struct end *end)
{
	__u32 only = 0;
	struct config *found = end->ours ? bpf_map_lookup_elem(&config, &only) : NULL;

	return found && found->node_reaches_pods;
}

/* What has no connection, or none that can be known: passes where no policy could say otherwise. */
static __always_inline struct verdict policy_untracked(const struct end *end, enum reason reason)
{
	__u32 ifindex = end->ifindex;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &ifindex);

	if (!endpoint)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	return (struct verdict){ .reason = is_isolated(endpoint) ? reason : REASON_NONE };
}

/* The packet belongs to no connection that is known, or begins one in place of one that is closed. */
static __always_inline struct verdict policy_begin(const struct packet *packet, struct decision *decision,
						   const struct moment *moment, struct connection *closed)
{
	const struct end *end = &decision->end;
	struct question question = policy_first(packet, end, moment);
	const struct answer *answer = answer_to(&question, moment);
	bool begins = !packet->related && !packet->later_fragment && !(packet->tcp_flags & (TCP_FIN | TCP_RST));
	bool exempt = policy_exempt(end);
	struct opening opening = { .stamp = stamp_of(moment, end), .closed = closed };
	struct verdict verdict = { .reason = REASON_NONE };

	if (!answer)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	opening.by_sender = answer->isolated || closed || sent_by_opener(packet);
	if (answer->isolated && !exempt && !is_to_itself(packet)) {
		if (packet->related)
			return (struct verdict){ .reason = REASON_RELATED_UNKNOWN };
		verdict = answer->verdict;
		if (verdict.reason != REASON_NONE)
			return verdict;
	}
	/* In the midst of a connection this node may have answered: what the container then says is asked about. */
	if (exempt && packet->protocol == IPPROTO_TCP && !is_syn(packet))
		opening.stamp = 0;
	opening.rule = verdict.rule;
	opening.wait = end->telling == TELL_LATER;
	if (begins && conntrack_open(packet, end, &moment->tuple, &opening)) {
		if (opening.wait)
			decision->end.telling = TELL_OF_OTHER;
		if (verdict.rule)
			hits_add(verdict.rule, 1, 0, moment->now);
	}
	return verdict;
}

/* The connection that has begun at the other end is told of, if it was left to this one. */
static __always_inline void policy_tell(struct decision *decision, const struct connection *connection, const struct moment *moment)
{
	if (decision->end.telling == TELL_OF_OTHER)
		flow_tell(EVENT_NEW, &moment->tuple, connection, REASON_NONE, FROM_POD);
	decision->end.telling = TELL_AT_ONCE;
}

/* Cut what was allowed once. It stays known as long as its parties try: nobody shall take what comes for a new one. */
static __always_inline void policy_cut(struct connection *connection, const struct packet *packet, enum side side,
				       const struct verdict *verdict, const struct moment *moment)
{
	if (packet->related || connection->midway)
		return;
	connection_touch(connection, moment->now);
	connection->decided[side & 1] = 0;
	connection->denied[side & 1] = 1;
	if (side == SIDE_OPENER)
		connection->egress_rule = verdict->rule;
	else
		connection->ingress_rule = verdict->rule;
	conntrack_close(connection, &moment->tuple, verdict->reason, side == SIDE_OPENER ? FROM_POD : TO_POD);
}

static __always_inline enum side side_of(const struct end *end, enum way way)
{
	return (end->direction == FROM_POD) == (way == WAY_FORTH) ? SIDE_OPENER : SIDE_RESPONDER;
}

/* The side of this link has not decided on the connection, or policies have changed since. */
static __always_inline struct verdict policy_again(struct connection *connection, const struct packet *packet,
						   struct decision *decision, const struct moment *moment)
{
	const struct end *end = &decision->end;
	enum way way = way_of(connection, packet);
	enum side side = side_of(end, way);
	bool contrary = way == WAY_BACK && is_syn(packet);
	bool anew = connection->midway || contrary;
	struct question question = anew ? policy_first(packet, end, moment) : question_of(packet, end, moment, side, way == WAY_FORTH);
	const struct answer *answer = answer_to(&question, moment);
	struct verdict verdict;

	if (!answer)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	if (policy_exempt(end)) {
		if (way == WAY_FORTH && !connection->midway && !packet->related)
			connection->decided[side & 1] = question.stamp;
		return (struct verdict){ .reason = REASON_NONE };
	}
	if (packet->related && packet->stray && answer->isolated)
		return (struct verdict){ .reason = REASON_RELATED_UNKNOWN };
	verdict = answer->verdict;
	if (verdict.reason != REASON_NONE) {
		policy_tell(decision, connection, moment);
		if (!contrary)
			policy_cut(connection, packet, side, &verdict, moment);
		return verdict;
	}
	if (contrary)
		return verdict;
	connection->denied[side & 1] = 0;
	if (packet->protocol != IPPROTO_TCP && !connection->denied[!side])
		__sync_val_compare_and_swap(&connection->state, STATE_CLOSED, STATE_OPENING);
	if (verdict.rule && !connection->decided[side & 1])
		hits_add(verdict.rule, 1, 0, moment->now);
	if (question.side == SIDE_OPENER)
		connection->egress_rule = verdict.rule;
	else
		connection->ingress_rule = verdict.rule;
	connection->decided[side & 1] = question.stamp;
	return verdict;
}

/* Whether the packet opens a connection the other way, or one that was closed, in place of the one that is known. */
static __always_inline bool policy_anew(const struct connection *connection, const struct packet *packet)
{
	if (packet->related || packet->later_fragment || connection->state != STATE_CLOSED)
		return false;
	if (packet->protocol == IPPROTO_TCP)
		return is_syn(packet);
	/* Without a handshake: closed because it was denied. Who was asked in vain may ask; who asked may be allowed by now. */
	if (way_of(connection, packet) == WAY_BACK)
		return !packet->reply && !connection->amount[WAY_BACK].packets;
	return false;
}

static __always_inline bool policy_decided(const struct connection *connection, const struct packet *packet,
					   const struct end *end, const struct moment *moment)
{
	enum way way = way_of(connection, packet);

	/* An answer is no SYN: who sends one opens a connection of its own through the ports of this one. */
	if (packet->related || (way == WAY_BACK && is_syn(packet)))
		return false;
	return moment->revision && connection->decided[side_of(end, way) & 1] == stamp_of(moment, end);
}

/*
 * Whether the packet passes at the end that decision has; there it is counted, and its connection remembered, closed or cut. What is
 * counted at the link other, which has let it pass, is counted here too. A function of its own for the verifier, who looks at it once.
 * Returns the reason.
 */
__noinline int policy_at(const struct packet *packet, const struct moment *moment, struct connection *connection,
			 struct decision *decision, __u32 other)
{
	if (!packet || !moment || !decision)
		return REASON_NO_RULING;
	if (!connection || policy_anew(connection, packet)) {
		decision->verdict = policy_begin(packet, decision, moment, connection);
		return decision->verdict.reason;
	}
	decision->verdict = (struct verdict){ .reason = REASON_NONE };
	if (!policy_decided(connection, packet, &decision->end, moment) && !is_to_itself(packet))
		decision->verdict = policy_again(connection, packet, decision, moment);
	policy_tell(decision, connection, moment);
	if (decision->verdict.reason == REASON_NONE)
		conntrack_count(connection, packet, &decision->end, other, &moment->tuple, moment->now);
	return decision->verdict.reason;
}

#endif
