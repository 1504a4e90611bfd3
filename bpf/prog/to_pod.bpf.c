// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What a container receives: tc egress on the host's side of its link. What takes the short way (lib/local.h) does not come by. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../lib/decide.h"
#include "../lib/guard.h"

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	struct packet packet = packet_at(skb, TO_POD);
	struct decision decision = { .end = end_at(skb, TO_POD) };
	enum parsed parsed = parse_network(skb, &packet);
	struct moment moment;

	decision.verdict.reason = guard_expects(&packet, owner_guard(&packet));
	if (decision.verdict.reason != REASON_NONE)
		return drop(&packet, &decision);
	parsed = parse_transport(skb, &packet, parsed);
	if (parsed == PARSED) {
		moment_begin(&moment, &packet);
		decide(&packet, &moment, bpf_map_lookup_elem(&connections, &moment.tuple), 0, &decision);
	} else {
		decision.verdict = decide_untracked(&decision.end, parsed);
	}
	if (decision.verdict.reason != REASON_NONE)
		return drop(&packet, &decision);
	return TCX_NEXT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
