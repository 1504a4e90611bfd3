"""Fairlead: a container network for Linux.

The control plane is this package; packets are moved by the kernel alone. ``docs/architecture.md`` names the layers,
``docs/an-add.md`` walks one container start through them.
"""

__version__ = "0.1.0"
