"""Rate limits: what the kernel was told, as tc sees it, and that packets are held to it."""

import socket

import pytest

from fairlead.kernel import netns, route
from fairlead.kernel.errors import Exists, KernelError
from fairlead.kernel.netlink import Netlink
from tests.kernel.room import Room, ip, run, tc

RATES = pytest.mark.parametrize(
    ("rate", "burst"), [(8_000, 80_000), (1_000_000, 800_000), (100_000_000, 8_000_000), (40_000_000_000, 2_147_483_640)]
)


@pytest.fixture
def pair(room: Room, nl: Netlink) -> tuple[int, int]:
    """A veth to another namespace, both ends up, with an address; the index here and the descriptor there."""
    _, fd = room.child()
    nl.do(*route.new_veth("v0", "eth0", fd), route.set_link("lo", up=True))
    row = route.link(nl, "v0")
    assert row
    nl.do(route.new_address(row.index, "10.6.0.1/24"), route.new_neighbour(row.index, "10.6.0.2", "02:00:00:00:00:02"))
    with Netlink(netns=fd) as inner:
        inner.do(
            route.set_link("eth0", mac="02:00:00:00:00:02", up=True),
            route.new_address(row.peer_index, "10.6.0.2/24"),
            route.new_neighbour(row.peer_index, "10.6.0.1", row.mac),
        )
    return row.index, fd


def _send(packets: int, address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(packets):
            sender.sendto(bytes(1000), (address, 9))


@RATES
def test_tc_sees_the_limit_that_was_asked_for(nl: Netlink, pair: tuple[int, int], rate: int, burst: int) -> None:
    index, _ = pair
    bucket = route.tbf(rate, burst)
    nl.do(route.new_tbf(index, bucket))
    (row,) = [row for row in tc("qdisc", "show", "dev", "v0") if row["kind"] == "tbf"]
    options = row["options"]
    assert options["rate"] == rate // 8
    assert options["burst"] == pytest.approx(burst // 8, rel=0.01)
    assert options["lat"] == pytest.approx(25_000, rel=0.05)
    (found,) = [row for row in route.qdiscs(nl) if row.kind == "tbf"]
    assert found.index == index
    assert found.tbf == bucket
    assert found.tbf.burst == pytest.approx(bucket.burst, rel=0.01)


def test_a_limit_replaces_another(nl: Netlink, pair: tuple[int, int]) -> None:
    index, _ = pair
    nl.do(route.new_tbf(index, route.tbf(1_000_000, 800_000)))
    nl.do(route.new_tbf(index, route.tbf(2_000_000, 800_000)))
    rates = [row["options"]["rate"] for row in tc("qdisc", "show", "dev", "v0") if row["kind"] == "tbf"]
    assert rates == [250_000]
    nl.do(route.del_qdisc(index))
    assert [row["kind"] for row in tc("qdisc", "show", "dev", "v0")] == ["noqueue"]


def test_packets_beyond_the_burst_are_held_back(nl: Netlink, pair: tuple[int, int]) -> None:
    index, _ = pair
    nl.do(route.new_tbf(index, route.tbf(80_000, 80_000)))
    _send(100, "10.6.0.2")
    (row,) = [row for row in tc("-s", "qdisc", "show", "dev", "v0") if row["kind"] == "tbf"]
    assert row["drops"] > 50
    assert row["packets"] < 50


def test_what_an_interface_receives_goes_through_the_ifb(nl: Netlink, pair: tuple[int, int]) -> None:
    index, fd = pair
    nl.do(*route.new_ifb("ifb5"))
    target = route.link(nl, "ifb5")
    assert target
    nl.do(
        route.new_tbf(target.index, route.tbf(80_000, 80_000)),
        route.new_ingress(index),
        route.new_redirect(index, target.index),
    )
    assert [(row.kind, row.target) for row in route.filters(nl, index)] == [("u32", target.index)]
    assert route.filters(nl, target.index) == []
    with netns.inside(fd):
        _send(100, "10.6.0.1")
    stats = ip("-s", "link", "show", "ifb5")[0]["stats64"]
    assert stats["rx"]["packets"] > 0
    (row,) = [row for row in tc("-s", "qdisc", "show", "dev", "ifb5") if row["kind"] == "tbf"]
    assert row["drops"] > 50
    nl.do(route.del_qdisc(index, ingress=True))
    assert "ingress" not in run("tc", "qdisc", "show", "dev", "v0")
    assert route.filters(nl, index) == []


def test_an_ingress_exists_once(nl: Netlink, pair: tuple[int, int]) -> None:
    index, _ = pair
    nl.do(route.new_ingress(index))
    with pytest.raises(Exists):
        nl.do(route.new_ingress(index))


@pytest.mark.parametrize(("rate", "burst"), [(0, 8), (7, 8), (8, 7), (-1, 8), (8, 8 << 32)])
def test_a_limit_that_is_none(rate: int, burst: int) -> None:
    with pytest.raises(KernelError, match="limit to"):
        route.tbf(rate, burst)
