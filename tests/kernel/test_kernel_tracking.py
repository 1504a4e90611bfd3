"""Tracked connections and logged packets as they are told, checked with real traffic in a namespace of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fairlead.kernel import nft, route, sysctl, tracking
from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.nflog import Log, Logged
from fairlead.kernel.tracking import CHANGED, CLOSE, ENDED, NEW, SYN_SENT, TIME_WAIT, Tracked, Tracking
from tests.kernel.room import Room, run
from tests.wait import eventually

FAMILIES = pytest.mark.parametrize("family", [4, 6])
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
GROUP = 77


@pytest.fixture
def listening(nl: Netlink) -> Iterator[Tracking]:
    nl.do(route.set_link("lo", up=True))
    nft.run("table inet t { chain c { type filter hook output priority 0; ct state new counter; }\n }")
    assert tracking.enable() == []
    made = Tracking()
    yield made
    made.close()


def heard(listening: Tracking, count: int) -> list[Tracked]:
    """So many events, once they are there."""
    found: list[Tracked] = []

    def enough() -> bool:
        found.extend(listening.read(100))
        return len(found) >= count

    eventually(enough)
    return found


def connect(family: int, port: int = 8000) -> tuple[socket.socket, socket.socket, socket.socket]:
    server = socket.create_server((LOOPBACK[family], port), family=AF[family])
    client = socket.create_connection((LOOPBACK[family], port))
    return server, client, server.accept()[0]


@FAMILIES
def test_a_connection_begins_and_is_over(listening: Tracking, family: int) -> None:
    server, client, accepted = connect(family)
    (begun,) = heard(listening, 1)
    own = socket.inet_pton(AF[family], LOOPBACK[family])
    assert (begun.what, begun.protocol, begun.tcp) == (NEW, tracking_tcp(), SYN_SENT)
    assert (begun.original.source, begun.original.destination_port, begun.reply.source_port) == (own, 8000, 8000)
    client.sendall(bytes(100_000))
    client.shutdown(socket.SHUT_WR)
    while accepted.recv(65536):
        pass
    for one in (accepted, client, server):
        one.close()
    (over,) = heard(listening, 1)
    assert (over.what, over.id, over.tcp) == (CHANGED, begun.id, TIME_WAIT), "nothing of the states in between"
    now = listening.ask(over)
    assert now
    assert now.forth_bytes > 100_000
    assert now.back_packets >= 2
    assert now.start
    run("conntrack", "-F")
    (gone,) = heard(listening, 1)
    assert (gone.what, gone.id, gone.forth_bytes) == (ENDED, begun.id, now.forth_bytes)
    assert gone.stop > gone.start > 0
    assert listening.ask(over) is None
    assert listening.lost == 0


@FAMILIES
def test_a_packet_leads_to_its_connection(listening: Tracking, family: int) -> None:
    """Whichever way it goes; what belongs to none leads nowhere."""
    server, client, accepted = connect(family)
    (begun,) = heard(listening, 1)
    for ends in (begun.original, begun.reply):
        found = listening.find(begun.protocol, ends)
        assert found
        assert (found.id, found.original, found.start > 0) == (begun.id, begun.original, True)
    assert listening.find(begun.protocol, begun.original._replace(source_port=1)) is None
    assert listening.find(socket.IPPROTO_UDP, begun.original) is None
    for one in (client, accepted, server):
        one.close()


def test_a_ping_is_found_by_its_identifier(listening: Tracking) -> None:
    run("ping", "-c", "1", LOOPBACK[4])
    (begun,) = (one for one in heard(listening, 1) if one.protocol == socket.IPPROTO_ICMP)
    found = listening.find(begun.protocol, begun.original)
    assert found
    assert found.id == begun.id


def tracking_tcp() -> int:
    return socket.IPPROTO_TCP


def test_a_reset_is_told(listening: Tracking) -> None:
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect((LOOPBACK[4], 9))
    begun, over = heard(listening, 2)
    assert (begun.what, over.what, over.tcp, over.id) == (NEW, ENDED, CLOSE, begun.id), "forgotten at once"


@FAMILIES
def test_pings_have_their_identifier(listening: Tracking, family: int) -> None:
    run("ping", "-c", "1", "-W", "1", LOOPBACK[family])
    (one,) = [one for one in heard(listening, 1) if one.protocol in {1, 58}]
    assert one.original.source_port == one.original.destination_port == one.reply.source_port != 0


def test_all_there_are(listening: Tracking) -> None:
    for port in range(8000, 8300):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", (LOOPBACK[4], port))
    found = [one for several in listening.all() for one in several]
    assert {one.original.destination_port for one in found} >= set(range(8000, 8300))
    assert all(one.forth_packets == 1 for one in found if one.original.destination_port >= 8000)


def test_a_slow_reader_is_told_how_much_it_missed(listening: Tracking) -> None:
    listening._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(8000, 8400):
            sender.sendto(b"x", (LOOPBACK[4], port))
    read = list(listening.read(10_000))
    assert len(read) + listening.lost == 400
    assert listening.lost > 300


def test_what_the_kernel_is_told_once_stays(room: Room) -> None:
    assert room
    tracking.enable()
    assert {key: sysctl.read(key) for key in tracking.SETTINGS if not key.endswith("events")} == {
        "net.netfilter.nf_conntrack_acct": "1",
        "net.netfilter.nf_conntrack_timestamp": "1",
    }
    assert sysctl.read("net.netfilter.nf_conntrack_events") != "0"


@pytest.fixture
def logged(nl: Netlink) -> Iterator[Log]:
    nl.do(route.set_link("lo", up=True))
    rule = f'log prefix "so it is " group {GROUP} snaplen 64'
    nft.run(f"table inet t {{ chain c {{ type filter hook output priority 0; {rule}; }}\n }}")
    made = Log(GROUP, snaplen=64)
    yield made
    made.close()


@FAMILIES
def test_packets_with_what_their_rule_says(logged: Log, family: int) -> None:
    with socket.socket(AF[family], socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(200), (LOOPBACK[family], 8000))
    found: list[Logged] = []

    def first() -> Logged | None:
        found.extend(logged.read(10))
        return found[0] if found else None

    one = eventually(first)
    assert one.prefix == "so it is "
    assert len(one.payload) == 64
    assert one.payload[0] >> 4 == family
    assert one.leaves == socket.if_nametoindex("lo")


def test_a_group_has_one_listener(logged: Log) -> None:
    with pytest.raises(KernelError, match="take a group"):
        Log(GROUP)
    Log(GROUP + 1).close()
    assert logged.lost == 0


def test_lost_packets_are_counted(logged: Log) -> None:
    logged._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(2000):
            sender.sendto(bytes(100), (LOOPBACK[4], 8000))
    eventually(lambda: logged.lost > 0)
    assert 0 < len(list(logged.read(10_000))) < 2000
