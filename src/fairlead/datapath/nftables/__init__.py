"""The nftables plane: one table of our own, structure that never changes, rows as set elements."""
