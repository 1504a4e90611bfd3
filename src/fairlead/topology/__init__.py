"""How to reach other nodes: from nodes, networks and blocks to rows. Pure: the same objects, the same rows."""
