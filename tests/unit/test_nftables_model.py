"""The nftables plane without a kernel: a change touches what a fresh start would make otherwise, and says what the rows say."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.datapath.nftables import ruleset, words
from fairlead.datapath.nftables.index import Index
from fairlead.datapath.nftables.model import Change, Model
from fairlead.datapath.nftables.segments import Segment, segments
from fairlead.datapath.nftables.sets import Part, Parts
from fairlead.datapath.nftables.words import Direction, Use
from fairlead.desired.state import Front, Judgement, NodeState, Peer, Row, Ruling, Span, Subject
from fairlead.kernel.nft import Field, Rule, Verdict
from fairlead.model.address import Address, InterfaceName, Prefix
from tests.unit.policy_oracle import lookup

PREFIXES = [
    Prefix(one)
    for one in (
        *("10.0.0.1/32", "10.0.0.2/32", "10.0.0.129/32", "10.0.1.1/32", "10.9.9.9/32"),
        *("10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/8", "0.0.0.0/0"),
        *("fd00::1/128", "fd00::2/128", "fd00::/64", "fd00::/120", "::/0", "fe80::/10"),
    )
]
ADDRESSES = [
    Address(one)
    for one in (
        *("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.127", "10.0.0.128", "10.0.0.129", "10.0.0.255", "10.0.1.1"),
        *("10.9.9.9", "9.255.255.255", "11.0.0.0", "0.0.0.1", "255.255.255.255", "fd00::", "fd00::1", "fd00::ff", "fd00::100"),
        *("fe80::1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    )
]
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}
SETS = (1, 2, 3)
CLASSES = (1, 2, 3, 4)
RULINGS = (11, 12, 13, 14, 15, 16)


def _span(protocol: int, first: int, last: int, rule: int, *, later: bool = False) -> Span:
    return Span(protocol=protocol, first=first, last=last, allow=bool(rule), rule=rule, later=later)


SPANS = (
    (_span(0, 0, 65535, 0),),
    (_span(0, 0, 65535, 21),),
    (_span(6, 80, 80, 22), _span(6, 443, 443, 23), _span(0, 0, 65535, 0)),
    (_span(6, 80, 90, 22), _span(17, 0, 65535, 21), _span(0, 0, 65535, 24)),
    (*(_span(6, 80 + at, 80 + at, 22 + at) for at in range(6)), _span(0, 0, 65535, 0)),
    (*(_span(17, 80 + 2 * at, 81 + 2 * at, 22 + at) for at in range(5)), _span(0, 0, 65535, 21)),
    (_span(6, 80, 80, 22, later=True), _span(0, 0, 65535, 0)),
    (_span(6, 80, 80, 0, later=True), _span(6, 443, 443, 0, later=True), _span(0, 0, 65535, 21)),
)

peers = st.builds(Peer, prefix=st.sampled_from(PREFIXES), peer=st.sampled_from(CLASSES))
judgements = st.builds(
    Judgement, policy=st.sampled_from(SETS), peer=st.sampled_from((0, *CLASSES)), ruling=st.sampled_from(RULINGS)
)
rulings = st.builds(Ruling, number=st.sampled_from(RULINGS), spans=st.sampled_from(SPANS))
subjects = st.builds(
    Subject,
    host=st.sampled_from([InterfaceName("flv1"), InterfaceName("flv2")]),
    ingress=st.sampled_from((0, 1, 2)),
    egress=st.sampled_from((0, 3)),
    via=st.just(InterfaceName("br")),
    addresses=st.sampled_from([(Address("10.0.0.1"),), (Address("10.0.0.2"), Address("fd00::2"), Address("fe80::2"))]),
)
worlds = st.lists(st.one_of(peers, judgements, rulings), max_size=14)
fronts = st.builds(
    Front,
    address=st.sampled_from([Address(one) for one in ("10.0.0.1", "10.9.9.9", "10.0.0.3", "fd00::1")]),
    protocol=st.sampled_from((6, 17)),
    port=st.sampled_from((80, 443)),
)
changes = st.lists(st.tuples(worlds, st.lists(subjects, max_size=2), st.lists(fronts, max_size=3)), max_size=6)


def state_of(rows: Iterable[Row]) -> dict[tuple[type, object], Row]:
    return {(type(row), row.key): row for row in rows}


def touch(kernel: dict[str, Parts], change: Change) -> None:
    """What ``tables.difference`` would do, part by part."""
    for family, (before, after) in change.touched.items():
        if family not in kernel:
            assert not before
            assert not after
            continue
        have = kernel[family]
        for key, part in before.items():
            if part.collection and key in after:
                gone = {one.key for one in part.elements - after[key].elements}
                kept = frozenset(one for one in have[key].elements if one.key not in gone)
                assert {one.key for one in have[key].elements} >= gone, "what is not there cannot be removed"
                have[key] = have[key]._replace(elements=kept | after[key].elements)
            elif key not in after:
                assert key in have
                del have[key]
        for key, part in after.items():
            if key not in before or part.chain:
                assert (key in have) == (key in before), key
                have[key] = part


def lead(model: Model, kernel: dict[str, Parts], add: list[Front], remove: list[Front]) -> Model:
    """Other services, as the plane brings them."""
    if not model.toggles(add, remove):
        touch(kernel, model.front(add, remove))
        return model
    after = model.led(add, remove)
    touch(kernel, Change({family: (model.parts(family), after.parts(family)) for family in kernel}, lambda: None))
    return after


@given(changes, st.booleans())
def test_a_change_is_what_a_fresh_start_would_make(
    steps: list[tuple[list[Row], list[Subject], list[Front]]], beside: bool
) -> None:
    model, rows, under, led = Model(beside=beside), {}, {}, dict[object, Front]()
    kernel = {family: model.parts(family) for family in (("inet",) if beside else ruleset.TABLES)}
    for wanted, containers, services in steps:
        now = state_of(wanted)
        came = {row.key: row for row in services}
        model = lead(model, kernel, [row for key, row in came.items() if key not in led], [])
        add = [row for key, row in now.items() if rows.get(key) != row]
        remove = [row for key, row in rows.items() if key not in now]
        touch(kernel, model.change(add, remove))
        rows = now
        put = {row.host: row for row in containers}
        touch(kernel, model.put(put.values()))
        left = [host for host in under if host not in put]
        touch(kernel, model.drop(left, gone=lambda _: True))
        model = lead(model, kernel, [], [row for key, row in led.items() if key not in came])
        under, led = put, came
        want = Model(rows.values(), under.values(), fronts=led.values(), beside=beside)
        for use in model._live - want._live:  # as long as something is said of a set it stays
            want._enliven(use)
        for family, have in kernel.items():
            assert have == want.parts(family)


@given(worlds, st.sampled_from(SETS), st.sampled_from(ADDRESSES), st.sampled_from(["tcp", "udp", "icmp"]))
def test_parts_say_what_the_rows_say(rows: list[Row], own: int, address: Address, protocol: str) -> None:
    """Looked up as the kernel does it, against a slow reading of the rows."""
    unique = state_of(rows)
    known = {row.number for row in unique.values() if isinstance(row, Ruling)}
    listed = [row for row in unique.values() if not isinstance(row, Judgement) or row.ruling in known]
    state = NodeState().replace("all", tuple(listed))
    index, use = Index(listed), Use(Direction.INGRESS, own)
    subject = Subject(host=InterfaceName("flv1"), ingress=own, addresses=(Address("10.0.0.1"),))
    parts = Model(listed, [subject]).parts("inet")
    for port in (79, 80, 85, 443):
        found = walk(parts, use.chain, address, protocol, port)
        if (own, 0) not in state.table(Judgement):
            continue
        span = lookup(state, own, address, protocol, port)
        assert span
        name = words.allow(span.rule) if span.allow else words.deny(Direction.INGRESS, span.rule)
        assert found == name, (index.on(own, address.family, address.packed), span)


def walk(parts: Parts, chain: str, address: Address, protocol: str, port: int) -> str:
    """Where a packet gets to: the name of the last chain."""
    part = parts["chain", chain]
    assert part.chain
    for rule in part.chain.rules:
        last = dict(rule[-1].told)
        if rule[-1].name == "lookup":
            key = address.packed if len(rule) == 2 else _port_key(protocol, port)
            verdict = search(parts["map", str(last["set"])], key)
        elif rule[-1].name == "immediate":
            verdict = last["data"] if compared(rule, protocol, port) else None
        else:
            continue
        if isinstance(verdict, Verdict) and verdict.chain:
            return walk(parts, verdict.chain, address, protocol, port) if "deny" not in verdict.chain else verdict.chain
    return chain


def compared(rule: Rule, protocol: str, port: int) -> bool:
    """Whether a packet is what a rule compares it with: its protocol, the connection's, its port."""
    number = bytes([PROTOCOLS[protocol]])
    known = {words_of(ruleset.L4PROTO): number, words_of(ruleset.CT_PROTOCOL): number}
    known[words_of(ruleset.PORT[Direction.INGRESS])] = port.to_bytes(2, "big")
    value = b""
    for one in rule[:-1]:
        told = dict(one.told)
        if one.name == "cmp":
            data = told["data"]
            assert isinstance(data, bytes)
            if not {0: value == data, 3: value <= data, 5: value >= data}[int(str(told["op"]))]:
                return False
        else:
            value = known.get((one.name, tuple((name, said) for name, said in one.told if name != "dreg")), b"")
    return True


def words_of(field: Field) -> tuple[str, object]:
    return field.name, field.told


def _port_key(protocol: str, port: int) -> bytes:
    return bytes([PROTOCOLS[protocol], 0, 0, 0]) + port.to_bytes(2, "big") + bytes(2)


def search(part: Part, key: bytes) -> object:
    """What a map says of a key."""
    assert part.collection
    if len(part.collection.key) == 1 and len(key) != part.collection.key[0].size:
        return None
    if part.collection.interval and len(part.collection.key) == 1:
        ends = sorted((one.key, not one.stop, one.data) for one in part.elements)
        below = [one for one in ends if one[0] <= key]
        return below[-1][2] if below and below[-1][1] else None
    for one in part.elements:
        if one.key == key or (one.end and one.key <= key <= one.end and one.key[:1] == key[:1]):
            return one.data
    return None


@given(st.lists(st.sampled_from([one for one in PREFIXES if one.family == 4]), unique=True))
def test_segments_have_the_label_of_the_longest_prefix(prefixes: list[Prefix]) -> None:
    def ends(prefix: Prefix) -> tuple[int, int]:
        return int(prefix.net.network_address), int(prefix.net.broadcast_address)

    found = segments(Segment(*ends(one), str(one)) for one in prefixes)
    assert all(one.last < other.first for one, other in itertools.pairwise(found))
    for address in (one for one in ADDRESSES if one.family == 4):
        at = int(ipaddress.ip_address(str(address)))
        holding = max((one for one in prefixes if one.holds(address)), key=lambda one: one.length, default=None)
        (label,) = [one.label for one in found if one.first <= at <= one.last] or [None]
        assert label == (str(holding) if holding else None)


def test_what_says_the_same_is_one_run() -> None:
    assert segments([Segment(0, 7, "a"), Segment(8, 15, "a"), Segment(2, 3, "b")]) == [
        Segment(0, 1, "a"),
        Segment(2, 3, "b"),
        Segment(4, 15, "a"),
    ]


def test_a_refused_change_is_taken_back() -> None:
    rows = [
        Ruling(number=11, spans=SPANS[0]),
        Ruling(number=12, spans=SPANS[2]),
        Judgement(policy=1, peer=0, ruling=11),
        Judgement(policy=1, peer=1, ruling=12),
        Peer(prefix=PREFIXES[0], peer=1),
        Peer(prefix=PREFIXES[5], peer=2),
    ]
    subject = Subject(host=InterfaceName("flv1"), ingress=1, addresses=(Address("10.0.0.1"),))
    model = Model(rows, [subject])
    before = model.parts("inet")
    model.change([Peer(prefix=PREFIXES[0], peer=2), Judgement(policy=1, peer=2, ruling=12)], rows[:1]).undo()
    assert model.parts("inet") == before
    model.put([Subject(host=InterfaceName("flv2"), egress=2, addresses=(Address("10.0.0.2"),))]).undo()
    assert model.parts("inet") == before
    model.drop(["flv1"], gone=lambda _: True).undo()
    assert model.parts("inet") == before
    one, other = (Front(address=Address(at), protocol=6, port=80) for at in ("10.9.9.9", "10.0.0.1"))
    fronted = model.led([one], [])
    assert model.parts("inet") == before
    shown = fronted.parts("inet")
    fronted.front([other], [one]).undo()
    assert fronted.parts("inet") == shown


@pytest.mark.parametrize("text", ["", "other 1 egress 0", "fairlead 1 sideways 0", "fairlead x egress 0", "fairlead 1 egress"])
def test_a_foreign_prefix_tells_nothing(text: str) -> None:
    assert words.told(text) is None


def test_names_are_read_back() -> None:
    assert words.counted(words.allow(7)) == (7, True, None)
    assert words.counted(words.deny(Direction.EGRESS, 8)) == (8, False, Direction.EGRESS)
    assert words.counted("untold") is None
