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
	struct moment moment = { 0 };
	struct answer answer = { 0 };
	struct question question;

	if (parse_transport(skb, &packet, parse_network(skb, &packet)) != PARSED)
		return NO_ANSWER;
	question = policy_first(&packet, &end, &moment);
	answer_find(&question, &answer);
	if (answer.verdict.reason != REASON_NO_ENDPOINT && is_to_itself(&packet))
		answer.verdict = (struct verdict){ .reason = REASON_NONE };
	if (bpf_skb_store_bytes(skb, 0, &answer.verdict.rule, sizeof(answer.verdict.rule), 0))
		return NO_ANSWER;
	return answer.verdict.reason;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
