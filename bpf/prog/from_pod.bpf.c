// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What a container sends: tc ingress on the host's side of its link. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../lib/decide.h"
#include "../lib/guard.h"
#include "../lib/local.h"
#include "../lib/remote.h"
#include "../lib/shortcut.h"

/* Whether the guard of the link lets the packet pass. */
static __always_inline bool is_let_out(struct __sk_buff *skb, struct packet *packet, enum parsed network, struct guard **guard,
				       struct decision *decision)
{
	*guard = owner_guard(packet);
	decision->verdict.reason = guard_check(skb, packet, *guard, network);
	return decision->verdict.reason == REASON_NONE;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct packet packet = packet_at(skb, FROM_POD);
	struct decision decision = { .end = end_at(skb, FROM_POD) };
	enum parsed network = parse_network(skb, &packet), parsed;
	enum onward onward = ONWARD_HOST;
	struct local *local = NULL;
	struct guard *guard = NULL;
	struct moment moment;
	__u32 there = 0;

	if (!shortcut_may_be(&packet, network) && !is_let_out(skb, &packet, network, &guard, &decision))
		return drop(&packet, &decision);
	parsed = parse_transport(skb, &packet, network);
	if (parsed == PARSED) {
		moment_begin(&moment, &packet);
		if (!guard)
			there = shortcut_of(skb, &packet, &moment, &decision.end);
	}
	if (!guard && !there && !is_let_out(skb, &packet, network, &guard, &decision))
		return drop(&packet, &decision);
	if (parsed == PARSED) {
		if (!there)
			local = local_of(skb, &packet, guard);
		if (local) {
			there = local->ifindex;
			shortcut_learn(&packet, &moment, &decision.end, local);
		}
		onward = decide(&packet, &moment, bpf_map_lookup_elem(&connections, &moment.tuple), there, &decision);
	} else {
		decision.verdict = decide_untracked(&decision.end, parsed);
	}
	if (decision.verdict.reason != REASON_NONE)
		return drop(&packet, &decision);
	if (onward == ONWARD_LOCAL)
		return local ? local_deliver(skb, &packet, local) : local_enter(skb, there);
	if (!there && onward == ONWARD_REMOTE && remote_of(&packet, guard))
		return remote_send(skb, &packet);
	return guard_pass(skb, guard ?: owner_guard(&packet));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
