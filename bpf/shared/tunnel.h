/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * VXLAN tunnels over IPv4, as user space writes them (fairlead/datapath/ebpf/entries.py).
 *
 *	tunnels   interface          -> the tunnel that leaves by it
 *	arrivals  identifier, port   -> the tunnel that comes in so
 *	vteps     tunnel, MAC        -> the node whose end of the tunnel has it
 */
#ifndef FAIRLEAD_SHARED_TUNNEL_H
#define FAIRLEAD_SHARED_TUNNEL_H

#include <linux/types.h>

struct tunnel {
	__u64 number;		/* of its name */
	__u64 mac;		/* of this node's end */
	__u32 ifindex;
	__be32 local;		/* the node's own address that it sends from */
	__be32 vni;		/* the identifier, as it stands in the header: in the upper three bytes */
	__be16 port;
	__u8 zero[2];
};

struct arrival_key {
	__be32 vni;
	__be16 port;
	__u8 zero[2];
};

struct vtep_key {
	__u64 tunnel;
	__u64 mac;
};

/* Values of uplinks: what the device is for; a combination. */
enum uplink {
	UPLINK_ROUTES = 1,	/* packets of containers go over it as they are */
	UPLINK_TUNNELS = 2,	/* inside those of the node */
};

#endif
