"""What Python takes for the programs' structs is what the compiler made of them."""

from __future__ import annotations

import struct

import pytest

from fairlead.datapath import seen
from fairlead.datapath.base import UNALLOWED
from fairlead.datapath.ebpf import layout
from fairlead.datapath.ebpf.programs import OBJECTS, PROGRAMS
from fairlead.desired import names
from tests.bpf.btf import Btf

WHERE = {
    "low": "tuple.low.half[0]",
    "high": "tuple.high.half[0]",
    "low_port": "tuple.low_port",
    "high_port": "tuple.high_port",
    "protocol": "tuple.protocol",
    "first": "connection.first",
    "last": "connection.last",
    "forth_packets": "connection.amount[0].packets",
    "forth_bytes": "connection.amount[0].bytes",
    "back_packets": "connection.amount[1].packets",
    "back_bytes": "connection.amount[1].bytes",
    "state": "connection.state",
    "ifindex": "connection.ifindex",
    "forth_flags": "connection.tcp_flags[0]",
    "back_flags": "connection.tcp_flags[1]",
    "opener_is_high": "connection.opener_is_high",
    "outgoing": "connection.outgoing",
    "midway": "connection.midway",
    "denied": "connection.denied[1]",
    "ingress_rule": "connection.ingress_rule",
    "egress_rule": "connection.egress_rule",
    "kind": "kind",
    "reason": "reason",
    "direction": "direction",
}
"""Each field of ``Seen`` by its name in C."""
UNREAD = {"connection.denied[0]", "connection.as_is", *(f"connection.decided[{at}]" for at in (0, 1))}
"""What only the programs need."""


def python_fields() -> dict[str, tuple[int, int]]:
    """Name to (offset, size), from the format itself."""
    found, at, names = {}, 0, iter(seen.Seen._fields)
    for item in _items(layout.EVENT.format.lstrip("=")):
        size = struct.calcsize("=" + item)
        if not item.endswith("x"):
            found[next(names)] = (at, size)
        at += size
    return found


def _items(text: str) -> list[str]:
    items, digits = [], ""
    for letter in text:
        if letter.isdigit():
            digits += letter
        elif letter in "sx":
            items.append((digits or "1") + letter)
            digits = ""
        else:
            items += [letter] * int(digits or "1")
            digits = ""
    return items


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_field_lies_where_the_compiler_put_it(program: str) -> None:
    btf = Btf(OBJECTS / f"{program}.bpf.o")
    compiled = {path: (at, size) for path, at, size in btf.fields("event")}
    for name, (at, size) in python_fields().items():
        there, width = compiled[WHERE[name]]
        assert (at, size) == (there, 16 if size == 16 else width), name
    last = max(at + size for at, size in compiled.values())
    assert last == layout.EVENT.size
    assert layout.ENTRY.size == compiled["kind"][0]
    named = set(WHERE.values()) | {f"tuple.{side}.half[1]" for side in ("low", "high")}
    assert {path for path in compiled if not path.endswith("zero")} == named | UNREAD, "nothing is left unread"


def test_enums_have_the_same_numbers() -> None:
    btf = Btf(OBJECTS / "from_pod.bpf.o")
    kinds = {name.removeprefix("EVENT_"): value for name, value in btf.enum("event_kind").items()}
    assert kinds == {one.name: one.value for one in seen.Kind if one is not seen.Kind.ACTIVE}
    counters = {name.removeprefix("COUNTER_"): value for name, value in btf.enum("counter").items() if name != "COUNTERS"}
    ways = {name.removeprefix("OWNED_"): value for name, value in btf.enum("ownership").items()}
    assert ways == {one.name: one.value for one in layout.Ownership}
    assert {name.removeprefix("UNALLOWED_").lower(): value for name, value in btf.enum("unallowed").items()} == UNALLOWED
    uses = {name.removeprefix("UPLINK_"): value for name, value in btf.enum("uplink").items()}
    assert uses == {one.name: one.value for one in layout.Uplink}
    assert btf.enum("mark") == {"MARK_GUARDED": names.GUARDED}
    directions = btf.enum("direction")
    assert directions == {one.name: one.value for one in seen.Direction}
    reasons = {name.removeprefix("REASON_"): value for name, value in btf.enum("reason").items() if name != "REASONS"}
    assert reasons == {one.name: one.value for one in seen.Reason if one < seen.Reason.STRAY}
    assert counters == {one.name: one.value for one in layout.Counter}


@pytest.mark.parametrize(
    ("name", "fields", "packed"),
    [
        ("endpoint", {"ingress": (0, 8), "egress": (8, 8)}, layout.ENDPOINT),
        ("block_key", {"prefixlen": (0, 4), "address[0]": (4, 1), "address[15]": (19, 1)}, layout.BLOCK_KEY),
        ("address", {"half[0]": (0, 8), "half[1]": (8, 8)}, layout.ADDRESS),
        ("judgement_key", {"policy": (0, 8), "peer": (8, 8)}, layout.JUDGEMENT_KEY),
        ("ruling_key", {"prefixlen": (0, 4), "ruling": (4, 8), "protocol": (12, 1), "port": (14, 2)}, layout.RULING_KEY),
        ("port_key", {"ruling": (0, 8), "protocol": (8, 4), "port": (12, 2)}, layout.PORT_KEY),
        ("ruling_value", {"rule": (0, 8), "allow": (8, 1)}, layout.RULING_VALUE),
        ("config", {"revision": (0, 8), "node_reaches_pods": (8, 4)}, layout.CONFIG),
        (
            "guard",
            {
                "first[0].half[0]": (0, 8),
                "first[1].half[0]": (16, 8),
                "mac": (32, 8),
                "network": (40, 8),
                "gateway": (48, 8),
                "checked": (56, 4),
                "routed": (60, 4),
            },
            layout.GUARD,
        ),
        ("owned_key", {"address.half[0]": (0, 8), "ifindex": (16, 4)}, layout.OWNED_KEY),
        ("local", {"network": (0, 8), "mac": (8, 8), "gateway": (16, 8), "ifindex": (24, 4), "mtu": (28, 4)}, layout.LOCAL),
        (
            "tunnel",
            {"number": (0, 8), "mac": (8, 8), "ifindex": (16, 4), "local": (20, 4), "vni": (24, 4), "port": (28, 2)},
            layout.TUNNEL,
        ),
        ("arrival_key", {"vni": (0, 4), "port": (4, 2)}, layout.ARRIVAL_KEY),
        ("vtep_key", {"tunnel": (0, 8), "mac": (8, 8)}, layout.VTEP_KEY),
        ("hits", {"connections": (0, 8), "drops": (8, 8), "last": (16, 8)}, layout.HITS),
    ],
)
def test_the_structs_of_policies(name: str, fields: dict[str, tuple[int, int]], packed: struct.Struct) -> None:
    compiled = {path: (at, size) for path, at, size in Btf(OBJECTS / "from_pod.bpf.o").fields(name)}
    assert fields.items() <= compiled.items()
    assert max(at + size for at, size in compiled.values()) == packed.size


def test_an_entry_of_connections() -> None:
    compiled = {path: (at, size) for path, at, size in Btf(OBJECTS / "from_pod.bpf.o").fields("connection")}
    tuple_size = 40
    assert layout.ENTRY.size == tuple_size + max(at + size for at, size in compiled.values())
    content = bytearray(layout.ENTRY.size)
    struct.pack_into("=Q", content, tuple_size + compiled["ingress_rule"][0], 7)
    struct.pack_into("=Q", content, tuple_size + compiled["egress_rule"][0], 8)
    content[tuple_size + compiled["denied[1]"][0]] = 1
    assert layout.seen(bytes(content), 3)[0][19:21] == (7, 8)
    assert layout.seen(bytes(content), 3)[1]


def test_where_columns_lie() -> None:
    compiled = {path: at for path, at, _ in Btf(OBJECTS / "from_pod.bpf.o").fields("event")}
    header = seen.RECORD.size - layout.EVENT.size
    places = {
        "tuple.protocol": seen.PROTOCOL_AT,
        "connection.first": seen.FIRST_AT,
        "connection.opener_is_high": seen.HIGH_OPENS_AT,
        "connection.denied[1]": seen.DENIED_AT,
        "connection.ingress_rule": seen.INGRESS_AT,
        "connection.decided[1]": seen.ANSWERED_AT,
        "connection.egress_rule": seen.EGRESS_AT,
        "kind": seen.KIND_AT,
        "reason": seen.REASON_AT,
    }
    assert places == {path: compiled[path] + header for path in places}
