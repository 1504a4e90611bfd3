"""What happened in the kernel, as it happens: links, addresses, routes, here and in every container's namespace, and nftables.

Three sockets that never block. Give their ``filenos`` to an event loop and call ``read`` when one is readable::

    rtnetlink   links, addresses, routes of the main table, of this namespace and of each one that has a number here
                (the kernel numbers a namespace by itself when a veth leads into it; ``route.new_nsid`` does it for any other)
    rtnetlink   what somebody told for good of neighbours and of who is behind a port, and what of it is gone; programs that
                were taken off an interface as filters, and their places, not those of tcx links; of this namespace
    nfnetlink   one event for each table that a transaction touched, and who did it

An event says that something changed, not what is now: who acts on it asks the kernel. Nothing is lost silently: where the
kernel had to drop events there is one of kind ``overrun``, after which everything must be compared.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairlead.kernel import netlink
from fairlead.kernel.errors import KernelError, translated
from fairlead.kernel.nft.wire import FAMILIES
from fairlead.kernel.route.address import parse_address
from fairlead.kernel.route.link import LinkInfo, parse_link
from fairlead.kernel.route.neighbour import FAILED, NOARP, PERMANENT, NeighbourInfo, parse_neighbour
from fairlead.kernel.route.path import parse_route
from fairlead.kernel.route.program import parse_place
from fairlead.kernel.route.text import AF_BRIDGE

Kind = Literal["link", "address", "route", "neighbour", "program", "nft", "overrun"]

_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _LISTEN_ALL_NSID = 1, 8
_ROUTE_GROUPS = (1, 5, 7, 9, 11)  # link, IPv4 address, IPv4 route, IPv6 address, IPv6 route
_NEIGHBOUR_GROUP, _TRAFFIC_GROUP = 3, 4
_NFTABLES_GROUP = 7
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20
_RECEIVE = 65536
_ANCILLARY = socket.CMSG_SPACE(4)
_NEW_LINK, _DEL_LINK, _NEW_ADDRESS, _DEL_ADDRESS, _NEW_ROUTE, _DEL_ROUTE = 16, 17, 20, 21, 24, 25
_NEW_NEIGHBOUR, _DEL_NEIGHBOUR = 28, 29
_DEL_QDISC, _DEL_FILTER = 37, 45
_PROGRAM_KINDS = {"bpf", "clsact", "ingress"}
_MAIN, _CLONED = 254, 0x200
_flags = struct.Struct("=I")
_NFT = 10
_NEW_GENERATION = 15
_GENERATION_PID = 2
_REMOVALS = {2, 5, 8, 11, 14, 20, 24}  # table, chain, rule, set, element, object, flowtable
_NFT_FAMILY = {number: name for name, number in FAMILIES.items()}


@dataclass(frozen=True, slots=True)
class Event:
    """One change. ``nsid`` is None in this namespace, else the number of the one where it happened.

    ``index`` is the interface's, ``name`` says what it concerns: the interface's name, the address, the route's destination,
    the kind of program or place that was taken off, or ``inet TABLE``. ``pid`` is who did it: of an nft event the thread's id,
    of the others the port of its netlink socket or 0.
    ``ours``: an nft transaction of this process.
    """

    kind: Kind
    deleted: bool = False
    nsid: int | None = None
    index: int = 0
    name: str = ""
    pid: int = 0
    ours: bool = False
    link: LinkInfo | None = None
    """What a link event says of the interface. None where it only left a bridge: another event says what it is then."""
    neighbour: NeighbourInfo | None = None


class Events:
    """The three sockets, listening from construction until ``close``."""

    def __init__(self, netns: int | None = None) -> None:
        self._touched: dict[str, bool] = {}
        self._sockets: list[socket.socket] = []
        try:
            self._route = self._open(netlink.ROUTE, netns, *_ROUTE_GROUPS, everywhere=True)
            self._near = self._open(netlink.ROUTE, netns, _NEIGHBOUR_GROUP, _TRAFFIC_GROUP)
            self._nft = self._open(netlink.NETFILTER, netns, _NFTABLES_GROUP)
        except KernelError:
            self.close()
            raise

    def _open(self, protocol: int, netns: int | None, *groups: int, everywhere: bool = False) -> socket.socket:
        sock = netlink.open_socket(protocol, netns)
        self._sockets.append(sock)
        with translated("listen to the kernel's events"):
            if everywhere:
                sock.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
            _listen(sock, groups)
        return sock

    @property
    def filenos(self) -> tuple[int, ...]:
        """What to wait for until it is readable."""
        return tuple(sock.fileno() for sock in self._sockets)

    def close(self) -> None:
        """Stop listening."""
        for sock in self._sockets:
            sock.close()

    def read(self) -> list[Event]:
        """Everything that has happened since the last call; empty if nothing has."""
        found = []
        for sock in (self._route, self._near):
            for nsid, reply in _received(sock):
                event = _route_event(reply, nsid) if reply else Event("overrun")
                if event:
                    found.append(event)
        for _, reply in _received(self._nft):
            found += self._nft_events(reply) if reply else (Event("overrun"),)
        return found

    def _nft_events(self, reply: netlink.Reply) -> list[Event]:
        """Note which tables a transaction touches; its last message, the new generation, says whose it was."""
        number = reply.type & 0xFF
        if reply.type >> 8 != _NFT:
            return []
        if number != _NEW_GENERATION:
            table = f"{_NFT_FAMILY.get(reply.body[0], '?')} {_first_string(reply.body)}"
            self._touched[table] = self._touched.get(table, False) or number in _REMOVALS
            return []
        pid = int.from_bytes(netlink.parse(reply.body, 4).get(_GENERATION_PID, b""), "big")
        ours = Path(f"/proc/self/task/{pid}").exists()
        touched, self._touched = self._touched, {}
        return [Event("nft", deleted, None, 0, table, pid, ours) for table, deleted in touched.items()]


def _listen(sock: socket.socket, groups: tuple[int, ...]) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.bind((0, 0))
    for group in groups:
        sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)


def _received(sock: socket.socket) -> Iterator[tuple[int | None, netlink.Reply | None]]:
    """Each message with the number of its namespace; None in place of what the kernel had to drop."""
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(_RECEIVE, _ANCILLARY)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise KernelError.of(error.errno or 0, "read the kernel's events") from error
            yield None, None
            continue
        nsid = struct.unpack("=i", ancillary[0][2])[0] if ancillary else None
        for reply in netlink.unpack_replies(data):
            yield nsid, reply


def _route_event(reply: netlink.Reply, nsid: int | None) -> Event | None:
    """The event of one rtnetlink message; None for what nobody needs to know."""
    body, pid = reply.body, reply.pid
    if reply.type in {_NEW_LINK, _DEL_LINK}:
        link, deleted = parse_link(body), reply.type == _DEL_LINK
        # A bridge speaks of its ports in its own family: what it says is removed is a port of it, not the interface.
        port = deleted and body[0] == AF_BRIDGE
        return Event("link", deleted and not port, nsid, link.index, link.name, pid, link=None if port else link)
    if reply.type in {_NEW_ADDRESS, _DEL_ADDRESS}:
        address = parse_address(body)
        return Event("address", reply.type == _DEL_ADDRESS, nsid, address.index, address.interface, pid)
    if reply.type in {_NEW_NEIGHBOUR, _DEL_NEIGHBOUR}:
        near = parse_neighbour(body)
        gone = reply.type == _DEL_NEIGHBOUR or bool(near.state & FAILED)  # one that is removed fails first
        if not gone and not near.state & (PERMANENT | NOARP):
            return None  # learnt by itself
        return Event("neighbour", gone, nsid, near.index, near.mac, pid, neighbour=near)
    if reply.type in {_DEL_QDISC, _DEL_FILTER}:
        index, kind = parse_place(body)
        return Event("program", True, nsid, index, kind, pid) if kind in _PROGRAM_KINDS else None
    # What the kernel derives from addresses, and its caches, follow from other events.
    if reply.type in {_NEW_ROUTE, _DEL_ROUTE} and body[4] == _MAIN and not _flags.unpack_from(body, 8)[0] & _CLONED:
        route = parse_route(body)
        return Event("route", reply.type == _DEL_ROUTE, nsid, route.index, route.dst, pid)
    return None


def _first_string(body: bytes) -> str:
    """The table's name: in every message of nftables it is the first attribute."""
    length, _ = struct.unpack_from("=HH", body, 4)
    return netlink.string(body[8 : 4 + length])
