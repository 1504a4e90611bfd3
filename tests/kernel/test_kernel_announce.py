"""What a real neighbour makes of announcements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fairlead.kernel import netns, route
from fairlead.kernel.announce import announce
from fairlead.kernel.netlink import Netlink
from tests.net import Namespace, kept, machine
from tests.wait import eventually

STALE = "02:00:5e:00:53:99"


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces and a cable."""
    with ExitStack() as cleanup:
        one, two = kept(cleanup, Namespace("one")), kept(cleanup, Namespace("two"))
        machine("ip", "link", "add", "eth0", "netns", one.name, "type", "veth", "peer", "name", "eth0", "netns", two.name)
        for number, each in enumerate((one, two), 1):
            each.run("ip", "link", "set", "eth0", "up")
            each.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", "eth0")
            each.run("ip", "address", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")
        yield one, two


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_neighbour_that_remembers_another_mac_learns_it(pair: tuple[Namespace, Namespace], address: str) -> None:
    one, two = pair
    two.run("ip", "neighbour", "replace", address, "lladdr", STALE, "dev", "eth0", "nud", "reachable")
    (link,) = one.json("ip", "-json", "link", "show", "eth0")
    with one.path.open() as opened, netns.inside(opened.fileno()), Netlink() as nl:
        found = route.link(nl, "eth0")
        assert found
        announce(found, (address,))
    known = eventually(lambda: two.json("ip", "-json", "neighbour", "show", "to", address))
    eventually(lambda: link["address"] in two.run("ip", "neighbour", "show", "to", address), 1, what=f"not {known}")


def test_a_link_without_macs_is_told_nothing(pair: tuple[Namespace, Namespace]) -> None:
    one, _ = pair
    one.run("ip", "tuntap", "add", "tun0", "mode", "tun")
    with one.path.open() as opened, netns.inside(opened.fileno()), Netlink() as nl:
        found = route.link(nl, "tun0")
        assert found
        assert found.mac == ""
        announce(found, ("192.0.2.9",))
