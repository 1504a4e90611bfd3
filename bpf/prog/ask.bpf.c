// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the policies in force say of a packet that begins a connection, asked by hand (BPF_PROG_TEST_RUN) and attached nowhere. It goes
 * the way of the programs on the links, but finds no connection, remembers none and reports nothing.
 *
 * The mark is the direction. Returns the reason; the rule lies in the first eight bytes of the packet.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../lib/parse.h"
#include "../lib/policy.h"

#define NO_ANSWER 255

SEC("tc")
int ask(struct __sk_buff *skb)
{
	struct packet packet = packet_at(skb, skb->mark ? TO_POD : FROM_POD);
	struct end end = end_at(skb, packet.direction);
	struct verdict verdict = { .reason = REASON_NONE };
	struct endpoint *endpoint;

	if (parse_transport(skb, &packet, parse_network(skb, &packet)) != PARSED)
		return NO_ANSWER;
	endpoint = policy_endpoint(&end);
	if (!endpoint)
		return REASON_NO_ENDPOINT;
	if (!is_to_itself(&packet))
		verdict = policy_first(&packet, &end, endpoint);
	if (bpf_skb_store_bytes(skb, 0, &verdict.rule, sizeof(verdict.rule), 0))
		return NO_ANSWER;
	return verdict.reason;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
