// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What a container sends: tc ingress on the host's side of its link. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../lib/decide.h"
#include "../lib/guard.h"
#include "../lib/local.h"
#include "../lib/remote.h"

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct packet packet = packet_at(skb, FROM_POD);
	struct decision decision = { .end = end_at(skb, FROM_POD) };
	struct guard *guard = owner_guard(&packet);
	enum parsed parsed = parse_network(skb, &packet);
	struct local *local = NULL;
	enum onward onward;

	decision.verdict.reason = guard_check(skb, &packet, guard, parsed);
	if (decision.verdict.reason != REASON_NONE)
		return drop(&packet, &decision);
	parsed = parse_transport(skb, &packet, parsed);
	if (parsed == PARSED)
		local = local_of(skb, &packet, guard);
	onward = decide(&packet, parsed, local ? local->ifindex : 0, &decision);
	if (decision.verdict.reason != REASON_NONE)
		return drop(&packet, &decision);
	if (local && onward == ONWARD_LOCAL)
		return local_deliver(skb, &packet, local);
	if (!local && onward == ONWARD_REMOTE && remote_of(&packet, guard))
		return remote_send(skb, &packet);
	return guard_pass(skb, guard);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
