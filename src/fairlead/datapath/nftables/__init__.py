"""The nftables plane, for machines without the eBPF that the other needs."""
