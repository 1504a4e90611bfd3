"""The objects people write and the agent keeps: frozen, validated when they are made, no I/O."""
