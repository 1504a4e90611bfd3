"""The ways around a first packet, on both planes: what belongs to a connection, what belongs to none, what is no connection.

Frames made by hand go into the container's end of its link and are looked for at another's. What only one plane can know is
said where it is.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairlead.datapath.base import Plane
from fairlead.datapath.ebpf import programs
from fairlead.datapath.ebpf.plane import Ebpf
from fairlead.datapath.ebpf.programs import Programs
from fairlead.datapath.nftables.plane import Nftables
from fairlead.desired.state import Guard, Judgement, Link, Peer, Ruling, Span, Subject
from fairlead.kernel import netns, route, sysctl
from fairlead.kernel.netlink import Netlink
from fairlead.model.address import Address, InterfaceName, Mac
from tests.bpf import packets
from tests.bpf.packets import ACK, ETHERNET, FIN, RST, SYN, Side, echo, fragments, tcp, udp, unreachable
from tests.kernel.frames import End, checked

FAMILIES = pytest.mark.parametrize("family", [4, 6])
BRIDGE = InterfaceName("bridge")
INGRESS, EGRESS, FRIEND, NOTHING, WEB = 1, 2, 3, 10, 11
DENY = Span(protocol=0, first=0, last=65535, allow=False, rule=0)
RULES = tuple(Span(protocol=one, first=80, last=80, allow=True, rule=7) for one in (6, 17))
ROWS = (
    Ruling(number=NOTHING, spans=(DENY,)),
    Ruling(number=WEB, spans=(*RULES, DENY)),
    *(Judgement(policy=one, peer=0, ruling=NOTHING) for one in (INGRESS, EGRESS)),
    *(Judgement(policy=one, peer=FRIEND, ruling=WEB) for one in (INGRESS, EGRESS)),
)


class Container:
    """A port of the bridge, and the far end of its link."""

    def __init__(self, at: int) -> None:
        self.host = InterfaceName(f"flv{at}")
        self.mac = bytes([2, 0, 0, 0, 0, at])
        self.sides = {4: Side(f"10.0.0.{at}", 40000 + at), 6: Side(f"fd00::{at}", 40000 + at)}

    def subject(self, ingress: int = 0, egress: int = 0) -> Subject:
        own = tuple(Address(one.address) for one in self.sides.values())
        return Subject(host=self.host, ingress=ingress, egress=egress, via=BRIDGE, addresses=own)

    @property
    def friend(self) -> tuple[Peer, ...]:
        return tuple(Peer(prefix=Address(one.address).host(), peer=FRIEND) for one in self.sides.values())

    @property
    def guard(self) -> Guard:
        """It may send what it likes."""
        return Guard(host=self.host, mac=Mac(self.mac.hex(":")), addresses=(), checked=False)

    @property
    def link(self) -> Link:
        return Link(
            key=self.host, host=self.host, bridge=BRIDGE, path="", cookie=0, name=InterfaceName("c"),
            mac=Mac(self.mac.hex(":")), mtu=1500, addresses=(),
        )  # fmt: skip


class Wire:
    """A client and a server on a bridge, a third, and a plane."""

    def __init__(self, stack: ExitStack, directory: Path, kind: str) -> None:
        here, away = netns.new(), netns.new()
        stack.callback(os.close, here)
        stack.callback(os.close, away)
        stack.enter_context(netns.inside(here))
        self.client, self.server, self.third = self.containers = tuple(Container(at) for at in (1, 2, 3))
        with Netlink() as nl:
            nl.do(route.new_bridge(BRIDGE, mac="02:00:00:00:02:00", up=True, snooping=False))
            master = socket.if_nametoindex(BRIDGE)
            for one in self.containers:
                nl.do(*route.new_veth(one.host, f"c-{one.host}", away, master=master, mac=one.mac.hex(":")))
        with netns.inside(away), Netlink() as nl:
            for one in self.containers:
                nl.do(route.set_link(f"c-{one.host}", link_local=False, up=True))
            self._ends = {one.host: stack.enter_context(End(f"c-{one.host}")) for one in self.containers}
        sysctl.write("net.netfilter.nf_conntrack_checksum", 0)
        for key in ("iptables", "ip6tables"):
            sysctl.write(f"net.bridge.bridge-nf-call-{key}", 0)
        self.plane: Plane
        if kind == "nftables":
            self.plane = Nftables(set())
        else:
            loaded = Programs(directory)
            stack.callback(programs.remove, directory)
            stack.callback(loaded.close)
            self.plane = Ebpf(loaded)
        stack.callback(self.plane.close)
        for one in self.containers:
            self.plane.ensure([one.link, one.subject(), one.guard])
        self.plane.change(ROWS, ())

    def passes(self, source: Container, target: Container, frame: bytes, *, to: bytes = b"") -> bool:
        """Whether a frame that the one sends comes out at the other; ``to``: the MAC, if not the other's.

        Whatever else is heard there, as hosts of IPv6 say things of themselves, is from another address.
        """
        return any(_source(one) == _source(frame[ETHERNET - 2 :]) for one in self.out(source, target, frame, to=to))

    def out(self, source: Container, target: Container, frame: bytes, *, to: bytes = b"") -> set[bytes]:
        """Everything that comes out at the other, without its MACs."""
        self._ends[target.host].heard()
        self._ends[source.host].send((to or target.mac) + source.mac + checked(frame)[12:])
        return self._ends[target.host].heard()


@pytest.fixture
def wire(tmp_path: Path, plane: str) -> Iterator[Wire]:
    with ExitStack() as stack:
        yield Wire(stack, tmp_path, plane)


def door(container: Container, family: int, port: int = 80) -> Side:
    return Side(container.sides[family].address, port)


@FAMILIES
def test_errors_follow_their_connection(wire: Wire, family: int) -> None:
    client, server, third = wire.client, wire.server, wire.third
    wire.plane.change((*client.friend, *server.friend), ())
    wire.plane.ensure([client.subject(INGRESS, EGRESS), server.subject(INGRESS, EGRESS)])
    here, there = client.sides[family], door(server, family)
    request = udp(here, there)
    assert wire.passes(client, server, request)
    assert wire.passes(server, client, unreachable(there, here, request))
    unknown = udp(here, door(server, family, 81))
    assert not wire.passes(client, server, unknown)
    assert not wire.passes(server, client, unreachable(there, here, unknown)), "about nothing that is known"
    assert not wire.passes(third, client, unreachable(there, here, unknown))
    wire.plane.change((), server.friend)
    assert not wire.passes(server, client, unreachable(there, here, request)), "the connection is denied by now"


@FAMILIES
def test_fragments_are_one_datagram(wire: Wire, family: int) -> None:
    client, server = wire.client, wire.server
    wire.plane.change(client.friend, ())
    wire.plane.ensure([server.subject(INGRESS)])
    first, later = fragments(client.sides[family], door(server, family), 5)
    assert not wire.passes(client, server, later), "what it is part of is not known"
    several = [wire.out(client, server, one) for one in fragments(client.sides[family], door(server, family), 6)]
    assert sum(map(len, several)) == 2
    denied = [wire.out(client, server, one) for one in fragments(client.sides[family], door(server, family, 81), 7)]
    assert sum(map(len, denied)) == 0
    del first


@FAMILIES
def test_in_the_midst_of_a_connection(wire: Wire, family: int) -> None:
    """Begun before anybody looked: who speaks first is taken for its opener, and a guess that is refused is not kept."""
    client, server = wire.client, wire.server
    wire.plane.change(client.friend, ())
    wire.plane.ensure([server.subject(INGRESS)])
    here, there = client.sides[family], door(server, family)
    assert wire.passes(client, server, tcp(here, there, ACK))
    assert wire.passes(server, client, tcp(there, here, ACK))
    stranger = wire.third.sides[family]
    assert not wire.passes(wire.third, server, tcp(stranger, there, ACK)), "whatever the port numbers say"
    wire.plane.change((), client.friend)
    assert not wire.passes(client, server, tcp(here, there, ACK))


@FAMILIES
@pytest.mark.parametrize("flags", [RST, FIN | ACK])
def test_an_end_without_a_connection(wire: Wire, family: int, flags: int) -> None:
    wire.plane.ensure([wire.server.subject(INGRESS)])
    assert not wire.passes(wire.client, wire.server, tcp(wire.client.sides[family], door(wire.server, family), flags))
    assert wire.passes(wire.client, wire.third, tcp(wire.client.sides[family], door(wire.third, family), flags))


@FAMILIES
def test_an_answering_port_opens_nothing(wire: Wire, family: int) -> None:
    """A SYN through the ports of a connection that goes on."""
    client, server = wire.client, wire.server
    wire.plane.ensure([client.subject(INGRESS)])
    here, there = client.sides[family], door(server, family)
    assert wire.passes(client, server, tcp(here, there, SYN))
    assert wire.passes(server, client, tcp(there, here, SYN | ACK))
    assert wire.passes(client, server, tcp(here, there, ACK))
    assert not wire.passes(server, client, tcp(there, here, SYN))
    assert wire.passes(server, client, tcp(there, here, ACK))


@FAMILIES
def test_what_is_no_ip(wire: Wire, family: int) -> None:
    client, server = wire.client, wire.server
    here, there = client.sides[family], door(server, family)
    tag = struct.pack("!HH", 0x8100, 5)
    tagged = checked(udp(here, there))
    tagged = tagged[:12] + tag + tagged[12:]
    other = bytes(12) + b"\x88\xb5" + bytes(46)
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    for frame in (tagged, other, arp):
        assert wire.passes(client, server, frame)
    wire.plane.ensure([server.subject(INGRESS)])
    assert [wire.passes(client, server, frame) for frame in (tagged, other, arp)] == [False, False, True]
    assert [wire.passes(server, client, frame) for frame in (tagged, other, arp)] == [False, False, True]


def test_neighbours_and_listeners(wire: Wire) -> None:
    """What a link lives by passes to whoever is isolated."""
    client, server = wire.client, wire.server
    wire.plane.ensure([server.subject(INGRESS, EGRESS)])
    solicit = struct.pack("!BBHI", 135, 0, 0, 0) + server.sides[6].packed
    group = Side("ff02::1:ff00:2")
    multicast = b"\x33\x33\xff\x00\x00\x02"
    assert wire.passes(client, server, _hops(packets.frame(client.sides[6], group, 58, solicit)), to=multicast)
    advert = struct.pack("!BBHI", 136, 0, 0, 0) + server.sides[6].packed
    assert wire.passes(server, client, _hops(packets.frame(server.sides[6], client.sides[6], 58, advert)))
    report = struct.pack("!BBHI", 0x16, 0, 0, 0)
    assert wire.passes(client, server, packets.frame(client.sides[4], Side("224.0.0.22"), 2, report), to=b"\1\0\x5e\0\0\x16")


@FAMILIES
def test_what_is_sent_to_many(wire: Wire, family: int, plane: str) -> None:
    """It reaches who is open. To who is isolated eBPF lets pass what its policies allow; nftables cannot know, and nothing."""
    client, server, third = wire.client, wire.server, wire.third
    many = Side("224.0.0.251" if family == 4 else "ff02::fb", 80)
    mac = b"\1\0\x5e\0\0\xfb" if family == 4 else b"\x33\x33\0\0\0\xfb"
    call = udp(client.sides[family], many)
    assert wire.passes(client, server, call, to=mac)
    wire.plane.ensure([server.subject(INGRESS)])
    assert not wire.passes(client, server, call, to=mac)
    assert not wire.passes(client, server, call), "to its MAC alone neither"
    assert wire.passes(client, third, call, to=mac)
    wire.plane.change(client.friend, ())
    assert wire.passes(client, server, call, to=mac) is (plane == "ebpf")
    wire.plane.ensure([client.subject(0, EGRESS)])
    assert not wire.passes(client, third, call, to=mac), "whom one may call is egress"


@FAMILIES
def test_pings_have_no_port(wire: Wire, family: int) -> None:
    client, server = wire.client, wire.server
    wire.plane.change(client.friend, ())
    wire.plane.ensure([server.subject(INGRESS)])
    here, there = client.sides[family], server.sides[family]
    assert not wire.passes(client, server, echo(here, there, 5))
    assert wire.passes(server, client, echo(there, here, 6))
    assert wire.passes(client, server, echo(here, there, 6, reply=True))
    assert not wire.passes(client, server, echo(here, there, 7, reply=True)), "an answer that nobody asked for"


def test_other_protocols(wire: Wire) -> None:
    client, server = wire.client, wire.server
    gre = packets.frame(client.sides[4], server.sides[4], 47, bytes(8))
    assert wire.passes(client, server, gre)
    wire.plane.change(client.friend, ())
    wire.plane.ensure([server.subject(INGRESS)])
    assert not wire.passes(client, server, gre)


def _source(packet: bytes) -> bytes:
    """The type of what follows the MACs and tags, and the address that it is from."""
    while packet[:2] in {b"\x81\0", b"\x88\xa8"}:
        packet = packet[4:]
    six = packet[:2] == b"\x86\xdd"
    return packet[:2] + (packet[10:26] if six else packet[14:18])


def _hops(frame: bytes) -> bytes:
    """Neighbour discovery comes with 255 hops."""
    return frame[: ETHERNET + 7] + b"\xff" + frame[ETHERNET + 8 :]
