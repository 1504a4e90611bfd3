/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What policies say of a packet at a link of endpoint E. Each side of a connection is decided once for each revision of the
 * policies; whatever belongs to it then passes, answers too.
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

#include "../shared/policy.h"
#include "conntrack.h"
#include "packet.h"
#include "verdict.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 14);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 17);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct peer_key);
	__type(value, __u64);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 18);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct judgement_key);
	__type(value, __u64);
} judgements SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 18);
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

static __always_inline struct endpoint *policy_endpoint(const struct packet *packet)
{
	__u32 ifindex = packet->skb->ifindex;

	return bpf_map_lookup_elem(&endpoints, &ifindex);
}

static __always_inline bool is_isolated(const struct endpoint *endpoint)
{
	return endpoint->ingress || endpoint->egress;
}

static __always_inline __u64 peer_class(const struct address *address)
{
	struct peer_key key = { .prefixlen = 128 };
	__u64 *class;

	__builtin_memcpy(key.address, address, sizeof(key.address));
	class = bpf_map_lookup_elem(&peers, &key);
	return class ? *class : 0;
}

static __always_inline struct verdict policy_ask(__u64 policy, const struct address *peer, __u8 protocol, __be16 port)
{
	struct judgement_key judgement = { .policy = policy };
	struct ruling_key key = { .prefixlen = 96, .protocol = protocol, .port = port };
	struct ruling_value *value;
	__u64 *ruling;

	if (!policy)
		return (struct verdict){ .reason = REASON_NONE };
	judgement.peer = peer_class(peer);
	ruling = bpf_map_lookup_elem(&judgements, &judgement);
	if (!ruling && judgement.peer) {
		judgement.peer = 0;
		ruling = bpf_map_lookup_elem(&judgements, &judgement);
	}
	if (!ruling)
		return (struct verdict){ .reason = REASON_NO_RULING };
	key.ruling = *ruling;
	value = bpf_map_lookup_elem(&rulings, &key);
	if (!value)
		return (struct verdict){ .reason = REASON_NO_RULING };
	return (struct verdict){ .rule = value->rule, .reason = value->allow ? REASON_NONE : REASON_POLICY };
}

/* The endpoint is the opener: its egress says whom it may reach. Else its ingress says who may reach it. */
static __always_inline struct verdict policy_judge(const struct packet *packet, const struct endpoint *endpoint,
						   enum side side, bool opener_sends)
{
	bool from_pod = packet->direction == FROM_POD;

	return policy_ask(side == SIDE_OPENER ? endpoint->egress : endpoint->ingress,
			  from_pod ? &packet->destination.address : &packet->source.address,
			  packet->protocol,
			  opener_sends ? packet->destination.port : packet->source.port);
}

/* What begins a connection: who sends it opens it. */
static __always_inline struct verdict policy_first(const struct packet *packet, const struct endpoint *endpoint)
{
	return policy_judge(packet, endpoint, packet->direction == FROM_POD ? SIDE_OPENER : SIDE_RESPONDER, true);
}

/* To itself; an ICMP error between other parties is not. */
static __always_inline bool is_to_itself(const struct packet *packet)
{
	return address_equal(&packet->source.address, &packet->destination.address) && !packet->related;
}

/* Made by this node itself: probes of containers' health must reach them. Nothing else comes with no interface it came by. */
static __always_inline bool policy_exempt(const struct packet *packet, const struct config *config)
{
	return packet->direction == TO_POD && !packet->skb->ingress_ifindex && config->node_reaches_pods;
}

/* What has no connection, or none that can be known: passes where no policy could say otherwise. */
static __always_inline struct verdict policy_untracked(const struct packet *packet, enum reason reason)
{
	struct endpoint *endpoint = policy_endpoint(packet);

	if (!endpoint)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	return (struct verdict){ .reason = is_isolated(endpoint) ? reason : REASON_NONE };
}

/* The packet belongs to no connection that is known, or begins one anew. */
static __always_inline struct verdict policy_begin(const struct packet *packet, const struct tuple *tuple,
						   const struct config *config, __u64 now, bool replace)
{
	struct endpoint *endpoint = policy_endpoint(packet);
	bool begins = !packet->related && !packet->later_fragment && !(packet->tcp_flags & (TCP_FIN | TCP_RST));
	bool exempt = policy_exempt(packet, config);
	struct opening opening = { .now = now, .revision = config->revision, .replace = replace };
	struct verdict verdict = { .reason = REASON_NONE };

	if (!endpoint)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	opening.by_sender = is_isolated(endpoint) || replace || sent_by_opener(packet);
	if (is_isolated(endpoint) && !exempt && !is_to_itself(packet)) {
		if (packet->related)
			return (struct verdict){ .reason = REASON_RELATED_UNKNOWN };
		verdict = policy_first(packet, endpoint);
		if (verdict.reason != REASON_NONE)
			return verdict;
	}
	/* In the midst of a connection this node may have answered: what the container then says is asked about. */
	if (exempt && packet->protocol == IPPROTO_TCP && !is_syn(packet))
		opening.revision = 0;
	opening.rule = verdict.rule;
	if (begins)
		conntrack_open(packet, tuple, &opening);
	return verdict;
}

/* Cut what was allowed once. It stays known as long as its parties try: nobody shall take what comes for a new one. */
static __always_inline void policy_cut(struct connection *connection, const struct packet *packet, const struct tuple *tuple,
				       enum side side, __u64 now)
{
	if (packet->related || connection->midway)
		return;
	connection->last = now;
	connection->decided[side & 1] = 0;
	connection->denied[side & 1] = 1;
	conntrack_close(connection, tuple);
}

/* The side of this link has not decided on the connection, or policies have changed since. */
static __always_inline struct verdict policy_again(struct connection *connection, const struct packet *packet,
						   const struct tuple *tuple, const struct config *config, __u64 now)
{
	enum way way = way_of(connection, packet);
	enum side side = (packet->direction == FROM_POD) == (way == WAY_FORTH) ? SIDE_OPENER : SIDE_RESPONDER;
	bool opener_sends = way == WAY_FORTH;
	bool contrary = way == WAY_BACK && is_syn(packet);
	struct endpoint *endpoint = policy_endpoint(packet);
	__u64 revision = config->revision;
	enum side judged = side;
	struct verdict verdict;

	if (!endpoint)
		return (struct verdict){ .reason = REASON_NO_ENDPOINT };
	if (policy_exempt(packet, config)) {
		if (opener_sends && !connection->midway && !packet->related)
			connection->decided[side & 1] = revision;
		return (struct verdict){ .reason = REASON_NONE };
	}
	if (packet->related && packet->stray && is_isolated(endpoint))
		return (struct verdict){ .reason = REASON_RELATED_UNKNOWN };
	if (connection->midway || contrary) {
		opener_sends = true;
		judged = packet->direction == FROM_POD ? SIDE_OPENER : SIDE_RESPONDER;
	}
	verdict = policy_judge(packet, endpoint, judged, opener_sends);
	if (verdict.reason != REASON_NONE) {
		if (!contrary)
			policy_cut(connection, packet, tuple, side, now);
		return verdict;
	}
	if (contrary)
		return verdict;
	connection->denied[side & 1] = 0;
	if (packet->protocol != IPPROTO_TCP && !connection->denied[!side])
		__sync_val_compare_and_swap(&connection->state, STATE_CLOSED, STATE_OPENING);
	if (verdict.rule)
		connection->rule = verdict.rule;
	connection->decided[side & 1] = revision;
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

static __always_inline bool policy_decided(const struct connection *connection, const struct packet *packet, __u64 revision)
{
	enum way way = way_of(connection, packet);

	/* An answer is no SYN: who sends one opens a connection of its own through the ports of this one. */
	if (packet->related || (way == WAY_BACK && is_syn(packet)))
		return false;
	return revision && connection->decided[((packet->direction == FROM_POD) != (way == WAY_FORTH)) & 1] == revision;
}

static __always_inline struct verdict policy_connection(const struct packet *packet)
{
	struct tuple tuple = tuple_of(packet);
	struct connection *connection = bpf_map_lookup_elem(&connections, &tuple);
	__u64 now = bpf_ktime_get_boot_ns();
	struct verdict verdict = { .reason = REASON_NONE };
	struct config *found, in_force;
	__u32 only = 0;

	found = bpf_map_lookup_elem(&config, &only);
	if (!found)
		return (struct verdict){ .reason = REASON_NO_RULING };
	in_force = *found;	/* before the other maps: what changes in them from now on is decided again */
	barrier();
	if (!connection || policy_anew(connection, packet))
		return policy_begin(packet, &tuple, &in_force, now, connection);
	if (!policy_decided(connection, packet, in_force.revision) && !is_to_itself(packet))
		verdict = policy_again(connection, packet, &tuple, &in_force, now);
	if (verdict.reason == REASON_NONE)
		conntrack_count(connection, packet, &tuple, now);
	return verdict;
}

#endif
