"""The filter: nftables tables whose structure never changes, rows as set elements. The same on every machine."""
