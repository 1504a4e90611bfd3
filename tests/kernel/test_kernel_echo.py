"""Echo requests of a size, through a router whose next link is narrower."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.kernel import echo, netns
from tests.kernel.room import Room, run
from tests.wait import eventually

NARROW = 1300


@pytest.fixture
def road(room: Room) -> tuple[int, str]:
    """This end, ``here``; a router; and ``there``, to which the link is narrow."""
    here, fd = room.child()
    router, _ = room.child()
    there, _ = room.child()
    for name, other, mtu, network in ((here, router, 1500, 1), (router, there, NARROW, 2)):
        run(
            "ip", "link", "add", f"to{network}", "netns", name, "type", "veth", "peer", "name", f"from{network}", "netns", other
        )
        for end, device, host in ((name, f"to{network}", 1), (other, f"from{network}", 2)):
            run("ip", "-n", end, "address", "add", f"192.0.{network}.{host}/24", "dev", device)
            run("ip", "-n", end, "address", "add", f"2001:db8:{network}::{host}/64", "dev", device, "nodad")
            run("ip", "-n", end, "link", "set", device, "mtu", str(mtu), "up")
    run("ip", "netns", "exec", router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    run("ip", "-n", here, "route", "add", "192.0.2.0/24", "via", "192.0.1.2")
    run("ip", "-n", here, "-6", "route", "add", "2001:db8:2::/64", "via", "2001:db8:1::2")
    run("ip", "-n", there, "route", "add", "192.0.1.0/24", "via", "192.0.2.1")
    run("ip", "-n", there, "-6", "route", "add", "2001:db8:1::/64", "via", "2001:db8:2::1")
    return fd, here


@pytest.mark.parametrize(("target", "source"), [("192.0.2.2", "192.0.1.1"), ("2001:db8:2::2", "2001:db8:1::1")])
def test_the_size_that_gets_there(road: tuple[int, str], target: str, source: str) -> None:
    fd, here = road

    def answers(size: int, patience: float = 0.5) -> bool:
        with netns.inside(fd):
            return asyncio.run(echo.answers(target, patience, size, source))

    eventually(lambda: answers(0), what="the road is open")
    assert answers(NARROW)
    assert answers(NARROW - 1)
    assert not answers(NARROW + 1, 0.2)
    assert f"mtu {NARROW}" in run("ip", "-n", here, "route", "get", target), "the router said so, and the kernel remembers"
    assert answers(NARROW)
    assert not answers(NARROW + 1, 0.2)
    assert not answers(1501, 0.2), "it is not even sent"


def test_nobody_is_there(road: tuple[int, str]) -> None:
    with netns.inside(road[0]):
        assert not asyncio.run(echo.answers("192.0.1.77", 0.1))
        assert not asyncio.run(echo.answers("203.0.113.1", 0.1))
