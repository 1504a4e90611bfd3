"""Rows to set elements. Each field of a key is padded to four bytes, as the kernel's registers hold it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.desired.state import Guard, Guest, Publication, Realm, Row, Segment
from fairlead.desired.ways import Fellow
from fairlead.kernel.nft import Element, field, ifname
from fairlead.model.address import Address, Prefix

from .stale import NUMBERS

Elements = dict[str, set[Element]]
"""Elements by the name of their set or map; one that is in two of the tables is the same in both."""

_ONE_UNIT = b"\1"
"""The length of a neighbour discovery option that holds a MAC, in units of eight bytes."""
_ANY = {4: Prefix("0.0.0.0/0"), 6: Prefix("::/0")}


def elements(rows: Iterable[Row]) -> Elements:
    """All elements that ``rows`` mean; rows that are not of this layer mean none."""
    found: Elements = {}
    for row in rows:
        for name, element in _of(row):
            found.setdefault(name, set()).add(element)
    return found


def _of(row: Row) -> Iterator[tuple[str, Element]]:
    if isinstance(row, Segment):
        yield from _segment(row)
    elif isinstance(row, Fellow):
        yield from ((f"nodes{one.family}", Element(one.packed)) for one in row.addresses)
    elif isinstance(row, Realm):
        yield from _realm(row)
    elif isinstance(row, Publication):
        yield from _publication(row)
    elif isinstance(row, Guard):
        yield from _guard(row)
    elif isinstance(row, Guest):
        for one in row.addresses:
            for name in (f"own{one.family}", f"source{one.family}"):  # whichever table the port is looked up in
                yield name, Element(ifname(row.host) + one.packed)


def _segment(row: Segment) -> Iterator[tuple[str, Element]]:
    name = ifname(row.bridge)
    yield "bridges", Element(name)
    yield "same", Element(name + name)
    if row.inter_container:
        yield "talk", Element(name + name)
    if row.internal:
        yield "internal", Element(name)
        return
    if not row.isolated:
        yield "open", Element(name)
    if not row.masquerade:
        yield "routed", Element(name)
        return
    for prefix in row.prefixes:
        first, last = _ends(prefix)
        yield f"masquerade{prefix.family}", Element(name + first, name + last)


def _realm(row: Realm) -> Iterator[tuple[str, Element]]:
    kinds = {
        "net": True,
        "inner": row.internal,
        "joined": not row.isolated and not row.internal,
        "reached": not row.masquerade and not row.internal,
        "masked": row.masquerade,
        "sealed": row.encrypted,
    }
    for prefix in row.prefixes:
        family, (first, last) = prefix.family, _ends(prefix)
        any_first, any_last = _ends(_ANY[family])
        for name in (name for name, wanted in kinds.items() if wanted):
            yield f"{name}{family}", Element(first + any_first, last + any_last)
        for to_first, to_last in (_ends(other) for other in row.prefixes if other.family == family):
            pair = Element(first + to_first, last + to_last)
            yield f"kin{family}", pair
            if row.inter_container:
                yield f"talk{family}", pair


def _publication(row: Publication) -> Iterator[tuple[str, Element]]:
    family = row.family
    itself = row.target.packed
    yield f"reflect{family}", Element(itself + itself)
    protocol = field(bytes([NUMBERS[row.protocol]]))
    if row.count > 1 and row.first == row.target_first:
        first, last = _ends(row.host.host() if row.host else _ANY[family])
        yield (
            f"run{family}",
            Element(first + protocol + _port(row.first), last + protocol + _port(row.first + row.count - 1), itself),
        )
        return
    for step in range(row.count):
        key = protocol + _port(row.first + step)
        target = itself + _port(row.target_first + step)
        if row.host:
            yield f"bound{family}", Element(row.host.packed + key, None, target)
        else:
            yield f"port{family}", Element(key, None, target)


def _guard(row: Guard) -> Iterator[tuple[str, Element]]:
    port = ifname(row.host)
    if row.routed:
        if not row.checked:
            yield "any", Element(port)
        else:
            yield from ((f"source{one.family}", Element(port + one.packed)) for one in row.addresses)
        return
    if not row.checked:
        yield "spoofing", Element(port)
        return
    mac = row.mac.packed
    yield "mac", Element(port + field(mac))
    for address in row.addresses:
        yield f"own{address.family}", Element(port + address.packed)
        if address.family == 6:
            yield "target6", Element(port + address.packed)
    if any(address.family == 6 for address in row.addresses):
        yield "option6", Element(port + field(_ONE_UNIT + mac))


def _port(number: int) -> bytes:
    return field(number.to_bytes(2, "big"))


def _ends(prefix: Prefix) -> tuple[bytes, bytes]:
    return prefix.net.network_address.packed, Address(prefix.net.broadcast_address).packed
