"""Maps have an end: what happens there, what is said of it, and how they are given more room while connections live on."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from fairlead.datapath.ebpf import programs
from fairlead.datapath.ebpf.entries import ORDER, Found
from fairlead.datapath.ebpf.layout import Counter
from fairlead.datapath.ebpf.plane import Ebpf
from fairlead.datapath.seen import Reason, State
from fairlead.desired.state import NodeState, Peer, Ruling, Span, Subject
from fairlead.kernel.bpf import Map, MapInfo
from fairlead.model.address import Prefix
from fairlead.model.errors import Exhausted
from tests.bpf.conftest import LINKS, Kernel
from tests.bpf.packets import ACK, SYN, Side, tcp, udp
from tests.bpf.test_policies import INGRESS, NOTHING, RULE, RULINGS, A, B, friend, isolate, judgement, only_friends

pytestmark = pytest.mark.kernel("ebpf")
Make = Callable[..., Kernel]


def peers(count: int) -> tuple[Peer, ...]:
    return tuple(Peer(prefix=Prefix(f"10.1.{at >> 8}.{at & 255}/32"), peer=7) for at in range(count))


@pytest.mark.parametrize(("name", "room"), [("peers", 8), ("blocks", 1), ("judgements", 2), ("rulings", 4), ("ports", 1)])
def test_a_full_map_of_policies_is_named(make: Make, name: str, room: int) -> None:
    kernel = make(**{name: room})
    spans = tuple(Span(protocol=6, first=port, last=port, allow=True, rule=1) for port in (7, 9))
    rows = (
        Ruling(number=9, spans=spans),
        *only_friends(INGRESS),
        *(judgement(INGRESS, at, NOTHING) for at in range(1, 9)),
        *peers(20),
        Peer(prefix=Prefix("10.2.0.0/24"), peer=7),
    )
    with pytest.raises(Exhausted, match=f"map of {name} is full: it has room for {room} entries; have fewer policies"):
        kernel.change(rows)


@pytest.mark.parametrize("name", ["endpoints", "guards", "owned", "locals"])
def test_a_full_map_of_links_is_named(make: Make, name: str) -> None:
    kernel = make(**{name: 2})
    found: Found = {one: {} for one in ORDER}
    info = kernel.loaded.maps[name].info
    found[name] = {bytes([at]) * info.key_size: bytes(info.value_size) for at in range(1, 4)}
    with pytest.raises(Exhausted, match=f"map of {name} is full: it has room for 2 entries; have fewer containers"):
        kernel.tables.change(found, {one: {} for one in ORDER})


def test_beyond_the_end_nothing_is_let_in(make: Make) -> None:
    """Of a change that finds no room some is there and some is not: who is not known is a stranger."""
    kernel = make(peers=8)
    kernel.change(only_friends(INGRESS))
    isolate(kernel, ingress=INGRESS)
    before = kernel.tables.revision
    with pytest.raises(Exhausted):
        kernel.change((*peers(20), friend(A[4])))
    assert kernel.tables.revision > before, "half a change counts, too"
    assert not kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    assert kernel.observer.dropped()[Reason.POLICY] == 1


def test_after_it_the_state_before_is_put_back(make: Make) -> None:
    kernel = make(peers=8)
    plane = Ebpf(kernel.loaded)
    try:
        state = NodeState().replace("all", (*only_friends(INGRESS), friend(A[4])))
        plane.apply(state)
        with pytest.raises(Exhausted):
            plane.change(peers(20), ())
        plane.apply(state)
        assert [one for one in plane.check(state) if one.key.startswith("peer")] == []
        assert plane.fill()["peers"] == (1, 8)
    finally:
        plane.close()


def test_connections_make_room_for_others_and_are_counted(make: Make) -> None:
    kernel = make(connections=256)
    for port in range(1, 1001):
        kernel.send(udp(Side("10.0.0.2", port), B[4]))
    held = len(kernel.table())
    list(kernel.observer.sweep())
    assert kernel.counted(Counter.REMEMBERED) == 1000
    assert kernel.observer.capacity == 256
    assert kernel.observer.held == held <= 256
    assert kernel.observer.evicted() == 1000 - held
    for key in kernel.loaded.maps["connections"].entries():
        kernel.loaded.maps["connections"].delete(key)
    programs.forgot(kernel.loaded.maps["counters"], held)
    list(kernel.observer.sweep())
    assert kernel.observer.evicted() == 1000 - held, "what was removed was not evicted"


def test_the_same_ports_again_take_no_more_room(kernel: Kernel) -> None:
    for _ in range(5):
        kernel.send(tcp(A[4], B[4], SYN))
        kernel.send(tcp(B[4], A[4], 0x04), hook="to_pod")
    list(kernel.observer.sweep())
    assert (kernel.counted(Counter.REMEMBERED), kernel.observer.held, kernel.observer.evicted()) == (1, 1, 0)


@pytest.mark.parametrize("size", [1 << 10, 1 << 18])
def test_a_table_of_another_size_takes_over_the_connections(kernel: Kernel, make: Make, size: int) -> None:
    """Their decisions too: an answer that could not begin passes on."""
    kernel.change((*only_friends(INGRESS), friend(B[4])))
    isolate(kernel, ingress=INGRESS, egress=INGRESS)
    assert kernel.passes(tcp(A[4], B[4], SYN))
    assert kernel.passes(tcp(B[4], A[4], SYN | ACK), hook="to_pod")
    kernel.change((), (friend(B[4]),))
    kernel.change((friend(B[4]),))
    other = make(connections=size)
    assert other.loaded.maps["connections"].info.max_entries == size
    assert other.only().state == State.ESTABLISHED
    assert other.only().egress_rule == RULE
    isolate(other, ingress=INGRESS, egress=INGRESS)
    assert other.passes(tcp(B[4], A[4], ACK), hook="to_pod")
    list(other.observer.sweep())
    assert other.observer.evicted() == 0


def test_maps_of_links_of_another_size_are_filled_before_they_are_used(kernel: Kernel, make: Make) -> None:
    """Programs of another build have a map of their own, empty: those on the links go on with theirs meanwhile."""
    isolate(kernel, ingress=INGRESS)
    before = kernel.loaded.programs["to_pod"]
    other = make(endpoints=1 << 10, guards=1 << 10)
    assert not kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    plane = Ebpf(other.loaded)
    try:
        state = NodeState().replace("all", (*RULINGS, *(Subject(host=one) for one in LINKS)))
        plane.apply(state)
        assert other.loaded.programs["to_pod"].info.id != before.info.id
        assert plane.fill()["endpoints"] == (2, 1 << 10)
    finally:
        plane.close()


def test_what_is_carried_may_have_grown() -> None:
    old, new = (Map.create(MapInfo(1, 4, size, 8)) for size in (8, 16))
    try:
        old.write({bytes([at] * 4): bytes([at] * 8) for at in range(5)})
        assert programs.carry(old, new) == 0
        assert new.entries() == {bytes([at] * 4): bytes([at] * 8) + bytes(8) for at in range(5)}
        assert programs.carry(new, old) == 5, "but not shrunk"
    finally:
        old.close()
        new.close()


def test_what_is_carried_for_each_cpu_stays_for_each(kernel: Kernel, make: Make) -> None:
    kernel.change((*only_friends(INGRESS), friend(A[4])))
    isolate(kernel, ingress=INGRESS)
    assert kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    before = kernel.hits()
    assert before == {RULE: (1, 0)}
    assert make(hits=100).hits() == before


@pytest.mark.parametrize("name", ["peers", "blocks", "hits"])
def test_many_are_removed_at_once_whether_they_are_there_or_not(kernel: Kernel, name: str) -> None:
    found = kernel.loaded.maps[name]
    before = found.entries()
    size = found.info.key_size - 4 if name == "blocks" else found.info.key_size
    keys = [(struct.pack("=I", 128) if name == "blocks" else b"") + at.to_bytes(size, "big") for at in range(1, 3001)]
    found.write({key: bytes(found.room) for at, key in enumerate(keys) if at % 3})
    found.remove(keys)
    assert found.entries() == before
