"""The agent's front door: what can be asked of it, and how."""
