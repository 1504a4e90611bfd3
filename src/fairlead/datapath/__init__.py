"""NodeState to what enforces it on packets."""
