/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the maps of policies say of one end of a connection, and what they said lately: most connections are to few, and to ask is six
 * lookups. An answer holds as long as the revision under which it was given; then the maps are asked again.
 */
#ifndef FAIRLEAD_LIB_ANSWER_H
#define FAIRLEAD_LIB_ANSWER_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/endpoint.h"
#include "../shared/policy.h"
#include "address.h"
#include "clock.h"
#include "conntrack.h"
#include "packet.h"
#include "verdict.h"

#define ANSWERS_BITS 8
#define SPREAD 0x9e3779b97f4a7c15ULL	/* an odd number without a pattern */

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

/* One question to the policies of a link. */
struct question {
	__u64 stamp;		/* of the link's end */
	struct address peer;
	__be16 port;
	__u8 protocol;
	__u8 side;		/* enum side: the link's */
	__u32 ifindex;
};

struct answer {
	struct question question;
	struct verdict verdict;
	__u64 isolated;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << ANSWERS_BITS);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

/* What holds while one packet is decided on. */
struct moment {
	struct tuple tuple;
	__u64 revision;		/* of the policies and links; 0: nobody has written them yet */
	__u64 now;		/* as of the last tick */
};

/*
 * What a side's decision is remembered as: the revision and the link. Of one revision two links never have the same, so that the one's
 * decision is not taken for another's, to which a container sent the packet instead.
 */
static __always_inline __u64 stamp_of(const struct moment *moment, const struct end *end)
{
	return moment->revision + end->ifindex * SPREAD;
}

/* Read before the other maps: what changes in them from now on is decided again. */
static __always_inline void moment_begin(struct moment *moment, const struct packet *packet)
{
	__u32 only = 0;
	struct config *found = bpf_map_lookup_elem(&config, &only);

	moment->revision = found ? found->revision : 0;
	barrier();
	moment->tuple = tuple_of(packet);
	moment->now = clock_now();
}

static __always_inline bool is_isolated(const struct endpoint *endpoint)
{
	return endpoint->ingress || endpoint->egress;
}

/* Before Linux 6.2 a key may not lie in what a function of its own was given a pointer to. */
static __always_inline __u64 peer_class(const struct address *address)
{
	struct block_key key = { .prefixlen = 128 };
	struct address own = *address;
	__u64 *class = bpf_map_lookup_elem(&peers, &own);

	if (class)
		return *class;
	__builtin_memcpy(key.address, &own, sizeof(key.address));
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

/* The endpoint is the opener: its egress says whom it may reach. Else its ingress says who may reach it. */
static __always_inline struct verdict policy_say(const struct endpoint *endpoint, const struct question *question)
{
	__u64 policy = question->side == SIDE_OPENER ? endpoint->egress : endpoint->ingress;
	struct ruling_value *value;
	__u64 *ruling;

	if (!policy)
		return (struct verdict){ .reason = REASON_NONE };
	ruling = policy_ruling(policy, &question->peer);
	value = ruling ? ruling_on(*ruling, question->protocol, question->port) : NULL;
	if (!value)
		return (struct verdict){ .reason = REASON_NO_RULING };
	return (struct verdict){ .rule = value->rule, .reason = value->allow ? REASON_NONE : REASON_POLICY };
}

/* What is asked about the side of the end, if who sends the packet opened the connection, or the other did. */
static __always_inline struct question question_of(const struct packet *packet, const struct end *end, const struct moment *moment,
						   enum side side, bool opener_sends)
{
	return (struct question){
		.stamp = stamp_of(moment, end),
		.peer = end->direction == FROM_POD ? packet->destination : packet->source,
		.port = opener_sends ? packet->destination_port : packet->source_port,
		.protocol = packet->protocol,
		.side = side,
		.ifindex = end->ifindex,
	};
}

static __always_inline bool is_same_question(const struct question *one, const struct question *other)
{
	return one->stamp == other->stamp && address_equal(&one->peer, &other->peer) && one->port == other->port
	       && one->protocol == other->protocol && one->side == other->side && one->ifindex == other->ifindex;
}

/* Ask the maps. A function of its own for the verifier, who looks at it once. */
__noinline int answer_find(const struct question *question, struct answer *answer)
{
	struct endpoint *endpoint;
	__u32 ifindex;

	if (!question || !answer)
		return 0;
	ifindex = question->ifindex;
	endpoint = bpf_map_lookup_elem(&endpoints, &ifindex);
	answer->question = *question;
	answer->verdict = endpoint ? policy_say(endpoint, question) : (struct verdict){ .reason = REASON_NO_ENDPOINT };
	answer->isolated = endpoint && is_isolated(endpoint);
	return 0;
}

/* NULL: there is none. */
static __always_inline const struct answer *answer_to(const struct question *question, const struct moment *moment)
{
	__u64 all = question->stamp ^ question->peer.half[0] ^ question->peer.half[1] ^ question->port ^ question->side;
	__u32 place = all * SPREAD >> (64 - ANSWERS_BITS);
	struct answer *answer = bpf_map_lookup_elem(&answers, &place);

	if (answer && (!moment->revision || !is_same_question(&answer->question, question)))
		answer_find(question, answer);
	return answer && answer->verdict.reason != REASON_NO_ENDPOINT ? answer : NULL;
}

#endif
