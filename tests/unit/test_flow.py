"""Names, filters and lines of flows: no kernel."""

from __future__ import annotations

from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.api.schema import Flow
from fairlead.cli.flows import line
from fairlead.datapath.ebpf.layout import Kind, Seen
from fairlead.flow.collect import Follower
from fairlead.flow.enrich import Names, address, packed
from fairlead.flow.filter import Query
from fairlead.flow.hits import Tally
from fairlead.flow.record import Record
from fairlead.model.address import ContainerID, Interface, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.errors import Invalid
from fairlead.model.meta import Meta
from fairlead.policy.hits import Hit


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
    base = Seen(low, low_port, top, top_port, protocol, 0, 0, 1, 74, 0, 0, 1, 7, 2, 0, int(high), 1, 0, Kind.NEW)
    return base._replace(**more)


def record(source: str = "192.0.2.9", target: str = "10.0.0.2", age: float = 0.0, **more: Any) -> Record:
    parties = {packed("10.0.0.2"): WEB, packed("fd00::2"): WEB}
    one = seen(source, target, **more)
    return Record.of(time() - age, one, parties.get(one.source, "world"), parties.get(one.destination, "world"))


@given(st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None))
def test_an_address_survives_the_way_through_the_kernel(ip: Any) -> None:
    assert address(packed(str(ip))) == str(ip)


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
    names = Names(lambda: holders, lambda: ["10.0.0.1"], lambda: tuple(holders))
    names.refresh()
    assert names.of(packed("10.0.0.1")) == "host"
    holders.clear()
    names.refresh()
    assert names.of(packed("10.0.0.2")) is WEB
    other = endpoint("other", "10.0.0.2/24")
    holders.append(other)
    names.refresh()
    assert names.of(packed("10.0.0.2")) is other
    assert names.of(packed("198.51.100.1")) == "world"


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
    assert "\033[32m" in line(record().flow(), colour=True)
    assert "7 flows lost" in line(Flow(time="2026-01-02T03:04:05Z", event="lost", lost=7))
    hostile = record("fd00::2", "2001:db8::1").flow()
    assert "world [2001:db8::1]:80" in line(hostile)


def test_each_rule_is_counted_once_for_a_connection() -> None:
    tally = Tally()
    tally.connection("a", 0, 1.0, ends=False)  # its opener is under no rule
    tally.connection("a", 7, 2.0, ends=False)  # the other end tells its rule later
    tally.connection("a", 7, 3.0, ends=True)
    tally.connection("b", 5, 4.0, ends=False)
    tally.connection("b", 7, 5.0, ends=True)
    tally.drop(0, 6.0)
    tally.drop(5, 7.0)
    assert tally.hits() == {7: Hit(2, 0, 5.0), 5: Hit(1, 1, 7.0), 0: Hit(0, 1, 6.0)}


def test_what_never_ends_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.flow.hits._MOST", 3)
    tally = Tally()
    for at in range(10):
        tally.connection(at, 1, float(at), ends=False)
    assert tally.hits()[1].connections == 10
    assert list(tally._told) == [7, 8, 9]
