"""NodeState to interfaces, addresses, routes and limits."""
