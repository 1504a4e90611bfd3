"""What the kernel of this node should hold: one frozen value, and the pure functions that make it."""
