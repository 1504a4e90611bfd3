"""WireGuard devices, whoever implements them: the kernel, or ``wireguard-go`` as a process where the kernel has none.

::

    choose.find  ──>  Kernel      generic netlink (linux/wireguard.h)
                 └──>  Userspace   a process in this namespace, asked over its unix socket (uapi)

Both are one small interface, ``base.Wireguard``: make, get, set, remove. A device is an interface like any other: its MTU,
its state and its group are set by ``fairlead.kernel.route``.
"""

from fairlead.kernel.wireguard.base import KEEPALIVE, Device, Peer, Wireguard, from_key, to_key
from fairlead.kernel.wireguard.choose import NEEDS, find

__all__ = ["KEEPALIVE", "NEEDS", "Device", "Peer", "Wireguard", "find", "from_key", "to_key"]
