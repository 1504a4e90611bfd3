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
#include "../shared/policy.h"
#include "conntrack.h"
#include "hits.h"
#include "packet.h"
#include "verdict.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u64);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct block_key);
	__type(value, __u64);
} blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct judgement_key);
	__type(value, __u64);
} judgements SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port_key);
	__type(value, struct ruling_value);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ruling_key);
	__type(value, struct ruling_value);
} rulings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* What holds while one packet is decided on. */
struct moment {
	struct tuple tuple;
	struct config config;
	__u64 now;		/* as of the last tick: exact enough for all but a beginning and an end, and a fifth of the cost */
};

/*
 * What a side's decision is remembered as: the revision and the link. Of one revision two links never have the same, so that the one's
 * decision is not taken for another's, to which a container sent the packet instead.
 */
static __always_inline __u64 stamp_of(const struct moment *moment, const struct end *end)
{
	return moment->config.revision + end->ifindex * 0x9e3779b97f4a7c15ULL;
}

/* Read before the other maps: what changes in them from now on is decided again. */
static __always_inline void moment_begin(struct moment *moment, const struct packet *packet)
{
	__u32 only = 0;
	struct config *found = bpf_map_lookup_elem(&config, &only);

	moment->config = found ? *found : (struct config){ 0 };
	barrier();
	moment->tuple = tuple_of(packet);
	moment->now = bpf_ktime_get_coarse_ns();
}

static __always_inline struct endpoint *policy_endpoint(const struct end *end)
{
	__u32 ifindex = end->ifindex;

	return bpf_map_lookup_elem(&endpoints, &ifindex);
}

static __always_inline bool is_isolated(const struct endpoint *endpoint)
{
	return endpoint->ingress || endpoint->egress;
}

static __always_inline __u64 peer_class(const struct address *address)
{
	struct block_key key = { .prefixlen = 128 };
	__u64 *class = bpf_map_lookup_elem(&peers, address);

	if (class)
		return *class;
	__builtin_memcpy(key.address, address, sizeof(key.address));
	class = bpf_map_lookup_elem(&blocks, &key);
	return class ? *class : 0;
}

static __always_inline __u64 *policy_ruling(__u64 policy, const struct address *peer)
{
	struct judgement_key key = { .policy = policy, .peer = peer_class(peer) };
	__u64 *ruling = bpf_map_lookup_elem(&judgements, &key);

	if (ruling || !key.peer)
		return ruling;
	key.peer = 0;
	return bpf_map_lookup_elem(&judgements, &key);
}

/* Most rules are about single ports. */
static __always_inline struct ruling_value *ruling_on(__u64 ruling, __u8 protocol, __be16 port)
{
	struct port_key exact = { .ruling = ruling, .protocol = protocol, .port = port };
	struct ruling_key key = { .prefixlen = 96, .ruling = ruling, .protocol = protocol, .port = port };
	struct ruling_value *found = bpf_map_lookup_elem(&ports, &exact);

	return found ?: bpf_map_lookup_elem(&rulings, &key);
}

static __always_inline struct verdict policy_ask(__u64 policy, const struct address *peer, __u8 protocol, __be16 port)
{
	struct ruling_value *value;
	__u64 *ruling;

	if (!policy)
		return (struct verdict){ .reason = REASON_NONE };
	ruling = policy_ruling(policy, peer);
	value = ruling ? ruling_on(*ruling, protocol, port) : NULL;
	if (!value)
		return (struct verdict){ .reason = REASON_NO_RULING };
	return (struct verdict){ .rule = value->rule, .reason = value->allow ? REASON_NONE : REASON_POLICY };
}

/* The endpoint is the opener: its egress says whom it may reach. Else its ingress says who may reach it. */
static __always_inline struct verdict policy_judge(const struct packet *packet, const struct end *end,
						   const struct endpoint *endpoint, enum side side, bool opener_sends)
{
	bool from_pod = end->direction == FROM_POD;

	return policy_ask(side == SIDE_OPENER ? endpoint->egress : endpoint->ingress,
			  from_pod ? &packet->destination : &packet->source,
			  packet->protocol,
			  opener_sends ? packet->destination_port : packet->source_port);
}

/* What begins a connection: who sends it opens it. */
static __always_inline struct verdict policy_first(const struct packet *packet, const struct end *end,
						   const struct endpoint *endpoint)
{
	return policy_judge(packet, end, endpoint, end->direction == FROM_POD ? SIDE_OPENER : SIDE_RESPONDER, true);
}

/* To itself; an ICMP error between other parties is not. */
static __always_inline bool is_to_itself(const struct packet *packet)
{
	return address_equal(&packet->source, &packet->destination) && !packet->related;
}

/* Made by this node itself: probes of containers' health must reach them. */
static __always_inline bool policy_exempt(const struct end *end, const struct config *config)
{
	return end->ours && config->node_reaches_pods;
}

/* What has no connection, or none that can be known: passes where no policy could say otherwise. */
static __always_inline struct verdict policy_untracked(const struct end *end, enum reason reason)
{
	struct endpoint *endpoint = policy_endpoint(end);

	if (!endpoint)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	return (struct verdict){ .reason = is_isolated(endpoint) ? reason : REASON_NONE };
}

/* The packet belongs to no connection that is known, or begins one in place of one that is closed. */
static __always_inline struct verdict policy_begin(const struct packet *packet, struct decision *decision,
						   const struct moment *moment, struct connection *closed)
{
	const struct end *end = &decision->end;
	struct endpoint *endpoint = policy_endpoint(end);
	bool begins = !packet->related && !packet->later_fragment && !(packet->tcp_flags & (TCP_FIN | TCP_RST));
	bool exempt = policy_exempt(end, &moment->config);
	struct opening opening = { .stamp = stamp_of(moment, end), .closed = closed };
	struct verdict verdict = { .reason = REASON_NONE };

	if (!endpoint)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	opening.by_sender = is_isolated(endpoint) || closed || sent_by_opener(packet);
	if (is_isolated(endpoint) && !exempt && !is_to_itself(packet)) {
		if (packet->related)
			return (struct verdict){ .reason = REASON_RELATED_UNKNOWN };
		verdict = policy_first(packet, end, endpoint);
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
			hits_add(verdict.rule, 1, 0);
	}
	return verdict;
}

/* The connection that has begun at the other end is told of, if it was left to this one. */
static __always_inline void policy_tell(struct decision *decision, const struct connection *connection, const struct moment *moment)
{
	if (decision->end.telling == TELL_OF_OTHER)
		flow_tell(EVENT_NEW, &moment->tuple, connection);
	decision->end.telling = TELL_AT_ONCE;
}

/* Cut what was allowed once. It stays known as long as its parties try: nobody shall take what comes for a new one. */
static __always_inline void policy_cut(struct connection *connection, const struct packet *packet, enum side side,
				       const struct moment *moment)
{
	if (packet->related || connection->midway)
		return;
	connection_touch(connection, moment->now);
	connection->decided[side & 1] = 0;
	connection->denied[side & 1] = 1;
	conntrack_close(connection, &moment->tuple);
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
	bool opener_sends = way == WAY_FORTH;
	bool contrary = way == WAY_BACK && is_syn(packet);
	struct endpoint *endpoint = policy_endpoint(end);
	__u64 stamp = stamp_of(moment, end);
	enum side judged = side;
	struct verdict verdict;

	if (!endpoint)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	if (policy_exempt(end, &moment->config)) {
		if (opener_sends && !connection->midway && !packet->related)
			connection->decided[side & 1] = stamp;
		return (struct verdict){ .reason = REASON_NONE };
	}
	if (packet->related && packet->stray && is_isolated(endpoint))
		return (struct verdict){ .reason = REASON_RELATED_UNKNOWN };
	if (connection->midway || contrary) {
		opener_sends = true;
		judged = end->direction == FROM_POD ? SIDE_OPENER : SIDE_RESPONDER;
	}
	verdict = policy_judge(packet, end, endpoint, judged, opener_sends);
	if (verdict.reason != REASON_NONE) {
		policy_tell(decision, connection, moment);
		if (!contrary)
			policy_cut(connection, packet, side, moment);
		return verdict;
	}
	if (contrary)
		return verdict;
	connection->denied[side & 1] = 0;
	if (packet->protocol != IPPROTO_TCP && !connection->denied[!side])
		__sync_val_compare_and_swap(&connection->state, STATE_CLOSED, STATE_OPENING);
	if (verdict.rule && !connection->decided[side & 1])
		hits_add(verdict.rule, 1, 0);
	if (judged == SIDE_OPENER)
		connection->egress_rule = verdict.rule;
	else
		connection->ingress_rule = verdict.rule;
	connection->decided[side & 1] = stamp;
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
	return moment->config.revision && connection->decided[side_of(end, way) & 1] == stamp_of(moment, end);
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
