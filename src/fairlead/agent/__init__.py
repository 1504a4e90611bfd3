"""The agent: one asyncio process a node."""
