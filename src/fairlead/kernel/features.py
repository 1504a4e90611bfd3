"""What this kernel can do, found out by doing it in a namespace made for that and thrown away.

A version number says little: distributions leave parts out and bring others back. So each feature is tried, and the answer
says what it takes and what the kernel objected.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from fairlead.kernel import bpf, netns, nft, route
from fairlead.kernel.errors import KernelError, Unsupported, translated
from fairlead.kernel.netlink import Netlink, u32


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that a kernel can or cannot do; ``needs`` says what it takes, ``detail`` why it failed."""

    name: str
    ok: bool
    needs: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Room:
    """The throwaway namespace, entered, and a socket in it."""

    fd: int
    nl: Netlink

    def index(self, name: str) -> int:
        found = route.link(self.nl, name)
        assert found is not None, name
        return found.index


@cache
def probe(*names: str) -> tuple[Feature, ...]:
    """The features of these names, or all of them, tried once a process. Needs root."""
    fd = netns.new()
    try:
        with netns.inside(fd), Netlink() as nl:
            room = _Room(fd, nl)
            return tuple(_tried(name, needs, attempt, room) for name, needs, attempt in _ATTEMPTS if name in names or not names)
    finally:
        os.close(fd)


def _tried(name: str, needs: str, attempt: Callable[[_Room], None], room: _Room) -> Feature:
    try:
        attempt(room)
    except KernelError as error:
        return Feature(name, ok=False, needs=needs, detail=str(error))
    return Feature(name, ok=True, needs=needs)


def _cookie(room: _Room) -> None:
    netns.cookie(room.fd)


def _veth(room: _Room) -> None:
    room.nl.do(*route.new_veth("veth0", "veth1", room.fd))


def _bridge(room: _Room) -> None:
    room.nl.do(route.new_bridge("bridge0"))


def _big_tcp(room: _Room) -> None:
    room.nl.do(*route.new_veth("big0", "big1", room.fd))
    room.nl.do(route.set_link("big0", segment=route.BIG))
    link = route.link(room.nl, "big0")
    if link is None or link.segment != route.BIG:
        raise Unsupported(errno.EOPNOTSUPP, "let TCP hand on larger pieces", "the kernel ignored it")


def _isolation(room: _Room) -> None:
    room.nl.do(route.new_bridge("bridge1"))
    room.nl.do(*route.new_veth("port0", "port1", room.fd, master=room.index("bridge1"), isolated=True))
    port = route.link(room.nl, "port0")
    if port is None or not port.isolated:  # an older kernel passes over a flag that it does not know
        raise Unsupported(errno.EOPNOTSUPP, "isolate a bridge port", "the kernel ignored the flag")


def _nftables(_: _Room) -> None:
    nft.run("table inet probe { chain nat { type nat hook prerouting priority dstnat; }\n }")


def _intervals(_: _Room) -> None:
    nft.run("table inet probe { map ports { type ipv4_addr . inet_service : ipv4_addr . inet_service; flags interval; }\n }")


def _tbf(room: _Room) -> None:
    room.nl.do(*route.new_ifb("ifb1"))
    room.nl.do(route.new_tbf(room.index("ifb1"), route.tbf(8_000_000, 800_000)))


def _ifb(room: _Room) -> None:
    room.nl.do(*route.new_ifb("ifb0"))


def _redirect(room: _Room) -> None:
    room.nl.do(*route.new_veth("in0", "in1", room.fd))
    index = room.index("in0")
    room.nl.do(route.new_ingress(index))
    room.nl.do(route.new_redirect(index, room.index("in1")))


def _programs(room: _Room) -> None:
    room.nl.do(*route.new_veth("hook0", "hook1", room.fd))
    index = room.index("hook0")
    program = bpf.Program.passing()
    try:
        room.nl.do(route.new_clsact(index), route.new_program(index, route.SENT, program.fd, "passing"))
    finally:
        program.close()


def _tcx(room: _Room) -> None:
    """To list takes what to attach takes, and waits for nothing."""
    bpf.tcx.attached(room.index("lo"))


def _libbpf(_: _Room) -> None:
    bpf.object.library()


def _ring(_: _Room) -> None:
    bpf.Map.create(bpf.MapInfo(bpf.RINGBUF, 0, 0, mmap.PAGESIZE)).close()


def _macvlan(room: _Room) -> None:
    room.nl.do(*route.new_veth("lower0", "lower1", room.fd))
    bridge_mode = 4
    room.nl.do(route.new_link("macvlan0", "macvlan", u32(1, bridge_mode), lower=room.index("lower0")))


def _ipvlan(room: _Room) -> None:
    room.nl.do(*route.new_veth("lower2", "lower3", room.fd))
    room.nl.do(route.new_link("ipvlan0", "ipvlan", lower=room.index("lower2")))


def _sctp(_: _Room) -> None:
    with translated("open an SCTP socket"):
        socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, socket.IPPROTO_SCTP).close()


_ATTEMPTS: tuple[tuple[str, str, Callable[[_Room], None]], ...] = (
    ("namespace cookies", "Linux 5.14", _cookie),
    ("veth", "CONFIG_VETH", _veth),
    ("bridge", "CONFIG_BRIDGE", _bridge),
    ("bridge port isolation", "Linux 4.18", _isolation),
    ("BIG TCP", "Linux 6.3", _big_tcp),
    ("nftables", "Linux 5.2 with CONFIG_NF_TABLES_INET and CONFIG_NFT_NAT, and the package libnftables1", _nftables),
    ("nftables concatenated intervals", "Linux 5.6", _intervals),
    ("ifb", "CONFIG_IFB", _ifb),
    ("tbf", "CONFIG_NET_SCH_TBF", _tbf),
    ("u32 and mirred", "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED", _redirect),
    ("eBPF programs on interfaces", "CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS", _programs),
    ("tcx", bpf.tcx.NEEDS, _tcx),
    ("libbpf", "the package libbpf1", _libbpf),
    ("eBPF ring buffers", "Linux 5.8", _ring),
    ("macvlan", "CONFIG_MACVLAN", _macvlan),
    ("ipvlan", "CONFIG_IPVLAN", _ipvlan),
    ("SCTP sockets", "CONFIG_IP_SCTP", _sctp),
)
