"""What a preview tells of services: through whom one reaches somebody newly or not any more, and which connections are cut."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.agent.preview import Scene, preview, refuse_other
from fairlead.agent.services import KINDS, placed
from fairlead.api.schema import Previewed, Proposal
from fairlead.datapath.seen import Kind, Seen
from fairlead.flow.enrich import packed
from fairlead.flow.enrich import service as party
from fairlead.flow.record import Record
from fairlead.model import codec
from fairlead.model.address import Address, Interface, InterfaceName
from fairlead.model.errors import Invalid
from fairlead.policy.book import Book
from fairlead.policy.gates import Gate, changes
from fairlead.policy.preview import Preview
from fairlead.service.directory import Directory
from fairlead.service.selected import selected
from tests.unit.policy_oracle import owner
from tests.unit.policy_world import ANY_POLICY, ANYTHING, endpoint, latest, world

WEB = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1", "fd00::1"))
DB = endpoint("db", "shop", {"app": "db"}, ("10.0.0.2", "fd00::2"))
COPY = endpoint("copy", "shop", {"app": "db", "role": "copy"}, ("10.0.0.4",))
SPY = endpoint("spy", "red", {}, ("10.0.0.3",))
ENDS = (WEB, DB, COPY, SPY)
VIP = "10.96.0.10"


def service(name: str = "db", vip: str = VIP, port: int = 5432, target: int = 5432, **spec: Any) -> Any:
    tree = {"clusterIP": vip, "ports": [{"port": port, "targetPort": target}], **spec}
    return codec.from_item({"kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": tree})


def slices(*addresses: str, name: str = "db", port: int = 5432) -> Any:
    family = ipaddress.ip_address(addresses[0]).version if addresses else 4
    return codec.from_item(
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-{family}", "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
            "addressType": f"IPv{family}",
            "ports": [{"port": port}],
            "endpoints": [{"addresses": [one]} for one in addresses],
        }
    )


def policy(spec: dict[str, Any], name: str = "p", space: str = "shop") -> Any:
    return codec.from_item({"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": space}, "spec": spec})


def seen(source: Any, to: str, port: int, whose: Any) -> Record:
    """A connection that was let through."""
    of = dict.fromkeys(Seen._fields, 0) | {"kind": Kind.NEW, "protocol": 6, "opener_is_high": 1}
    of |= {"high": packed(source.spec.addresses[0].address), "low": packed(to)}
    of |= {"high_port": (40000).to_bytes(2, "big"), "low_port": port.to_bytes(2, "big")}
    return Record(1.0, Seen(**of), source, whose)


def told(apply: tuple[Any, ...] = (), *known: Any, delete: tuple[Any, ...] = (), flows: tuple[Record, ...] = ()) -> Previewed:
    served = [one for one in known if isinstance(one, KINDS)]
    things = [*ENDS, *(one for one in known if not isinstance(one, KINDS))]
    scene = Scene("n1", things, flows, served)
    proposal = Proposal(apply=tuple(map(codec.to_tree, apply)), delete=tuple(map(codec.to_tree, delete)))
    return asyncio.run(preview(scene, proposal, lambda one: placed(one) if isinstance(one, KINDS) else one))


def rows(found: Previewed) -> list[tuple[bool, str, str, str, int]]:
    """Those of services."""
    return [
        (one.allowed, ",".join(one.sources), to, one.ports, one.pairs)
        for one in found.differences
        for to in one.destinations
        if to.startswith("svc:")
    ]


ONLY_WEB = policy(
    {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}
)


def test_who_is_shut_out_by_those_behind_a_service_is_told_of_it() -> None:
    found = told((ONLY_WEB,), service(port=80), slices("10.0.0.2"))
    assert rows(found) == [(False, "red/spy,shop/db", "svc:shop/db", "tcp 80", 2)], "the db's copy asks too"
    back = told((), service(port=80), slices("10.0.0.2"), ONLY_WEB, delete=(ONLY_WEB,))
    assert rows(back) == [(True, "red/spy,shop/db", "svc:shop/db", "tcp 80", 2)]


def test_some_of_those_behind_it() -> None:
    change = policy({"podSelector": {"matchLabels": {"role": "copy"}}})
    found = told((change,), service(), slices("10.0.0.2", "10.0.0.4"))
    assert rows(found) == [
        (False, "*", "svc:shop/db", "tcp 5432 (1 of 2 behind it)", 3),
    ], "the copy reaches itself"


def leaving(*to: dict[str, Any], port: int = 0) -> Any:
    ports = {"ports": [{"port": port}]} if port else {}
    egress = [{"to": list(to), **ports}]
    return policy({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": egress})


def test_egress_is_judged_by_who_is_reached_else_by_the_services_address() -> None:
    """His own port counts, or the service's at its own address."""
    there, shut = (service(port=80, target=5432), slices("10.0.0.2")), [(False, "shop/web", "svc:shop/db", "tcp 80", 1)]
    pods, vip = {"podSelector": {}}, {"ipBlock": {"cidr": f"{VIP}/32"}}
    for to, port, expected in ((pods, 0, []), (pods, 5432, []), (pods, 80, shut), (vip, 80, []), (vip, 5432, shut)):
        assert rows(told((leaving(to, port=port),), *there)) == expected, (to, port)


def test_families_are_told_apart_where_they_differ() -> None:
    v6 = "fd96::10"
    both = service(vip=VIP, clusterIPs=[VIP, v6])
    shut = {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "fd00::/64"}}]}]}
    found = told((policy(shut),), both, slices("10.0.0.2"), slices("fd00::2"))
    assert (False, "shop/web", "svc:shop/db", "tcp 5432 (IPv4)", 1) in rows(found)


def test_a_new_service_and_one_less() -> None:
    found = told((service(), slices("10.0.0.2")))
    assert rows(found) == [(True, "*", "svc:shop/db", "tcp 5432", 3)]
    assert found.warnings == ()
    assert rows(told((), service(), slices("10.0.0.2"), delete=(service(),))) == [(False, "*", "svc:shop/db", "tcp 5432", 3)]
    assert rows(told((slices("10.0.0.2"),), service(), slices("10.0.0.2", "10.0.0.4"))) == [], "one is left: nothing is lost"
    assert rows(told((slices("10.0.0.4"),), service(), slices("10.0.0.2"))) == [], "somebody else takes over"
    (warning,) = told((service("new", "10.96.0.11"),)).warnings
    assert "shop/new" in warning
    assert "EndpointSlice" in warning
    (warning,) = told((service("new", "10.96.0.11", selector={"app": "none"}),)).warnings
    assert "app=none" in warning


def test_a_new_service_leads_to_whom_it_selects() -> None:
    """Of its own namespace, in its families, without a slice; also together with the policy of those behind it."""
    new = service(selector={"app": "db"})
    found = told((new,))
    assert rows(found) == rows(told((new, slices("10.0.0.2", "10.0.0.4")))) == [(True, "*", "svc:shop/db", "tcp 5432", 4)]
    assert found.warnings == ()
    assert rows(told((new, ONLY_WEB))) == [(True, "shop/web", "svc:shop/db", "tcp 5432", 1)]
    assert rows(told((service(selector={"app": "web"}),))) == [(True, "red/spy,shop/db", "svc:shop/db", "tcp 5432", 3)]
    assert told((new, slices("10.0.0.3"), ONLY_WEB)).warnings == (), "slices in the file say it better"
    assert rows(told((new, slices("10.0.0.3"), ONLY_WEB))) == [(True, "shop/*", "svc:shop/db", "tcp 5432", 3)]
    assert rows(told((service(vip="None", selector={"app": "db"}),))) == [(True, "*", "svc:shop/db", "tcp 5432", 4)]


def test_a_service_that_selects_otherwise_leads_to_others() -> None:
    was = (service(selector={"app": "db"}), slices("10.0.0.2", "10.0.0.4"), ONLY_WEB)
    assert rows(told((service(selector={"app": "db"}),), *was)) == [], "as before: the slices that there are say it"
    other = service(selector={"app": "web"})
    assert (True, "red/spy", "svc:shop/db", "tcp 5432", 1) in rows(told((other,), *was))


def test_a_name_for_a_port_is_each_containers_own() -> None:
    one = endpoint("one", "shop", {"app": "api"}, ("10.0.0.5",), {"http": "8080/tcp"})
    two = endpoint("two", "shop", {"app": "api"}, ("10.0.0.6", "fd00::6"), {"http": "9090/tcp", "dns": "53/udp"})
    three = endpoint("three", "shop", {"app": "api"}, ("10.0.0.7",), {"http": "80/udp"})
    side = replace(one, spec=replace(one.spec, interface=InterfaceName("net1"), addresses=(Interface("10.9.0.5/16"),)))
    ports = [
        {"name": "web", "port": 80, "targetPort": "http"},
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"},
    ]
    new = service("api", "10.96.0.11", selector={"app": "api"}, ports=ports)
    directory = Directory()
    for each in (new, *selected(new, (one, two, three, side, endpoint("far", "red", {"app": "api"}, ("10.0.0.8",))))):
        directory.put(each)
    web, dns = new.spec.ports
    assert {(found.address, found.port) for found in directory.backends(new, web, 4)} == {
        ("10.0.0.5", 8080),
        ("10.0.0.6", 9090),
    }
    assert [(found.address, found.port) for found in directory.backends(new, dns, 4)] == [("10.0.0.6", 53)]
    assert directory.backends(new, web, 6) == ()
    dual = service("api", "fd96::1", selector={"app": "api"}, ports=ports, ipFamilies=["IPv6", "IPv4"])
    assert {each.address_type for each in selected(dual, (one, two))} == {"IPv4", "IPv6"}


def test_what_comes_with_its_policy_is_compared_together() -> None:
    found = told((service(), slices("10.0.0.2"), ONLY_WEB))
    assert rows(found) == [(True, "shop/web", "svc:shop/db", "tcp 5432", 1)]


def test_headless_services_have_no_address_of_their_own() -> None:
    found = told((ONLY_WEB,), service(vip="None"), slices("10.0.0.2"))
    assert rows(found) == [(False, "red/spy,shop/db", "svc:shop/db", "tcp 5432", 2)]


def test_a_connection_to_a_service_is_cut_by_those_behind_it_and_bears_its_name() -> None:
    flows = tuple(seen(one, VIP, 80, party("shop", "db")) for one in (WEB, SPY))
    found = told((ONLY_WEB,), service(port=80), slices("10.0.0.2"), flows=flows)
    (cut,) = found.flows
    assert (cut.source.endpoint, cut.destination.kind, cut.destination.service, cut.destination.port) == (
        "spy",
        "service",
        "db",
        80,
    )
    assert [
        one.source.endpoint for one in told((), service(port=80), slices("10.0.0.2"), delete=(service(),), flows=flows).flows
    ] == [
        "spy",
        "web",
    ]
    assert told((slices("10.0.0.4"),), service(port=80), slices("10.0.0.2"), flows=flows).flows == ()


def test_other_kinds_are_refused_with_what_to_do() -> None:
    network = codec.from_item({"kind": "Network", "metadata": {"name": "x"}})
    with pytest.raises(Invalid, match="leave it out"):
        raise refuse_other(network)


ANY_GATE = st.lists(st.sampled_from([("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.2", 53), ("10.0.0.3", 80)]), max_size=3)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(before=st.lists(ANYTHING, max_size=6), after=st.lists(ANY_POLICY, max_size=2), behind=ANY_GATE)
def test_it_tells_what_is_explained(before: list[Any], after: list[Any], behind: list[tuple[str, int]]) -> None:
    """Of every container, by asking about each behind a service."""
    before, after = latest(before), latest([*before, *after])
    worlds, found = (world(before), world(after)), []
    for things in (before, after):
        (book := Book()).put(*things)
        found.append(book)
    front = Address("10.9.9.9")
    for book in found:
        book.show({"x/y": (((6, 80),), (front,))})
    comparison = Preview(found[0], found[1])
    ends = tuple(dict.fromkeys((Address(at), port) for at, port in behind))
    gate = Gate("x/y", 4, "tcp", 80, front, ends)
    said = {(unit.name, change) for _, into in changes(comparison, [gate], [gate]) for unit, change in into}
    expected = set()
    for unit, one in ((comparison._unit(comparison._likeness(end), 1), end) for end in worlds[1].endpoints):
        for source in (at.address for at in one.spec.addresses if at.address.family == 4):
            reached = [
                {
                    end
                    for end in ends
                    if owner(of, end[0]) is one or book.explain(source, end[0], "tcp", end[1], (front, 80)).allowed
                }
                for of, book in zip(worlds, found, strict=True)
            ]
            for at, verdict in ((0, False), (1, True)):
                some = len(reached[at] - reached[1 - at])
                if some and {end for end in reached[at] if owner(worlds[at], end[0]) is not one} | reached[1 - at]:
                    text = "tcp 80" if some == len(ends) else f"tcp 80 ({some} of {len(ends)} behind it)"
                    expected.add((unit.name, (verdict, text)))
    assert said == expected
