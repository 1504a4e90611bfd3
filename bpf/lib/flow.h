/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What happens to connections, told to user space. Where the ring buffer has no room the loss is counted. */
#ifndef FAIRLEAD_LIB_FLOW_H
#define FAIRLEAD_LIB_FLOW_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../shared/endpoint.h"
#include "../shared/event.h"
#include "../shared/hits.h"
#include "counter.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

/* No map has these types; named here, they come into BTF, by which Python's layouts are checked. Nothing is loaded for it. */
struct {
	struct event event;
	enum event_kind kind;
	enum reason reason;
	enum direction direction;
	enum mark mark;
	enum ownership ownership;
	enum unallowed unallowed;
} told SEC("layout") = { 0 };

/* reason: why it was cut, if it was, and by whom. */
static __always_inline void flow_tell(enum event_kind kind, const struct tuple *tuple, const struct connection *connection,
				      enum reason reason, enum direction direction)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count(kind == EVENT_NEW ? COUNTER_NEW_LOST : COUNTER_CLOSE_LOST);
		return;
	}
	event->tuple = *tuple;
	event->connection = *connection;
	event->kind = kind;
	event->reason = reason;
	event->direction = direction;
	event->zero[0] = 0;
	event->zero[1] = 0;
	bpf_ringbuf_submit(event, 0);
}

#endif
