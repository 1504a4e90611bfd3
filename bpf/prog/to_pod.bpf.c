// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What a container receives: tcx egress on the host's side of its link. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../lib/decide.h"

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	struct packet packet = { .skb = skb, .direction = TO_POD };

	return decide(&packet);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
