"""Tracked connections, both families, checked with the conntrack program."""

import socket

import pytest

from fairlead.kernel import conntrack, nft, route
from fairlead.kernel.netlink import Netlink
from tests.kernel.room import run

pytestmark = pytest.mark.needs("conntrack")
FAMILIES = pytest.mark.parametrize("family", [4, 6])
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@pytest.fixture
def flows(nl: Netlink) -> None:
    """UDP to ports 8000 to 8004 and a TCP connection to 8000, in both families."""
    nl.do(route.set_link("lo", up=True))
    nft.run("table inet t { chain c { type filter hook output priority 0; ct state new counter; }\n }")
    for family in (4, 6):
        with socket.socket(AF[family], socket.SOCK_DGRAM) as sender:
            sender.bind((LOOPBACK[family], 7000))
            for port in range(8000, 8005):
                sender.sendto(b"x", (LOOPBACK[family], port))
        with (
            socket.create_server((LOOPBACK[family], 8000), family=AF[family]) as server,
            socket.create_connection((LOOPBACK[family], 8000)),
        ):
            server.accept()[0].close()


def _counted(family: int, *words: str) -> int:
    return len(run("conntrack", "-L", "-f", f"ipv{family}", *words).splitlines())


@FAMILIES
@pytest.mark.usefixtures("flows")
def test_flows_have_their_addresses_and_ports(nft_nl: Netlink, family: int) -> None:
    (row,) = conntrack.flows(nft_nl, family, conntrack.UDP, port=8003)
    there = conntrack.Tuple(LOOPBACK[family], LOOPBACK[family], 7000, 8003)
    back = conntrack.Tuple(LOOPBACK[family], LOOPBACK[family], 8003, 7000)
    assert (row.family, row.protocol, row.original, row.reply) == (family, conntrack.UDP, there, back)


@FAMILIES
@pytest.mark.usefixtures("flows")
def test_flows_are_filtered(nft_nl: Netlink, family: int) -> None:
    everything = conntrack.flows(nft_nl)
    assert (
        len([row for row in everything if row.family == family and row.protocol == conntrack.UDP])
        == _counted(family, "-p", "udp")
        == 5
    )
    assert {row.protocol for row in conntrack.flows(nft_nl, family, port=8000)} == {conntrack.TCP, conntrack.UDP}
    assert {row.family for row in conntrack.flows(nft_nl, destination=LOOPBACK[family])} == {family}
    assert len(conntrack.flows(nft_nl, protocol=conntrack.UDP, port=8001)) == 2
    assert len(conntrack.flows(nft_nl, family, conntrack.UDP, destination=LOOPBACK[family], port=8001)) == 1
    assert conntrack.flows(nft_nl, family, conntrack.UDP, port=9) == []
    assert conntrack.flows(nft_nl, destination={4: "10.255.255.255", 6: "fd00::ffff"}[family]) == []


@FAMILIES
@pytest.mark.usefixtures("flows")
def test_what_is_deleted_is_gone_and_nothing_else(nft_nl: Netlink, family: int) -> None:
    stale = conntrack.flows(nft_nl, family, conntrack.UDP, port=8002)
    conntrack.delete(nft_nl, *stale)
    assert _counted(family, "-p", "udp", "--dport", "8002") == 0
    assert _counted(family, "-p", "udp") == 4
    assert _counted(family, "-p", "tcp") == 1
    assert _counted(10 - family, "-p", "udp") == 5
    conntrack.delete(nft_nl, *stale)


@FAMILIES
@pytest.mark.usefixtures("room")
def test_a_translated_flow_says_who_answers(nft_nl: Netlink, family: int) -> None:
    run("ip", "link", "set", "lo", "up")
    word = {4: "ip", 6: "ip6"}[family]
    target = {4: "127.0.0.1:53", 6: "[::1]:53"}[family]
    nft.run(f"table inet n {{ chain c {{ type nat hook output priority -100; udp dport 5353 dnat {word} to {target}; }}\n }}")
    with socket.socket(AF[family], socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (LOOPBACK[family], 5353))
    (row,) = conntrack.flows(nft_nl, family, conntrack.UDP, port=5353)
    assert (row.original.destination_port, row.reply.source_port) == (5353, 53)
