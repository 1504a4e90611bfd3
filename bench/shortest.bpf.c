// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The shortest way between two links that a program can take: no question, no memory. What Fairlead's own costs more is held against it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define HOST 0	/* PACKET_HOST: not another's, whatever its MAC says */

SEC("tc")
int shortest(struct __sk_buff *skb)
{
	bpf_skb_change_type(skb, HOST);
	return bpf_redirect_peer(TO, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
