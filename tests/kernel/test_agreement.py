"""Three who must agree: policies read slowly from their references, the eBPF programs, and the nftables plane.

Hypothesis invents policies and containers. Then everybody knocks at everybody by every protocol: the oracle says what must
happen, the programs are run on the packet (BPF_PROG_TEST_RUN), and the same packet is put on a real wire and looked for at the
other end. What may pass is answered, and the answer must pass too::

    far away    c0 ─┐        ┌─ here     flv0 ─┐
                c1 ─┼─ veth ─┤           flv1 ─┼─ bridge, tables of the plane
                .. ─┘        └─          .. ───┘    the last one stands for all others

FAIRLEAD_AGREEMENT_WORLDS says how many worlds are tried, 100 if not given.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.datapath.ebpf import programs
from fairlead.datapath.ebpf.entries import entries
from fairlead.datapath.ebpf.programs import Programs
from fairlead.datapath.ebpf.tables import Tables
from fairlead.datapath.nftables.plane import Nftables
from fairlead.desired.state import Guard, Judgement, Link, NodeState, Peer, Row, Rows, Ruling, Subject
from fairlead.kernel import netns, route, sysctl
from fairlead.kernel.netlink import NETFILTER, Message, Netlink
from fairlead.model.address import Address, InterfaceName, Mac
from fairlead.model.endpoint import Endpoint
from fairlead.policy.book import Book
from tests.bpf import packets
from tests.bpf.packets import ACK, ETHERNET, SYN, Side
from tests.unit.policy_oracle import World, allowed, owner
from tests.unit.policy_world import ADDRESSES, ANYTHING, ASKED, DENSE, ENDPOINTS, MADE, POLICIES, done, latest, world

WORLDS = int(os.environ.get("FAIRLEAD_AGREEMENT_WORLDS", "100"))
pytestmark = [pytest.mark.kernel("ebpf"), pytest.mark.deadline(120 + WORLDS)]
THINGS = st.lists(POLICIES | ENDPOINTS | MADE, max_size=9) | st.lists(ANYTHING, max_size=10) | DENSE
NAMES = ("c1:eth0", "c2:eth0", "c3:eth0")
ELSEWHERE = len(NAMES)
"""The port of everybody who is no container."""
NEXT = -1
NOBODYS = Mac("02:00:00:00:00:01")
FORGET_ALL = 1 << 8 | 2


class Knock(NamedTuple):
    source: Address
    destination: Address
    protocol: str
    port: int
    own: int
    """The opener's port, or the identifier: no two knocks have the same."""

    def frame(self, *, answer: bool = False) -> bytes:
        one, other = Side(str(self.source), self.own), Side(str(self.destination), self.port)
        source, target = (other, one) if answer else (one, other)
        match self.protocol:
            case "tcp":
                return packets.tcp(source, target, SYN | ACK if answer else SYN)
            case "udp":
                return packets.udp(source, target)
            case "sctp":
                return _init(source, target, answer=answer)
            case _:
                return packets.echo(source, target, self.own, reply=answer)


class Wire:
    """The bridge with its ports, raw sockets at their far ends, and both planes."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        here, away = netns.new(), netns.new()
        stack.callback(os.close, here)
        stack.callback(os.close, away)
        stack.enter_context(netns.inside(here))
        self.hosts = [InterfaceName(f"flv{at}") for at in range(ELSEWHERE + 1)]
        self._macs = [bytes([2, 0, 0, 0, 1, at]) for at in range(ELSEWHERE + 1)]
        self._make(here, away)
        with netns.inside(away):
            self._ends = [stack.enter_context(_end(f"c{at}")) for at in range(ELSEWHERE + 1)]
        self.indexes = [socket.if_nametoindex(one) for one in self.hosts]
        self.nft = Nftables(set())
        stack.callback(self.nft.close)
        self._loaded = Programs(directory)
        stack.callback(programs.remove, directory)
        stack.callback(self._loaded.close)
        self.maps = Tables(self._loaded.maps)
        self.state = NodeState()
        self._numbers = count(1024)
        self._tracker = stack.enter_context(Netlink(NETFILTER))

    def tell(self, rows: NodeState, subjects: dict[str, tuple[int, int]], endpoints: list[Endpoint]) -> None:
        """Both planes get a world: the maps whole, the tables as the agent does it, change by change."""
        known = {one.name: tuple(at.address for at in one.spec.addresses) for one in endpoints}
        state = rows
        for host, name in zip(self.hosts, NAMES, strict=False):
            ingress, egress = subjects.get(name, (0, 0))
            addresses = known.get(name, ())
            row = Subject(host=host, ingress=ingress, egress=egress, via=InterfaceName("bridge"), addresses=addresses)
            state = state.replace(f"subject/{name}", (row,))
        self._program({owner: () for owner in self.state.owners() if owner not in state.owners()} | dict(state.owners()))
        assert self.nft.check(state) == []
        policies: list[Row] = [row for of in (Ruling, Judgement, Peer) for row in state.table(of).values()]
        policies += state.table(Subject).values()
        policies += [Guard(host=host, mac=NOBODYS, addresses=(), checked=False) for host in self.hosts]
        self.maps.apply(entries(policies, dict(zip(self.hosts, self.indexes, strict=True))))
        self._tracker.do(Message(FORGET_ALL, 0, bytes(4), "forget all connections"))
        known = self._loaded.maps["connections"]
        for key in known.entries():
            known.delete(key)

    def knocks(self, there: World) -> list[Knock]:
        """Everybody at everybody else, by every protocol."""
        return [
            Knock(one, other, protocol, port, self._number())
            for one in ADDRESSES
            for other in ADDRESSES
            if one.family == other.family and self._at(there, one) != self._at(there, other)
            for protocol, port in ASKED
        ]

    def ran(self, there: World, knock: Knock, *, answer: bool = False) -> bool:
        """Whether the programs at both ends let it pass."""
        sender, receiver = self._ways(there, knock, answer=answer)
        frame = knock.frame(answer=answer)
        for hook, at in (("from_pod", sender), ("to_pod", receiver)):
            index = self.indexes[at]
            if at != ELSEWHERE and self._loaded.programs[hook].run(frame, ifindex=index, ingress=index) != NEXT:
                return False
        return True

    def arrived(self, there: World, knocks: list[Knock], *, answer: bool = False) -> set[Knock]:
        """Those that come out at the other end."""
        found: set[Knock] = set()
        for start in range(0, len(knocks), 200):
            some = knocks[start : start + 200]
            for knock in some:
                sender, receiver = self._ways(there, knock, answer=answer)
                self._ends[sender].send(self._macs[receiver] + self._macs[sender] + _checked(knock.frame(answer=answer))[12:])
            frames = {at: self._heard(at) for at in range(ELSEWHERE + 1)}
            for knock in some:
                receiver = self._ways(there, knock, answer=answer)[1]
                if _checked(knock.frame(answer=answer))[12:] in frames[receiver]:
                    found.add(knock)
        return found

    def _heard(self, at: int) -> set[bytes]:
        found = set()
        while True:
            try:
                found.add(self._ends[at].recv(2048)[12:])
            except BlockingIOError:
                return found

    def _ways(self, there: World, knock: Knock, *, answer: bool) -> tuple[int, int]:
        one, other = self._at(there, knock.source), self._at(there, knock.destination)
        return (other, one) if answer else (one, other)

    @staticmethod
    def _at(there: World, address: Address) -> int:
        found = owner(there, address)
        return NAMES.index(found.name) if found else ELSEWHERE

    def _number(self) -> int:
        return next(self._numbers) % 60_000 + 1024

    def _program(self, changes: dict[str, Rows]) -> None:
        before = {owner: self.state.owned(owner) for owner in changes}
        self.state = self.state.replace_all(changes)
        new = {(type(row), row.key): row for rows in changes.values() for row in rows}
        old = {(type(row), row.key): row for rows in before.values() for row in rows}
        add = [row for key, row in new.items() if old.get(key) != row]
        self.nft.change(add, [row for key, row in old.items() if key not in new])
        self.nft.ensure([row for row in add if isinstance(row, Subject)])

    def _make(self, here: int, away: int) -> None:
        with Netlink() as nl:
            nl.do(route.new_bridge("bridge", mac="02:00:00:00:02:00", up=True, snooping=False))
            master = socket.if_nametoindex("bridge")
            for at, host in enumerate(self.hosts):
                nl.do(*route.new_veth(host, f"c{at}", away, master=master, mac=self._macs[at].hex(":")))
        with netns.inside(away), Netlink() as nl:
            for at in range(len(self.hosts)):
                nl.do(route.set_link(f"c{at}", link_local=False, up=True))
        sysctl.write("net.netfilter.nf_conntrack_checksum", 0)
        for key in ("iptables", "ip6tables"):
            sysctl.write(f"net.bridge.bridge-nf-call-{key}", 0)
        del here
        link = Link(
            key="c", host=self.hosts[0], bridge=InterfaceName("bridge"), path="", cookie=0, name=InterfaceName("c"),
            mac=Mac("02:00:00:00:01:00"), mtu=1500, addresses=(),
        )  # fmt: skip
        plane = Nftables(set())
        plane.ensure([link, Subject(host=self.hosts[0], via=InterfaceName("bridge"))])
        plane.close()


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with ExitStack() as stack:
        yield Wire(stack, tmp_path_factory.mktemp("programs"))


@settings(max_examples=WORLDS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(things=THINGS)
def test_all_three_agree(wire: Wire, things: list[Any]) -> None:
    things = _apart(latest(things))
    book, there = Book(), world(things)
    rows = done(NodeState(), book.put(*things))
    wire.tell(rows, {one.name: book.subject(one) for one in there.endpoints}, there.endpoints)
    knocks = wire.knocks(there)
    wanted = {one for one in knocks if allowed(there, one.source, one.destination, one.protocol, one.port)}
    assert {one for one in knocks if wire.ran(there, one)} == wanted, "the programs and the oracle"
    arrived = wire.arrived(there, knocks)
    assert arrived - wanted == set(), "the tables let pass what they may not"
    assert wanted - arrived == set(), "the tables drop what they should not"
    assert {one for one in wanted if wire.ran(there, one, answer=True)} == wanted, "answers, by the programs"
    assert wire.arrived(there, sorted(wanted), answer=True) == wanted, "answers, by the tables"


def _apart(things: list[Any]) -> list[Any]:
    """No two containers have one address: on a wire they could not be told apart."""
    taken: set[Address] = set()
    found = []
    for one in things:
        if isinstance(one, Endpoint):
            own = tuple(at for at in one.spec.addresses if at.address not in taken)
            taken |= {at.address for at in own}
            one = _with_addresses(one, own)  # noqa: PLW2901  # the same container, apart from the others
        found.append(one)
    return found


def _with_addresses(one: Endpoint, own: Any) -> Endpoint:
    return replace(one, spec=replace(one.spec, addresses=own))


def _end(name: str) -> socket.socket:
    """Everything that arrives at an interface, and a way to send from it."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((name, 0))
    sock.setblocking(False)
    return sock


def _checked(frame: bytes) -> bytes:
    """With the checksum of the IPv4 header, which a bridge looks at."""
    if frame[12:14] != b"\x08\0":
        return frame
    head = frame[ETHERNET : ETHERNET + 20]
    total = sum(struct.unpack("!10H", head[:10] + bytes(2) + head[12:]))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return frame[: ETHERNET + 10] + struct.pack("!H", ~total & 0xFFFF) + frame[ETHERNET + 12 :]


def _init(source: Side, target: Side, *, answer: bool) -> bytes:
    """INIT, or its INIT ACK (RFC 9260, 3.3.2 and 3.3.3)."""
    chunk = struct.pack("!BBHIIHHI", 2 if answer else 1, 0, 20, 7, 65536, 1, 1, 1)
    head = struct.pack("!HHII", source.port, target.port, 7 if answer else 0, 0)
    return packets.frame(source, target, packets.SCTP, head + chunk)
