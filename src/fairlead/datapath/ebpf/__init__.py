"""The eBPF plane: programs on the links of containers, the maps they decide by, and what they tell."""
