"""The kernel's own share of a container's start, by hand: run by ``cni.py`` in a node of its own.

``byhand.py COUNT EDGE`` makes as many containers as ``COUNT`` on one bridge, by the steps that a start takes of the kernel, one
after the other and nothing besides: no agent, no store, no packet filter, nobody who listens. It prints the median milliseconds
of the first ``EDGE`` and of the last, in all and for each step. What they differ by is what a bridge with many ports costs the
kernel, whoever adds one more.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

from lib import median

from fairlead.desired.state import Bridge, Hop, Link
from fairlead.kernel import netns, route
from fairlead.kernel.netlink import Netlink
from fairlead.links import bridges, inside
from fairlead.model.address import Address, Interface, InterfaceName, Mac, Prefix

REST = 0.003
"""Seconds from one container to the next, in which the kernel does what it has put off."""
_NAME, _GATEWAY = InterfaceName("byhand"), Address("10.96.0.1")


def main() -> None:
    """Make them, then say what it took."""
    count, edge = int(sys.argv[1]), int(sys.argv[2])
    spaces = [netns.new() for _ in range(count)]
    took: dict[str, list[float]] = {}
    with Netlink() as nl:
        gateways = (Interface(f"{_GATEWAY}/16"),)
        bridges.ensure(nl, Bridge(name=_NAME, mac=Mac("02:00:0a:60:00:01"), mtu=1500, gateways=gateways, network=_NAME))
        for at, space in enumerate(spaces):
            for name, step in steps(nl, at, space).items():
                begun = time.perf_counter()
                step()
                took.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
            time.sleep(REST)
    for space in spaces:
        os.close(space)
    took["all"] = [sum(each) for each in zip(*took.values(), strict=True)]
    print(json.dumps({name: (median(ms[:edge]), median(ms[-edge:])) for name, ms in took.items()}))


def steps(nl: Netlink, at: int, space: int) -> dict[str, Callable[[], object]]:
    """The steps of one start, in their order."""
    last, host = at + 2, f"hand{at}"
    mac, address = Mac(f"02:00:0a:60:{last >> 8:02x}:{last & 255:02x}"), Interface(f"10.96.{last >> 8}.{last & 255}/16")
    row = Link(
        key=host,
        host=InterfaceName(host),
        bridge=_NAME,
        path="",
        cookie=0,
        name=InterfaceName("eth0"),
        mac=mac,
        mtu=1500,
        addresses=(address,),
        routes=(Hop(dst=Prefix("0.0.0.0/0"), via=_GATEWAY),),
    )
    bridge = socket.if_nametoindex(_NAME)
    pair = route.new_veth(host, row.name, space, master=bridge, mtu=row.mtu, mac=mac, arp=False, up=False)
    return {
        "a veth pair on the bridge": partial(nl.do, *pair),
        "a place for programs on it": lambda: nl.do(route.new_clsact(socket.if_nametoindex(host))),
        "up": partial(nl.do, route.set_link(host, up=True)),
        "inside the container": partial(inside.furnish, row, space),
    }


if __name__ == "__main__":
    main()
