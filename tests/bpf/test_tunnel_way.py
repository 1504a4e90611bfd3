"""VXLAN on the short way between nodes: the headers are those that the kernel's device makes, and only they are taken off."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from fairlead.datapath.ebpf.entries import entries, tunnel_entries
from fairlead.datapath.ebpf.layout import INDEX, Uplink
from fairlead.desired.state import Subject
from fairlead.desired.ways import Tunnel, Vtep
from fairlead.kernel import route, sysctl
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import Vxlan
from fairlead.model.address import Address, InterfaceName, Mac
from tests.bpf.conftest import LINKS, NEXT, REDIRECT, SHOT, Kernel
from tests.bpf.packets import ACK, SYN, Side, tcp, udp
from tests.bpf.test_policies import INGRESS, each_family
from tests.bpf.test_policies import A as HERE
from tests.bpf.test_policies import B as THERE
from tests.bpf.test_remote_way import guard, realm
from tests.bpf.test_short_way import GATEWAYS, MACS, local

pytestmark = pytest.mark.kernel("ebpf")
each_opened = pytest.mark.parametrize("family", [4, pytest.param(6, marks=pytest.mark.kernel("opening IPv6"))])
"""Without, tunnels are opened by their device where IPv6 is inside."""

NAME = InterfaceName("flx-blue")
NEAR, FAR = Address("192.0.2.1"), Address("192.0.2.2")
UPLINK, ROUTER = Mac("02:00:00:00:00:aa"), Mac("02:00:00:00:00:bb")
OURS, THEIRS = Mac("0e:00:00:00:00:01"), Mac("0e:00:00:00:00:02")
VNI, PORT, MTU = 7001, 4789, 1450
TUNNEL = Tunnel(name=NAME, network="blue", vni=VNI, port=PORT, local=NEAR, mac=OURS, mtu=MTU)
VTEP = Vtep(tunnel=NAME, node="far", mac=THEIRS, remote=FAR)
OUTER = 50


class Tunnelled:
    """A container of this node and one of another, and the tunnel between the two."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        at = kernel.other
        with Netlink() as nl:
            for name in ("away", "far", *LINKS):
                nl.do(route.set_link(name, up=True))
            nl.do(route.set_link(LINKS[1], mac=UPLINK, mtu=MTU + OUTER))
            nl.do(route.new_address(at, f"{NEAR}/24"))
            nl.do(route.new_neighbour(at, FAR, ROUTER))
            nl.do(*route.new_vxlan(NAME, Vxlan(VNI, PORT, NEAR), mac=OURS, mtu=MTU))
            self.tunnel = socket.if_nametoindex(NAME)
            nl.do(route.new_neighbour(self.tunnel, THEIRS.link_local, THEIRS))
            nl.do(route.fdb_append(self.tunnel, THEIRS, FAR))
            for side in THERE.values():
                nl.do(route.new_route(f"{side.address}/{128 if ':' in side.address else 32}", THEIRS.link_local, self.tunnel))
        sysctl.write("net.ipv4.ip_forward", 1)
        sysctl.write("net.ipv6.conf.all.forwarding", 1)
        kernel.put(guard(), local(0, routed=True), realm())
        kernel.change((VTEP,))
        self.lead()

    def lead(self, row: Tunnel = TUNNEL, carrier: Uplink = Uplink.TUNNELS) -> None:
        maps = self.kernel.loaded.maps
        maps["uplinks"].update(INDEX.pack(self.kernel.other), INDEX.pack(carrier))
        maps["uplinks"].update(INDEX.pack(self.tunnel), INDEX.pack(Uplink.ROUTES))
        for name, found in tunnel_entries(row, self.tunnel).items():
            for key in maps[name].entries():
                maps[name].delete(key)
            maps[name].write(found)

    def out(self, frame: bytes) -> tuple[int, bytes]:
        """What becomes of what the container sends."""
        packet = GATEWAYS[0].packed + MACS[0].packed + frame[12:]
        said, data = self.kernel.loaded.programs["from_pod"].ask(packet, ifindex=self.kernel.one, mark=0)
        return said, data

    def came(self, packet: bytes) -> tuple[int, bytes]:
        """What becomes of what comes in at the uplink."""
        said, data = self.kernel.loaded.programs["from_net"].ask(packet, ifindex=self.kernel.other, mark=0)
        return said, data


@pytest.fixture
def tunnelled(kernel: Kernel) -> Tunnelled:
    return Tunnelled(kernel)


def wrapped(
    frame: bytes,
    *,
    source: Address = FAR,
    to: Address = NEAR,
    vni: int = VNI,
    port: int = PORT,
    macs: tuple[Mac, Mac] = (OURS, THEIRS),
    flags: int = 0x08000000,
    fragment: int = 0,
    tos: int = 0,
    heads: int = 0x45,
) -> bytes:
    """A frame as the other node's device would send it."""
    inner = macs[0].packed + macs[1].packed + frame[12:]
    length = len(inner) + 36
    outer = struct.pack("!BBHHHBBH", heads, tos, length, 9, fragment, 64, 17, 0) + source.packed + to.packed
    udp_header = struct.pack("!HHHH", 50000, port, length - 20, 0)
    head = UPLINK.packed + ROUTER.packed + b"\x08\x00"
    return head + outer + udp_header + struct.pack("!II", flags, vni << 8) + inner


def checksum(header: bytes) -> int:
    total = sum(struct.unpack("!10H", header))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@each_family
def test_the_headers_are_those_of_vxlan(tunnelled: Tunnelled, family: int) -> None:
    frame = tcp(HERE[family], THERE[family], SYN, b"seven")
    said, data = tunnelled.out(frame)
    assert said == REDIRECT
    outer, header, inner = data[:14], data[14:34], data[OUTER:]
    assert outer == ROUTER.packed + UPLINK.packed + b"\x08\x00"
    assert checksum(header) == 0xFFFF
    assert (header[0], header[8], header[9]) == (0x45, 64, 17)
    assert struct.unpack("!H", header[2:4]) == (len(data) - 14,)
    assert header[6:8] == bytes(2), "routers may cut it, as they may what the device sends"
    assert (header[12:16], header[16:20]) == (NEAR.packed, FAR.packed)
    source, port, length, check = struct.unpack("!HHHH", data[34:42])
    assert source >= 32768
    assert (port, length, check) == (PORT, len(data) - 34, 0)
    assert struct.unpack("!II", data[42:50]) == (0x08000000, VNI << 8)
    assert inner[:12] == THEIRS.packed + OURS.packed
    at = 22 if family == 4 else 21
    assert inner[at] == frame[at] - 1, "one hop further"
    assert inner[34 if family == 4 else 54 :] == frame[34 if family == 4 else 54 :]


def test_a_connection_keeps_its_source_port_and_others_have_others(tunnelled: Tunnelled) -> None:
    """So that what spreads packets over several ways keeps those of one connection in order."""

    def port(side: Side) -> int:
        return int.from_bytes(tunnelled.out(tcp(side, THERE[4], SYN))[1][34:36], "big")

    sides = [Side(HERE[4].address, at) for at in range(40000, 40020)]
    first = [port(side) for side in sides]
    assert first == [port(side) for side in sides]
    assert len(set(first)) > 10


@pytest.mark.parametrize(("inner", "outer"), [(0, 0), (1, 1), (2, 2), (3, 2)])
@each_family
def test_congestion_can_be_told_of_on_the_way(tunnelled: Tunnelled, family: int, inner: int, outer: int) -> None:
    frame = bytearray(tcp(HERE[family], THERE[family], SYN))
    if family == 4:
        frame[15] = inner
    else:
        frame[14:16] = (0x6000 | inner << 4).to_bytes(2, "big")
    assert tunnelled.out(bytes(frame))[1][15] == outer


@each_opened
def test_what_was_sent_is_what_arrives(tunnelled: Tunnelled, family: int) -> None:
    """Opened, one hop older, from the host's MAC to the container's."""
    frame = tcp(THERE[family], HERE[family], SYN, b"content")
    said, data = tunnelled.came(wrapped(frame))
    assert said == REDIRECT
    assert data[:12] == MACS[0].packed + GATEWAYS[0].packed
    at = 22 if family == 4 else 21
    assert data[at] == frame[at] - 1
    assert len(data) == len(frame)
    assert data[34 if family == 4 else 54 :] == frame[34 if family == 4 else 54 :]
    assert tunnelled.kernel.only()[7:9] == (1, len(frame)), "counted as the packet that it is"


@each_family
@pytest.mark.parametrize(
    "change",
    [
        {"source": Address("192.0.2.3")},
        {"to": Address("192.0.2.9")},
        {"vni": VNI + 1},
        {"port": PORT + 1},
        {"macs": (Mac("0e:00:00:00:00:09"), THEIRS)},
        {"macs": (OURS, Mac("0e:00:00:00:00:09"))},
        {"flags": 0},
        {"flags": 0x0C000000},
        {"fragment": 0x2000},
        {"fragment": 0x0010},
        {"tos": 3},
        {"heads": 0x46},
    ],
    ids=str,
)
def test_what_is_unusual_is_the_device_s_to_open(tunnelled: Tunnelled, family: int, change: dict[str, object]) -> None:
    """Other senders, tunnels and versions, fragments, congestion: as if the program was not there."""
    packet = wrapped(tcp(THERE[family], HERE[family], SYN), **change)  # type: ignore[arg-type]  # by its name
    assert tunnelled.came(packet) == (NEXT, packet)
    assert not tunnelled.kernel.table()


@each_family
def test_what_is_not_for_a_container_of_the_short_way(tunnelled: Tunnelled, family: int) -> None:
    world = Side("198.51.100.7" if family == 4 else "2001:db8::7", 5)
    packet = wrapped(tcp(THERE[family], world, SYN))
    assert tunnelled.came(packet) == (NEXT, packet)


@each_opened
def test_what_the_stack_must_see_after_all_comes_out_of_the_device(tunnelled: Tunnelled, family: int) -> None:
    """An answer whose question was not seen: it may be somebody's whom the stack translates."""
    frame = tcp(THERE[family], HERE[family], SYN | ACK)
    said, data = tunnelled.came(wrapped(frame))
    assert said == REDIRECT
    assert data == OURS.packed + THEIRS.packed + frame[12:]
    assert not tunnelled.kernel.table(), "it is decided where it comes out"


@each_opened
def test_who_is_not_let_in_stays_out(tunnelled: Tunnelled, family: int) -> None:
    tunnelled.kernel.put(Subject(host=LINKS[0], ingress=INGRESS, egress=0))
    assert tunnelled.came(wrapped(tcp(THERE[family], HERE[family], SYN)))[0] == SHOT
    assert tunnelled.kernel.kinds() == ["DROP"]


@each_family
def test_nobody_comes_in_beside_the_tunnel(tunnelled: Tunnelled, family: int) -> None:
    """The uplink only carries: a packet as it is, from a container's address, is for the stack and its rp_filter."""
    packet = UPLINK.packed + ROUTER.packed + tcp(THERE[family], HERE[family], SYN)[12:]
    assert tunnelled.came(packet) == (NEXT, packet)
    tunnelled.lead(carrier=Uplink.TUNNELS | Uplink.ROUTES)
    assert tunnelled.came(packet)[0] == REDIRECT


@each_family
@pytest.mark.parametrize("what", ["no end", "no carrier", "no neighbour", "no way", "too large"])
def test_what_the_device_sends_itself(tunnelled: Tunnelled, family: int, what: str) -> None:
    kernel, frame = tunnelled.kernel, tcp(HERE[family], THERE[family], SYN)
    changes: dict[str, Callable[[], object]] = {
        "no end": lambda: kernel.change((), (VTEP,)),
        "no carrier": lambda: kernel.loaded.maps["uplinks"].delete(INDEX.pack(kernel.other)),
        "no neighbour": lambda: _do(route.del_neighbour(kernel.other, FAR)),
        "no way": lambda: _do(route.del_address(kernel.other, f"{NEAR}/24")),
        "too large": lambda: _do(route.set_link(LINKS[1], mtu=len(frame) - 14 + OUTER - 1)),
    }
    assert tunnelled.out(frame)[0] == REDIRECT
    changes[what]()
    said, data = tunnelled.out(frame)
    assert said == REDIRECT, "to the device"
    assert len(data) == len(frame)


def _do(message: object) -> None:
    with Netlink() as nl, suppress(FileNotFoundError):
        nl.do(message)  # type: ignore[arg-type]  # a message


def test_over_ipv6_nothing_is_known_of_a_tunnel() -> None:
    """Its checksum of UDP may not be left out; the device makes it."""
    six = Tunnel(name=NAME, network="blue", vni=VNI, port=PORT, local=Address("fd02::1"), mac=OURS, mtu=1430)
    assert not any(tunnel_entries(six, 5).values())
    assert not entries([Vtep(tunnel=NAME, node="far", mac=THEIRS, remote=Address("fd02::2"))], {})["vteps"]


@each_opened
def test_datagrams_take_it_once_both_were_seen(tunnelled: Tunnelled, family: int) -> None:
    sent, answer = udp(HERE[family], THERE[family]), udp(THERE[family], HERE[family])
    assert tunnelled.out(sent)[0] == NEXT
    assert tunnelled.came(wrapped(answer))[0] == REDIRECT
    said, data = tunnelled.out(sent)
    assert (said, len(data)) == (REDIRECT, len(sent) + OUTER)
    said, data = tunnelled.came(wrapped(answer))
    assert (said, data[:6]) == (REDIRECT, MACS[0].packed)
