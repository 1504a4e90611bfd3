"""Interfaces: bridges, veth pairs, ifb, and what is set on them.

What a new interface needs beyond its creation (alias, no link-local address, bridge port flags) the kernel only takes for one
that exists, so ``new_veth`` is several messages. ``Netlink.do`` sends them in one system call.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.netlink import (
    CREATE,
    EXCL,
    Message,
    Netlink,
    attr,
    nest,
    parse,
    string,
    text,
    u8,
    u32,
)
from fairlead.kernel.route.text import AF_BRIDGE, AF_INET, AF_INET6, from_address, from_mac, named, to_address, to_mac

_NEW, _DEL, _GET = 16, 17, 18

_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _PROTINFO, _LINKINFO, _IFALIAS = 1, 3, 4, 5, 10, 12, 18, 20
_AF_SPEC, _GROUP, _NET_NS_FD, _EXT_MASK, _LINK_NETNSID = 26, 27, 28, 29, 37
_GSO_IPV4_MAX = 63
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_BR_FORWARD_DELAY, _BR_STP_STATE, _BR_MCAST_SNOOPING, _BR_CALL_IPTABLES, _BR_CALL_IP6TABLES, _BR_BOOLEANS = 1, 5, 23, 36, 37, 46
_NO_LINK_LOCAL_LEARNING = 1
_BRPORT_MODE, _BRPORT_LEARNING, _BRPORT_UNICAST_FLOOD, _BRPORT_MCAST_FLOOD = 4, 8, 9, 27
_BRPORT_BCAST_FLOOD, _BRPORT_NEIGH_SUPPRESS, _BRPORT_ISOLATED = 30, 32, 33
_ADDR_GEN_MODE, _GEN_EUI64, _GEN_NONE = 8, 0, 1
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_LOCAL6 = 1, 4, 7, 15, 17
_SKIP_STATS = 8

BIG, ORDINARY = 192 << 10, 64 << 10
"""Bytes of the largest piece that TCP hands on at once: with BIG TCP, and as the kernel makes an interface."""

_UP, _RUNNING, _NOARP = 0x1, 0x40, 0x80

_header = struct.Struct("=BxHiII")
_pair = struct.Struct("=HH")
_u32 = struct.Struct("=I")
_pair32 = struct.Struct("=II")
_s32 = struct.Struct("=i")
_WANTED = frozenset(
    {_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _PROTINFO, _LINKINFO, _IFALIAS, _GROUP, _LINK_NETNSID, _GSO_IPV4_MAX}
)
_LEAN = u32(_EXT_MASK, _SKIP_STATS)


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What makes up a VXLAN device: network identifier, UDP port, and the host's own address that it sends from."""

    vni: int
    port: int
    local: str


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """One interface. ``master`` is 0 and texts are empty where there is none; ``peer_nsid`` is None in this namespace.

    ``snooping``, ``reserved_learning`` and ``netfilter`` are a bridge's, as ``set_bridge`` sets them.
    ``segment``: bytes of the largest piece that TCP over IPv4 hands on at once, to be cut by whoever cannot carry it; 0 where
    the kernel does not say (before Linux 6.3).
    """

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    running: bool
    master: int
    alias: str
    group: int
    peer_index: int
    peer_nsid: int | None
    slave_kind: str
    isolated: bool
    hairpin: bool
    snooping: bool
    reserved_learning: bool
    netfilter: bool
    flags: int
    vxlan: Vxlan | None
    segment: int

    @property
    def big_tcp(self) -> bool:
        """Whether TCP may hand on larger pieces than every device takes."""
        return self.segment > ORDINARY

    @property
    def arp(self) -> bool:
        """Whether it takes part in ARP."""
        return not self.flags & _NOARP


def links(nl: Netlink) -> list[LinkInfo]:
    """Every interface."""
    return [parse_link(row) for row in nl.dump(Message(_GET, 0, _header.pack(0, 0, 0, 0, 0) + _LEAN, "list the interfaces"))]


def link(nl: Netlink, which: int | str) -> LinkInfo | None:
    """One interface by index or name."""
    index, name = _which(which)
    try:
        return parse_link(
            nl.ask(Message(_GET, 0, _header.pack(0, 0, index, 0, 0) + name + _LEAN, f"look up {named(which)}"))[0]
        )
    except Gone:
        return None


def name_of(index: int) -> str:
    """What the interface is called that has this number in the caller's namespace now; empty if none has."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def parse_link(data: bytes) -> LinkInfo:
    """The row of one link message, as dumps and events carry it. A bridge's event about a port has no kind, alias and group."""
    family, _, index, flags, _ = _header.unpack_from(data)
    found: dict[int, bytes] = {}
    # An interface comes with some forty attributes: copying only what is wanted takes half the time of ``parse``.
    offset, end, unpack, wanted = 16, len(data) - 3, _pair.unpack_from, _WANTED
    while offset < end:
        length, kind = unpack(data, offset)
        kind &= 0x3FFF
        if kind in wanted:
            found[kind] = data[offset + 4 : offset + length]
        offset += length + 3 & ~3
    get = found.get
    kind_name = slave_kind = ""
    port: dict[int, bytes] = {}
    bridge: dict[int, bytes] = {}
    vxlan = None
    if info := get(_LINKINFO):
        details = parse(info)
        kind_name = string(details.get(_INFO_KIND, b""))
        slave_kind = string(details.get(_INFO_SLAVE_KIND, b""))
        if slave_kind == "bridge":
            port = parse(details.get(_INFO_SLAVE_DATA, b""))
        if kind_name == "bridge":
            bridge = parse(details.get(_INFO_DATA, b""))
        elif kind_name == "vxlan":
            vxlan = _vxlan(parse(details.get(_INFO_DATA, b"")))
    if family == AF_BRIDGE and _PROTINFO in found:
        slave_kind, port = "bridge", parse(found[_PROTINFO])
    nsid = get(_LINK_NETNSID)
    return LinkInfo(
        index,
        string(get(_IFNAME, b"")),
        kind_name,
        from_mac(get(_ADDRESS, b"")),
        _number(get(_MTU)),
        bool(flags & _UP),
        bool(flags & _RUNNING),
        _number(get(_MASTER)),
        string(get(_IFALIAS, b"")),
        _number(get(_GROUP)),
        _number(get(_LINK)),
        _s32.unpack(nsid)[0] if nsid else None,
        slave_kind,
        port.get(_BRPORT_ISOLATED) == b"\1",
        port.get(_BRPORT_MODE) == b"\1",
        bridge.get(_BR_MCAST_SNOOPING) == b"\1",
        bool(bridge) and not _number(bridge.get(_BR_BOOLEANS, b"")[:4]) & _NO_LINK_LOCAL_LEARNING,
        bridge.get(_BR_CALL_IPTABLES) == bridge.get(_BR_CALL_IP6TABLES) == b"\1",
        flags,
        vxlan,
        _number(get(_GSO_IPV4_MAX)),
    )


def new_bridge(
    name: str,
    *,
    mac: str | None = None,
    mtu: int = 0,
    group: int = 0,
    up: bool = False,
    snooping: bool = True,
    reserved_learning: bool = True,
) -> Message:
    """A bridge without spanning tree, whose ports forward at once. ``snooping``: multicast goes only where it was asked for.

    ``reserved_learning``: a frame to one of the addresses reserved for bridges (01:80:c2:00:00:0X), which is never forwarded,
    still teaches the bridge where its sender is.
    """
    data = u32(_BR_FORWARD_DELAY, 0) + u32(_BR_STP_STATE, 0) + _bridge(snooping, reserved_learning)
    return new_link(name, "bridge", data, mac=mac, mtu=mtu, group=group, up=up)


def set_bridge(
    which: int | str, *, snooping: bool | None = None, reserved_learning: bool | None = None, netfilter: bool | None = None
) -> Message:
    """Change what is given of a bridge. ``netfilter``: it hands IP packets to the hooks of IP."""
    index, name = _which(which)
    told = _bridge(snooping, reserved_learning)
    if netfilter is not None:
        told += u8(_BR_CALL_IPTABLES, netfilter) + u8(_BR_CALL_IP6TABLES, netfilter)
    info = nest(_LINKINFO, text(_INFO_KIND, "bridge"), nest(_INFO_DATA, told))
    return Message(_NEW, 0, _header.pack(0, 0, index, 0, 0) + name + info, f"change the bridge {named(which)}")


def new_ifb(name: str, *, mtu: int = 0, group: int = 0) -> tuple[Message, ...]:
    """An interface that what another one receives can be sent through, to shape it. Up, without a link-local address."""
    made = new_link(name, "ifb", mtu=mtu, group=group)
    return made, set_link(name, link_local=False), set_link(name, up=True)


def new_vxlan(name: str, of: Vxlan, *, mac: str, mtu: int, group: int = 0) -> tuple[Message, ...]:
    """A tunnel that learns nothing and sends to whom it is told (``fdb_append``). Up, without a link-local address."""
    family, local = to_address(of.local)
    data = b"".join(
        (
            u32(_VXLAN_ID, of.vni),
            attr(_VXLAN_LOCAL if family == AF_INET else _VXLAN_LOCAL6, local),
            attr(_VXLAN_PORT, of.port.to_bytes(2, "big")),
            u8(_VXLAN_LEARNING, 0),
        )
    )
    made = new_link(name, "vxlan", data, mac=mac, mtu=mtu, group=group)
    return made, set_link(name, link_local=False), set_link(name, up=True)


def new_link(
    name: str,
    kind: str,
    data: bytes = b"",
    *,
    lower: int = 0,
    mac: str | None = None,
    mtu: int = 0,
    group: int = 0,
    up: bool = False,
    netns_fd: int | None = None,
) -> Message:
    """An interface of any kind; ``data`` holds its kind's own attributes, ``lower`` the one it stands on.

    ``netns_fd``: the namespace in which it is born, while ``lower`` stays here.
    """
    body = b"".join(
        (
            _flags(0, up or None),
            text(_IFNAME, name),
            u32(_LINK, lower) if lower else b"",
            _common(mac, mtu, group),
            u32(_NET_NS_FD, netns_fd) if netns_fd is not None else b"",
            nest(_LINKINFO, text(_INFO_KIND, kind), nest(_INFO_DATA, data) if data else b""),
        )
    )
    return Message(_NEW, CREATE | EXCL, body, f"make {kind} interface {name}")


def new_veth(
    host: str,
    peer: str,
    peer_netns_fd: int,
    *,
    master: int = 0,
    mtu: int = 0,
    mac: str | None = None,
    host_mac: str | None = None,
    up: bool = True,
    host_alias: str = "",
    group: int = 0,
    arp: bool = True,
    isolated: bool = False,
    hairpin: bool = False,
) -> tuple[Message, ...]:
    """A pair: ``peer`` is born inside ``peer_netns_fd``; ``host`` is here, on the bridge ``master``, with no own address.

    ``arp=False``: ``host`` itself takes no part in ARP, whatever goes on between its bridge's ports.
    ``mac`` is the peer's. ``host`` comes up last, with everything set; if a later message fails, remove ``host``.
    The kernel lets no peer be born up: inside, ``set_link(peer, up=True)``; before it, for a container that is to have no IPv6,
    ``set_link(peer, link_local=False)``.
    """
    inner = b"".join((_flags(0, None), text(_IFNAME, peer), _common(mac, mtu, None), u32(_NET_NS_FD, peer_netns_fd)))
    body = b"".join(
        (
            _flags(0, None, arp),
            text(_IFNAME, host),
            _common(host_mac, mtu, group),
            u32(_MASTER, master) if master else b"",
            nest(_LINKINFO, text(_INFO_KIND, "veth"), nest(_INFO_DATA, attr(_VETH_PEER, inner))),
        )
    )
    made = Message(_NEW, CREATE | EXCL, body, f"make veth pair {host} and {peer}")
    port = _port({_BRPORT_ISOLATED: isolated or None, _BRPORT_MODE: hairpin or None}) if master else b""
    rest = set_link(host, alias=host_alias or None, link_local=False)
    rest = rest._replace(body=rest.body + port)
    return (made, rest, set_link(host, up=True)) if up else (made, rest)


def set_link(
    which: int | str,
    *,
    up: bool | None = None,
    arp: bool | None = None,
    master: int | None = None,
    mtu: int = 0,
    mac: str | None = None,
    alias: str | None = None,
    group: int | None = None,
    name: str | None = None,
    netns_fd: int | None = None,
    link_local: bool | None = None,
    segment: int = 0,
) -> Message:
    """Change what is given. ``master=0``: off its bridge; ``link_local=False``: IPv6 makes no address by itself.

    ``segment``: bytes of the largest piece that TCP over IPv4 hands on at once.

    To give it another name its index must be known: a message has room for one name.
    """
    index, found = _which(which)
    if found and name:
        raise KernelError.of(errno.EINVAL, f"rename {which}", "say which by its index")
    body = b"".join(
        (
            _flags(index, up, arp),
            found,
            text(_IFNAME, name) if name else b"",
            _common(mac, mtu, group),
            u32(_MASTER, master) if master is not None else b"",
            attr(_IFALIAS, alias.encode()) if alias is not None else b"",
            u32(_NET_NS_FD, netns_fd) if netns_fd is not None else b"",
            _addr_gen(link_local) if link_local is not None else b"",
            u32(_GSO_IPV4_MAX, segment) if segment else b"",
        )
    )
    return Message(_NEW, 0, body, f"change {named(which)}")


def bridge_port(
    which: int | str,
    *,
    isolated: bool | None = None,
    hairpin: bool | None = None,
    learning: bool | None = None,
    unicast_flood: bool | None = None,
    mcast_flood: bool | None = None,
    bcast_flood: bool | None = None,
    neigh_suppress: bool | None = None,
) -> Message:
    """Change what is given of an interface that is on a bridge."""
    index, name = _which(which)
    port = _port(
        {
            _BRPORT_ISOLATED: isolated,
            _BRPORT_MODE: hairpin,
            _BRPORT_LEARNING: learning,
            _BRPORT_UNICAST_FLOOD: unicast_flood,
            _BRPORT_MCAST_FLOOD: mcast_flood,
            _BRPORT_BCAST_FLOOD: bcast_flood,
            _BRPORT_NEIGH_SUPPRESS: neigh_suppress,
        }
    )
    return Message(_NEW, 0, _header.pack(0, 0, index, 0, 0) + name + port, f"change the bridge port {named(which)}")


def del_link(which: int | str) -> Message:
    """Remove one interface. The kernel waits out a grace period, some 20 ms: ``del_group`` waits once for many."""
    index, name = _which(which)
    return Message(_DEL, 0, _header.pack(0, 0, index, 0, 0) + name, f"remove {named(which)}")


def del_group(group: int) -> Message:
    """Remove every interface of one group, all in one grace period."""
    return Message(_DEL, 0, _header.pack(0, 0, 0, 0, 0) + u32(_GROUP, group), f"remove the interfaces of group {group}")


def _which(which: int | str) -> tuple[int, bytes]:
    return (0, text(_IFNAME, which)) if isinstance(which, str) else (which, b"")


def _flags(index: int, up: bool | None, arp: bool | None = None) -> bytes:
    given = (_UP if up else 0) | (_NOARP if arp is False else 0)
    return _header.pack(0, 0, index, given, (0 if up is None else _UP) | (0 if arp is None else _NOARP))


def _common(mac: str | None, mtu: int, group: int | None) -> bytes:
    return b"".join(
        (
            attr(_ADDRESS, to_mac(mac)) if mac else b"",
            u32(_MTU, mtu) if mtu else b"",
            u32(_GROUP, group) if group is not None else b"",
        )
    )


def _addr_gen(link_local: bool) -> bytes:
    return nest(_AF_SPEC, nest(AF_INET6, u8(_ADDR_GEN_MODE, _GEN_EUI64 if link_local else _GEN_NONE)))


def _bridge(snooping: bool | None, reserved_learning: bool | None) -> bytes:
    told = b"" if snooping is None else u8(_BR_MCAST_SNOOPING, snooping)
    if reserved_learning is None:
        return told
    return told + attr(_BR_BOOLEANS, _pair32.pack(0 if reserved_learning else _NO_LINK_LOCAL_LEARNING, _NO_LINK_LOCAL_LEARNING))


def _vxlan(found: dict[int, bytes]) -> Vxlan:
    local = found.get(_VXLAN_LOCAL) or found.get(_VXLAN_LOCAL6)
    return Vxlan(
        _number(found.get(_VXLAN_ID)),
        int.from_bytes(found.get(_VXLAN_PORT, b""), "big"),
        from_address(local) if local else "",
    )


def _port(flags: dict[int, bool | None]) -> bytes:
    given = [u8(kind, value) for kind, value in flags.items() if value is not None]
    return nest(_LINKINFO, text(_INFO_SLAVE_KIND, "bridge"), nest(_INFO_SLAVE_DATA, *given)) if given else b""


def _number(value: bytes | None) -> int:
    number: int = _u32.unpack(value)[0] if value else 0
    return number
