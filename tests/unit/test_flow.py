"""Names, filters and lines of flows: no kernel."""

from __future__ import annotations

from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.api.schema import Flow
from fairlead.cli.flows import line
from fairlead.datapath.ebpf.layout import EVENT
from fairlead.datapath.seen import RECORD, Direction, Kind, Reason, Seen
from fairlead.desired.names import veth
from fairlead.flow.collect import Follower
from fairlead.flow.enrich import Names, address, packed
from fairlead.flow.filter import Query
from fairlead.flow.record import Batch, Record, raw, real
from fairlead.kernel.bpf import Ring
from fairlead.model.address import ContainerID, Interface, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.errors import Invalid
from fairlead.model.meta import Meta
from fairlead.model.node import Node as Machine
from fairlead.model.node import NodeAddress, NodeStatus


def endpoint(name: str, *addresses: str, **labels: str) -> Endpoint:
    spec = EndpointSpec(
        container=ContainerID(name),
        interface=InterfaceName("eth0"),
        network=Name("blue"),
        sandbox=Sandbox(path="x"),
        addresses=tuple(map(Interface, addresses)),
    )
    return Endpoint(metadata=Meta(name=f"{name}:eth0", namespace="shop", labels=labels), spec=spec)


WEB = endpoint("web", "10.0.0.2/24", "fd00::2/64", tier="web")


def seen(source: str, target: str, *, port: int = 80, protocol: int = 6, high: bool = False, **more: Any) -> Seen:
    sides = [(packed(source), b"\x9c\x40"), (packed(target), port.to_bytes(2, "big"))]
    (low, low_port), (top, top_port) = sides[::-1] if high else sides
    base = Seen(low, top, low_port, top_port, protocol, 0, 0, 1, 74, 0, 0, 1, 7, 2, 0, int(high), 1, 0, 0, 0, 0, Kind.NEW)
    return base._replace(**more)


def record(source: str = "192.0.2.9", target: str = "10.0.0.2", age: float = 0.0, **more: Any) -> Record:
    parties = {packed("10.0.0.2"): WEB, packed("fd00::2"): WEB}
    one = seen(source, target, **more)
    return Record(time() - age, one, parties.get(one.source, "world"), parties.get(one.destination, "world"))


@given(st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None))
def test_an_address_survives_the_way_through_the_kernel(ip: Any) -> None:
    assert address(packed(str(ip))) == str(ip)


def test_a_connection_that_one_end_drops_never_was() -> None:
    """Its first packet passed the opener's end, and was dropped at the other, as a record of its own tells."""
    other = seen("192.0.2.9", "10.0.0.2", port=81, first=3)
    told = seen("192.0.2.9", "10.0.0.2", kind=Kind.DROP)
    ended = seen("192.0.2.9", "10.0.0.2", kind=Kind.CLOSE, denied=1, last=1000)
    assert real(raw([seen("192.0.2.9", "10.0.0.2"), other, ended, told])) == raw([other, told])
    cut = ended._replace(back_packets=1)
    assert real(raw([seen("192.0.2.9", "10.0.0.2"), cut, told])) == raw([seen("192.0.2.9", "10.0.0.2"), cut, told])
    late = ended._replace(last=10**9)
    assert real(raw([late, told])) == raw([late, told])


@pytest.mark.parametrize("high", [False, True])
def test_the_opener_stands_first(high: bool) -> None:
    flow = record(high=high).flow()
    assert (flow.source.kind, flow.source.address, flow.source.port) == ("world", "192.0.2.9", 40000)
    assert (flow.destination.kind, flow.destination.endpoint, flow.destination.port) == ("endpoint", "web", 80)


MATCHES = [
    {"from": "world"},
    {"from": "192.0.2.9"},
    {"from": "192.0.2.0/24"},
    {"from": "0.0.0.0/0"},
    {"to": "web"},
    {"to": "shop/web"},
    {"to": "10.0.0.0/8", "port": "80"},
    {"port": "40000"},
    {"label": "tier=web"},
    {"protocol": "TCP"},
    {"verdict": "forwarded"},
    {"since": "5m"},
    {},
]
MISSES = [
    {"from": "host"},
    {"from": "192.0.2.8"},
    {"from": "::/0"},
    {"to": "other/web"},
    {"to": "web", "port": "81"},
    {"to": "world"},
    {"label": "tier=db"},
    {"protocol": "udp"},
    {"verdict": "dropped"},
]


@pytest.mark.parametrize("words", MATCHES, ids=str)
def test_a_filter_that_matches(words: dict[str, str]) -> None:
    assert Query(words).matches(record())


@pytest.mark.parametrize("words", MISSES, ids=str)
def test_a_filter_that_does_not(words: dict[str, str]) -> None:
    assert not Query(words).matches(record())


def test_what_is_too_old_does_not_match() -> None:
    assert not Query({"since": "30s"}).matches(record(age=31))
    assert Query({"since": "30s"}).matches(record(age=29))


def test_prefixes_of_both_families() -> None:
    six = record("2001:db8::9", "fd00::2")
    assert Query({"from": "2001:db8::/32", "to": "fd00::2"}).matches(six)
    assert not Query({"from": "0.0.0.0/0"}).matches(six)


@given(
    st.dictionaries(
        st.sampled_from(["from", "to", "port", "label", "since", "limit", "verdict", "protocol"]), st.text(max_size=40)
    )
)
def test_no_words_do_harm(words: dict[str, str]) -> None:
    try:
        Query(words).matches(record())
    except Invalid as problem:
        assert problem.field in words  # noqa: PT017  # not every example is refused


def test_a_name_stays_until_somebody_else_has_the_address() -> None:
    holders: list[Endpoint] = [WEB]
    names = Names(lambda: holders, lambda: ["10.0.0.1"], list, lambda: tuple(holders), {})
    first = names.refresh()
    assert names.of(packed("10.0.0.1"), first) == "host"
    holders.clear()
    assert names.of(packed("10.0.0.2"), names.refresh()) is WEB
    other = endpoint("other", "10.0.0.2/24")
    holders.append(other)
    last = names.refresh()
    assert names.of(packed("10.0.0.2"), last) is other
    assert names.of(packed("10.0.0.2"), first) is WEB, "what was seen before is still of before"
    assert names.of(packed("198.51.100.1"), last) == "world"


def test_another_node_has_a_name() -> None:
    addresses = NodeAddress(type="InternalIP", address="192.0.2.9"), NodeAddress(type="Hostname", address="b")
    told = NodeStatus(addresses=addresses)
    names = Names(list, lambda: ["192.0.2.1"], lambda: [Machine(metadata=Meta(name="b"), status=told)], object, {})
    turn = names.refresh()
    assert [names.of(packed(one), turn) for one in ("192.0.2.9", "192.0.2.1")] == ["node/b", "host"]
    again = names.refresh()
    assert names.of(packed("192.0.2.9"), again) == "node/b"
    seen_so = record()._replace(source=names.of(packed("192.0.2.9"), turn))
    assert (seen_so.flow().source.kind, seen_so.flow().source.node) == ("node", "b")
    assert Query({"from": "node/b"}).matches(seen_so)
    assert not Query({"from": "node/c"}).matches(seen_so)
    assert not Query({"from": "b"}).matches(seen_so)


def test_names_are_not_kept_without_end() -> None:
    holders: list[Endpoint] = []
    names = Names(lambda: holders, list, list, object, {})
    for at in range(5000):
        holders[:] = [endpoint(f"one{at}", f"10.1.{at >> 8}.{at & 255}/8")]
        turn = names.refresh()
    assert names.of(packed("10.1.0.0"), turn) == "world"
    assert names.of(packed("10.1.19.0"), turn) != "world"
    for at in range(10):
        holders[:] = [endpoint(f"again{at}", "10.2.0.1/8")]
        turn = names.refresh()
    assert [getattr(names.of(packed("10.2.0.1"), turn - back), "name", "") for back in (0, 3, 9)] == [
        "again9:eth0",
        "again6:eth0",
        "again6:eth0",
    ]


def test_a_record_is_what_lies_in_the_ring() -> None:
    assert Ring.stride(EVENT.size) == RECORD.size
    assert RECORD.size % 8 == 0, "so that columns can be read"


def test_a_batch_is_read_when_it_is_asked_for() -> None:
    links = {veth(WEB.name): 7}
    names = Names(lambda: [WEB], list, list, tuple, links)
    spoofed = seen("10.0.0.9", "10.0.0.2", kind=Kind.DROP, reason=Reason.FOREIGN_ADDRESS)
    begun = seen("192.0.2.9", "10.0.0.2", ingress_rule=5, egress_rule=6)
    found = [begun, seen("192.0.2.9", "10.0.0.2", kind=Kind.CLOSE), spoofed]
    rules = {5: "shop/a ingress[0]", 6: "shop/b egress[1]"}
    batch = Batch(raw(found), 100.0, (names, names.refresh()), rules.__getitem__)
    assert (batch.count, batch.opened) == (3, 1)
    assert batch.counted == {("forwarded", "tcp"): 1, ("dropped", "tcp"): 1}
    last, _, first = batch.records()
    assert (first.seen, first.source, first.destination) == (found[0], "world", WEB)
    assert (first.egress_policy, first.ingress_policy) == ("shop/b egress[1]", "shop/a ingress[0]")
    assert (last.seen, last.source) == (spoofed, WEB), "whoever is behind the link"


def test_a_slow_follower_loses_and_is_told() -> None:
    follower = Follower(Query({"port": "80"}))
    for _ in range(5000):
        follower.offer(record())
    follower.offer(record(port=81))
    assert (len(follower.waiting), follower.lost) == (4096, 904)


def test_a_line_for_people() -> None:
    shown = line(record(kind=Kind.CLOSE, back_packets=2, back_bytes=2048).flow())
    assert shown.partition(" ")[2] == (
        "world 192.0.2.9:40000 -- shop/web:80 (blue) tcp close FORWARDED sent 74 B in 1, received 2.0 KiB in 2"
    )
    ruled = record()._replace(egress_policy="shop/b egress[1]", ingress_policy="shop/a ingress[0]")
    assert line(ruled.flow()).endswith("tcp new FORWARDED (shop/b egress[1]) (shop/a ingress[0])")
    dropped = record(kind=Kind.DROP, reason=Reason.POLICY)
    assert line(dropped.flow()).endswith("tcp drop DROPPED (denied by policy) (egress default deny)")
    cut = record(kind=Kind.CLOSE, reason=Reason.POLICY, direction=Direction.TO_POD)._replace(egress_policy="shop/b egress[1]")
    assert line(cut.flow()).endswith("received 0 B in 0 (denied by policy) (ingress default deny) (shop/b egress[1])")
    cut = cut._replace(ingress_policy="Admin/a ingress[2]")
    assert (cut.flow().policy, cut.flow().ingress_policy) == ("Admin/a ingress[2]", "")
    assert (cut.flow().direction, cut.flow().egress_policy) == ("ingress", "shop/b egress[1]")
    cut = cut._replace(seen=cut.seen._replace(direction=Direction.FROM_POD))
    assert (cut.flow().policy, cut.flow().ingress_policy) == ("shop/b egress[1]", "Admin/a ingress[2]")
    dropped = dropped._replace(ingress_policy="Admin/a ingress[2]")
    assert (dropped.flow().policy, dropped.flow().ingress_policy) == ("Admin/a ingress[2]", "")
    assert "\033[32m" in line(record().flow(), colour=True)
    assert "7 flows lost" in line(Flow(time="2026-01-02T03:04:05Z", event="lost", lost=7))
    hostile = record("fd00::2", "2001:db8::1").flow()
    assert "world [2001:db8::1]:80" in line(hostile)
