/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one way to read a packet: copied out by the kernel, which checks the bounds and does not mind paged data. */
#ifndef FAIRLEAD_LIB_BOUNDS_H
#define FAIRLEAD_LIB_BOUNDS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

/* Copy the object at *to from the packet at offset; false if the packet ends before. */
#define load(skb, offset, to) (bpf_skb_load_bytes(skb, offset, to, sizeof(*(to))) == 0)

#endif
