"""Rows as entries of maps. Pure: the same rows and interfaces, the same entries.

::

    Ruling                      ports, rulings              what policies say
    Judgement                   judgements                  by whose
    Peer                        peers, blocks               of whom
    Subject                     endpoints                   under which of them a link is
    Guard, Guest                guards, owned               who may send there as whom
    Local                       locals                      who is reached the short way
    Realm, Path                 realms                      which addresses are reached so on other nodes, and which are not
    Vtep                        vteps                       where the ends of tunnels are
    Tunnel                      tunnels, arrivals           and what is between them
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b

from fairlead.desired.state import Guard, Guest, Judgement, Local, Peer, Realm, Row, Ruling, Span, Subject
from fairlead.desired.ways import Path, Tunnel, Vtep
from fairlead.model.address import Address, Prefix

from .layout import (
    ADDRESS,
    ARRIVAL_KEY,
    BLOCK_KEY,
    ENDPOINT,
    GUARD,
    INDEX,
    JUDGEMENT_KEY,
    LOCAL,
    NUMBER,
    OWNED,
    OWNED_KEY,
    PORT_KEY,
    RULING_KEY,
    RULING_VALUE,
    TUNNEL,
    VTEP,
    VTEP_KEY,
    Ownership,
)

Entries = dict[bytes, bytes]
"""What a map holds."""
Found = dict[str, Entries]
"""Entries by the name of their map."""
POLICIES = ("ports", "rulings", "judgements", "blocks", "peers")
LINKS = ("owned", "guards", "endpoints", "locals")
WAYS = ("vteps", "tunnels", "arrivals", "realms", "uplinks")
ORDER = (*POLICIES, *LINKS, *WAYS)
"""The order in which entries are added: what is asked before what asks for it. They are removed in the reverse."""
_MAPPED = bytes(10) + b"\xff\xff"
_NO_MAC = bytes(6)
_PORTS = 1 << 16


def entries(rows: Iterable[Row], interfaces: Mapping[str, int]) -> Found:
    """The entries of all ``rows``. ``interfaces``: the number of each link; of one without a number there are none."""
    found: Found = {name: {} for name in ORDER}
    rest: list[Row] = []
    for row in rows:
        match row:
            case Peer():
                whole = row.prefix.length == row.prefix.net.max_prefixlen
                key = prefix_key(row.prefix)
                found["peers" if whole else "blocks"][key[-ADDRESS.size :] if whole else key] = NUMBER.pack(row.peer)
            case Judgement():
                found["judgements"][JUDGEMENT_KEY.pack(row.policy, row.peer)] = NUMBER.pack(row.ruling)
            case Ruling():
                for name, key, value in (one for span in row.spans for one in _of_span(row.number, span)):
                    found[name][key] = value
            case Subject() | Guard() | Guest() | Local():
                if index := interfaces.get(row.host):
                    for name, key, value in _of_link(row, index):
                        found[name][key] = value
            case Vtep() if row.remote.family == 4:
                found["vteps"][VTEP_KEY.pack(network_number(row.tunnel), row.mac.packed)] = VTEP.pack(row.remote.packed)
            case _:
                rest.append(row)
    found["realms"] = _realms(rest)
    return found


def _realms(rows: Iterable[Row]) -> Entries:
    """Whose the addresses are that the short way leads to on other nodes.

    Nobody's are those that less gets to than the device on the way carries, which is all that the program asks.
    """
    plain = (row for row in rows if isinstance(row, Realm) and row.inter_container and not row.encrypted)
    found = {prefix_key(one): NUMBER.pack(network_number(row.network)) for row in plain for one in row.prefixes}
    return found | {prefix_key(row.dst): NUMBER.pack(0) for row in rows if isinstance(row, Path) and row.mtu}


def tunnel_entries(row: Tunnel, index: int) -> Found:
    """What is known of a tunnel, whose device has this number; of one over IPv6 nothing, it is left to the device."""
    if row.local.family != 4:
        return {"tunnels": {}, "arrivals": {}}
    vni, port = (row.vni << 8).to_bytes(4, "big"), row.port.to_bytes(2, "big")
    value = TUNNEL.pack(network_number(row.name), row.mac.packed, index, row.local.packed, vni, port)
    return {"tunnels": {INDEX.pack(index): value}, "arrivals": {ARRIVAL_KEY.pack(vni, port): value}}


def _of_link(row: Subject | Guard | Guest | Local, index: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Map, key and value."""
    match row:
        case Subject():
            yield "endpoints", INDEX.pack(index), ENDPOINT.pack(row.ingress, row.egress)
        case Guard():
            first = {one.family: address_key(one) for one in reversed(row.addresses)}
            nobody = bytes(16)
            network, gateway = network_number(row.network), row.gateway.packed if row.gateway else _NO_MAC
            addresses = (first.get(4, nobody), first.get(6, nobody))
            value = GUARD.pack(*addresses, row.mac.packed, network, gateway, row.checked, row.routed)
            yield "guards", INDEX.pack(index), value
            yield from (_owned(one, index, Ownership.HERE) for one in row.addresses)
        case Guest():
            yield from (_owned(one, index, Ownership.ELSEWHERE) for one in row.addresses)
        case Local():
            gateway = row.gateway.packed if row.gateway else _NO_MAC
            value = LOCAL.pack(network_number(row.network), row.mac.packed, gateway, index, row.mtu)
            yield from (("locals", address_key(one), value) for one in row.addresses)


def _owned(address: Address, index: int, way: Ownership) -> tuple[str, bytes, bytes]:
    return "owned", OWNED_KEY.pack(address_key(address), index), OWNED.pack(way)


def address_key(address: Address) -> bytes:
    """An address as the programs have it: 16 bytes; IPv4 lies within ::ffff:0:0/96."""
    packed = address.packed
    return packed if address.family == 6 else _MAPPED + packed


@lru_cache(maxsize=4096)
def network_number(name: str) -> int:
    """A network as the programs have it; 0 is none."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") if name else 0


def prefix_key(prefix: Prefix) -> bytes:
    """The key of a prefix."""
    packed = prefix.net.network_address.packed
    if prefix.family == 4:
        return BLOCK_KEY.pack(prefix.length + 96, _MAPPED + packed)
    return BLOCK_KEY.pack(prefix.length, packed)


def blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A run of ports as aligned power-of-two blocks: the first port and the length of its prefix in bits."""
    while first <= last:
        size = first & -first or _PORTS
        while first + size - 1 > last:
            size //= 2
        yield first, 17 - size.bit_length()
        first += size


def _of_span(ruling: int, span: Span) -> Iterator[tuple[str, bytes, bytes]]:
    """Map, key and value: single ports by themselves, longer runs in blocks."""
    value = RULING_VALUE.pack(0 if span.later else span.rule, span.allow or span.later)
    if span.protocol == 0:
        yield "rulings", RULING_KEY.pack(64, ruling, 0, bytes(2)), value
        return
    for port, bits in blocks(span.first, span.last):
        packed = port.to_bytes(2, "big")
        if bits == 16:
            yield "ports", PORT_KEY.pack(ruling, span.protocol, packed), value
        else:
            yield "rulings", RULING_KEY.pack(80 + bits, ruling, span.protocol, packed), value


def describe(table: str, key: bytes) -> str:
    """An entry's key for people."""
    match table:
        case "peers":
            return f"peer {_shown(key)}"
        case "blocks" | "realms":
            length, packed = BLOCK_KEY.unpack(key)
            shown = _shown(packed)
            what = "peer" if table == "blocks" else table
            return f"{what} {shown}/{length - 96 if '.' in shown and length >= 96 else length}"
        case "judgements":
            policy, peer = JUDGEMENT_KEY.unpack(key)
            return f"judgement {policy:016x} of {peer:016x}"
        case "rulings":
            length, ruling, protocol, port = RULING_KEY.unpack(key)
            return f"ruling {ruling:016x} protocol {protocol} port {int.from_bytes(port, 'big')}/{max(length - 80, 0)}"
        case "ports":
            ruling, protocol, port = PORT_KEY.unpack(key)
            return f"ruling {ruling:016x} protocol {protocol} port {int.from_bytes(port, 'big')}"
        case "owned":
            packed, index = OWNED_KEY.unpack(key)
            return f"{table} {_shown(packed)} on interface {index}"
        case "locals":
            return f"{table} {_shown(key)}"
        case "vteps":
            return f"{table} {key[8:14].hex(':')}"
        case "arrivals":
            vni, port = ARRIVAL_KEY.unpack(key)
            return f"{table} identifier {int.from_bytes(vni, 'big') >> 8} port {int.from_bytes(port, 'big')}"
        case _:
            return f"{table} interface {INDEX.unpack(key)[0]}"


def interface_of(table: str, key: bytes, value: bytes) -> int | None:
    """The interface that an entry of a link's map is about."""
    match table:
        case "owned":
            return int(OWNED_KEY.unpack(key)[1])
        case "locals":
            return int(LOCAL.unpack(value)[3])
        case "endpoints" | "guards" | "uplinks" | "tunnels":
            return int(INDEX.unpack(key)[0])
        case _:
            return None


def _shown(packed: bytes) -> str:
    return str(ipaddress.IPv4Address(packed[12:]) if packed.startswith(_MAPPED) else ipaddress.IPv6Address(packed))
