/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two ways to read a packet: in place, where every packet has something, or copied out by the kernel, which does not mind where it
 * lies. What is read in place is no more once anything was written to the packet, or something else asked for that lay elsewhere.
 */
#ifndef FAIRLEAD_LIB_BOUNDS_H
#define FAIRLEAD_LIB_BOUNDS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#define FARTHEST 0x3fff	/* no header lies beyond */

/* Copy the object at *to from the packet at offset; false if the packet ends before. */
#define load(skb, offset, to) (bpf_skb_load_bytes(skb, offset, to, sizeof(*(to))) == 0)

static __always_inline void *in_reach(const struct __sk_buff *skb, __u32 offset, __u32 size)
{
	void *data = (void *)(long)skb->data;

	if (offset > FARTHEST || data + offset + size > (void *)(long)skb->data_end)
		return NULL;
	return data + offset;
}

/* The object of this size at offset; NULL if the packet ends before. Headers nearly always lie in one piece; else they are made to. */
static __always_inline void *in_place(struct __sk_buff *skb, __u32 offset, __u32 size)
{
	void *found = in_reach(skb, offset, size);

	if (found || offset + size > skb->len || bpf_skb_pull_data(skb, offset + size))
		return found;
	return in_reach(skb, offset, size);
}

#endif
