/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Why a packet goes no further. It is counted and, once a second for each connection, told. */
#ifndef FAIRLEAD_LIB_VERDICT_H
#define FAIRLEAD_LIB_VERDICT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <linux/pkt_cls.h>

#include "../shared/policy.h"
#include "clock.h"
#include "conntrack.h"
#include "counter.h"
#include "flow.h"
#include "hits.h"
#include "packet.h"

#define TCX_NEXT -1	/* whoever else is attached decides; the same number as TC_ACT_UNSPEC */

struct verdict {
	__u64 rule;		/* that says so; 0: none */
	enum reason reason;	/* REASON_NONE: it passes */
	__u32 zero;
};

/* A verdict, and the end at which it was found. */
struct decision {
	struct verdict verdict;
	struct end end;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct drop_key);
	__type(value, __u64);	/* when it was told last */
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, enum reason);
	__type(value, __u64);	/* packets */
} drop_counters SEC(".maps");

static __always_inline void drop_count(const struct packet *packet, enum reason reason)
{
	__u32 key = reason;
	__u64 *value = bpf_map_lookup_elem(&drop_counters, &key);

	if (value)
		*value += packet->amount.packets;
}

/* Whether nobody told of it within the last second. */
static __always_inline bool drop_is_news(const struct drop_key *key, __u64 now)
{
	__u64 *told_at = bpf_map_lookup_elem(&drops, key);
	__u64 before;

	if (!told_at)
		return !bpf_map_update_elem(&drops, key, &now, BPF_NOEXIST);
	before = *told_at;
	return (__s64)(now - before) >= SECOND && __sync_val_compare_and_swap(told_at, before, now) == before;
}

/* What comes of its own accord at every start of a container, or to all links at once, is counted alone. */
static __always_inline bool drop_is_told(enum reason reason)
{
	return reason != REASON_MEMBERSHIP && reason != REASON_NOT_ADDRESSED;
}

static __always_inline void drop_tell(const struct packet *packet, const struct decision *decision)
{
	const struct verdict *verdict = &decision->verdict;
	const struct end *end = &decision->end;
	struct drop_key key = { .tuple = tuple_of(packet), .reason = verdict->reason, .ifindex = end->ifindex };
	__u64 now = bpf_ktime_get_ns();
	struct event *event;

	if (!drop_is_told(verdict->reason) || !drop_is_news(&key, now))
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(COUNTER_DROP_LOST);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->tuple = key.tuple;
	event->connection.first = now;
	event->connection.last = now;
	event->connection.amount[WAY_FORTH] = packet->amount;
	event->connection.state = STATE_CLOSED;
	event->connection.ifindex = end->ifindex;
	event->connection.tcp_flags[WAY_FORTH] = packet->tcp_flags;
	event->connection.opener_is_high = packet->source_is_high;
	event->connection.outgoing = end->direction == FROM_POD;
	event->kind = EVENT_DROP;
	event->reason = verdict->reason;
	event->direction = end->direction;
	if (end->direction == FROM_POD)
		event->connection.egress_rule = verdict->rule;
	else
		event->connection.ingress_rule = verdict->rule;
	bpf_ringbuf_submit(event, 0);
}

/* What a drop by policy is counted for. */
static __always_inline __u64 drop_rule(const struct decision *decision)
{
	return decision->verdict.rule ?: decision->end.direction == FROM_POD ? UNALLOWED_EGRESS : UNALLOWED_INGRESS;
}

/* A function of its own for the verifier, who looks at it once. */
__noinline int drop(const struct packet *packet, const struct decision *decision)
{
	if (!packet || !decision)
		return TC_ACT_SHOT;
	drop_count(packet, decision->verdict.reason);
	if (decision->verdict.reason == REASON_POLICY)
		hits_add(drop_rule(decision), 0, packet->amount.packets, clock_now());
	drop_tell(packet, decision);
	return TC_ACT_SHOT;
}

#endif
