"""The eBPF side of the data plane: programs and maps as the kernel holds them, hooks on links, what the programs tell."""
