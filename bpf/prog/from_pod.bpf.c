// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What a container sends: tcx ingress on the host's side of its link. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../lib/decide.h"

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct packet packet = { .skb = skb, .direction = FROM_POD };

	return decide(&packet);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
