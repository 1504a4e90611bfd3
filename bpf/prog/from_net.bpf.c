// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What comes from other nodes: tc ingress on the devices by which they are reached. What is for a container of this node and can go
 * there as it is takes the short way; all else is let go on as if this program was not there.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../lib/decide.h"
#include "../lib/local.h"
#include "../lib/remote.h"

/* For the container behind local, decided there; TCX_NEXT: it goes the long way, and nothing was decided. */
static __always_inline int deliver(struct __sk_buff *skb)
{
	struct packet packet = packet_at(skb, TO_POD);
	struct decision decision = { .end = { .direction = TO_POD, .remote = true } };
	struct local *local;

	if (parse_network(skb, &packet) != PARSED)
		return TCX_NEXT;
	local = remote_arrival(skb, &packet);
	if (!local || packet.first_fragment || packet.later_fragment || parse_transport(skb, &packet, PARSED) != PARSED
	    || local_piece(skb, &packet) > local->mtu)
		return TCX_NEXT;
	decision.end.ifindex = local->ifindex;
	if (!decide_arrived(&packet, &decision))
		return TCX_NEXT;
	if (decision.verdict.reason != REASON_NONE)
		return drop(&packet, &decision);
	return local_deliver(skb, &packet, local);
}

SEC("tc")
int from_net(struct __sk_buff *skb)
{
	struct tunnel *tunnel = NULL;
	struct ethhdr inner;
	int onward;

	if (skb->pkt_type != PACKET_HOST)
		return TCX_NEXT;
	if (uplink_is_for(skb->ifindex, UPLINK_TUNNELS))
		tunnel = tunnel_arrival(skb, &inner);
	if (tunnel ? !tunnel_open(skb, &inner) : !uplink_is_for(skb->ifindex, UPLINK_ROUTES))
		return TCX_NEXT;
	onward = deliver(skb);
	return tunnel && onward == TCX_NEXT ? tunnel_to_device(tunnel) : onward;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
