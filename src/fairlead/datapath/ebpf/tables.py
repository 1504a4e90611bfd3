"""What policies say, as maps: rows become entries by pure functions, ``Tables`` writes those that differ.

What is asked is written before what asks for it: rulings, judgements, peers. Connections remember the revision under which they
were decided; one bump at the end of a change has each decided again at its next packet.
"""

from __future__ import annotations

import ipaddress
import struct
import time
from collections.abc import Iterable, Iterator, Mapping

from fairlead.desired.state import Judgement, Peer, Row, Ruling, Span
from fairlead.kernel.bpf import Map
from fairlead.model.address import Prefix

from .layout import CONFIG, ENDPOINT, JUDGEMENT_KEY, NUMBER, PEER_KEY, RULING_KEY, RULING_VALUE

Entries = dict[bytes, bytes]
ORDER = ("rulings", "judgements", "peers")
"""The order in which entries are added; they are removed in the reverse."""
_ONLY = struct.pack("=I", 0)
_MAPPED = bytes(10) + b"\xff\xff"
_PORTS = 1 << 16


def prefix_key(prefix: Prefix) -> bytes:
    """The key of a prefix; IPv4 lies within ::ffff:0:0/96."""
    packed = prefix.net.network_address.packed
    if prefix.family == 4:
        return PEER_KEY.pack(prefix.length + 96, _MAPPED + packed)
    return PEER_KEY.pack(prefix.length, packed)


EVERY_V4 = {prefix_key(Prefix("0.0.0.0/0")): NUMBER.pack(0)}
"""Always there, so that a short IPv6 prefix holds no IPv4 address."""


def blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A run of ports as aligned power-of-two blocks: the first port and the length of its prefix in bits."""
    while first <= last:
        size = first & -first or _PORTS
        while first + size - 1 > last:
            size //= 2
        yield first, 17 - size.bit_length()
        first += size


def span_entries(ruling: int, span: Span) -> Entries:
    """The entries of one span."""
    value = RULING_VALUE.pack(span.rule, span.allow)
    if span.protocol == 0:
        return {RULING_KEY.pack(64, ruling, 0, bytes(2)): value}
    return {
        RULING_KEY.pack(80 + bits, ruling, span.protocol, port.to_bytes(2, "big")): value
        for port, bits in blocks(span.first, span.last)
    }


def entries(rows: Iterable[Row]) -> dict[str, Entries]:
    """The entries of all ``rows`` by map; rows of other tables are left out."""
    found: dict[str, Entries] = {name: {} for name in ORDER}
    for row in rows:
        match row:
            case Peer():
                found["peers"][prefix_key(row.prefix)] = NUMBER.pack(row.peer)
            case Judgement():
                found["judgements"][JUDGEMENT_KEY.pack(row.policy, row.peer)] = NUMBER.pack(row.ruling)
            case Ruling():
                for span in row.spans:
                    found["rulings"] |= span_entries(row.number, span)
            case _:
                pass
    return found


def describe(table: str, key: bytes) -> str:
    """An entry's key for people."""
    match table:
        case "peers":
            length, packed = PEER_KEY.unpack(key)
            if packed.startswith(_MAPPED) and length >= 96:
                return f"peer {ipaddress.IPv4Address(packed[12:])}/{length - 96}"
            return f"peer {ipaddress.IPv6Address(packed)}/{length}"
        case "judgements":
            policy, peer = JUDGEMENT_KEY.unpack(key)
            return f"judgement {policy:016x} of {peer:016x}"
        case "rulings":
            length, ruling, protocol, port = RULING_KEY.unpack(key)
            return f"ruling {ruling:016x} protocol {protocol} port {int.from_bytes(port, 'big')}/{max(length - 80, 0)}"
        case _:
            return f"interface {struct.unpack('=I', key)[0]}"


class Tables:
    """Writes the maps; the only one to do so."""

    def __init__(self, maps: Mapping[str, Map], *, node_reaches_pods: bool = True) -> None:
        """Set the configuration; what fresh maps begin with is never a revision that connections remember.

        ``node_reaches_pods``: what this node itself sends to containers, such as probes, passes whatever policies say.
        """
        self._maps = maps
        self._node_reaches_pods = node_reaches_pods
        self._configure(self.revision or time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        if maps["peers"].lookup(next(iter(EVERY_V4))) is None:
            maps["peers"].write(EVERY_V4)

    @property
    def revision(self) -> int:
        """The number of the policies in force."""
        return int(CONFIG.unpack(self._maps["config"].lookup(_ONLY) or bytes(CONFIG.size))[0])

    def bump(self) -> None:
        """Have every connection decided again."""
        self._configure(self.revision + 1)

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Write ``add``, then remove what of ``remove`` is not added again; nothing happens without a row of policies."""
        new, old = entries(add), entries(remove)
        gone = {name: [key for key in old[name] if key not in new[name]] for name in ORDER}
        if any(new.values()) or any(gone.values()):
            self._write(new, gone)

    def put(self, endpoints: Mapping[int, tuple[int, int]]) -> bool:
        """Set the policy sets (ingress, egress) of interfaces; whether any was different."""
        table, fresh = self._maps["endpoints"], {}
        for index, sets in endpoints.items():
            key, value = struct.pack("=I", index), ENDPOINT.pack(*sets)
            if table.lookup(key) != value:
                fresh[key] = value
        return self._tell("endpoints", fresh, ())

    def drop(self, indexes: Iterable[int]) -> bool:
        """Forget interfaces; whether any was known."""
        return self._tell("endpoints", {}, [struct.pack("=I", one) for one in indexes])

    def differences(self, rows: Iterable[Row], endpoints: Mapping[int, tuple[int, int]]) -> dict[str, tuple[Entries, Entries]]:
        """By map: the entries that are missing or different, as they should be, and those that should not be, or differ."""
        want = entries(rows)
        want["peers"] = EVERY_V4 | want["peers"]
        want["endpoints"] = {struct.pack("=I", index): ENDPOINT.pack(*sets) for index, sets in endpoints.items()}
        found = {}
        for name, wanted in want.items():
            have = self._maps[name].entries()
            found[name] = (
                {key: value for key, value in wanted.items() if have.get(key) != value},
                {key: value for key, value in have.items() if wanted.get(key) != value},
            )
        return found

    def apply(self, rows: Iterable[Row], endpoints: Mapping[int, tuple[int, int]]) -> None:
        """Make the maps say what ``rows`` do, and know ``endpoints`` alone."""
        found = self.differences(rows, endpoints)
        new = {name: missing for name, (missing, _) in found.items()}
        gone = {name: [key for key in there if key not in new[name]] for name, (_, there) in found.items()}
        if any(new.values()) or any(gone.values()):
            self._write(new, gone)

    def fill(self) -> dict[str, tuple[int, int]]:
        """How many entries each map holds, and how many it can hold."""
        names = (*ORDER, "endpoints")
        return {name: (sum(one[2] for one in self._maps[name].chunks()), self._maps[name].info.max_entries) for name in names}

    def _write(self, new: Mapping[str, Entries], gone: Mapping[str, Iterable[bytes]]) -> None:
        try:
            for name in (*ORDER, "endpoints"):
                self._maps[name].write(new.get(name, {}))
            for name in ("endpoints", *reversed(ORDER)):
                for key in gone.get(name, ()):
                    if name == "peers" and key in EVERY_V4:
                        self._maps[name].write(EVERY_V4)
                    else:
                        self._maps[name].delete(key)
        finally:
            self.bump()  # also after half a change

    def _tell(self, name: str, new: Entries, gone: Iterable[bytes]) -> bool:
        self._maps[name].write(new)
        removed = [self._maps[name].delete(key) for key in gone]
        if new or any(removed):
            self.bump()
            return True
        return False

    def _configure(self, revision: int) -> None:
        self._maps["config"].update(_ONLY, CONFIG.pack(revision, self._node_reaches_pods))
