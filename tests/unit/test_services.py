"""Services and EndpointSlices: what may be written, what is read of a cluster's, who stands behind one, what that answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.agent.behind import behind
from fairlead.api.schema import Explained, Explaining
from fairlead.cli import policy as words
from fairlead.cli.flows import line
from fairlead.flow.enrich import Names, packed, service
from fairlead.flow.filter import Query
from fairlead.flow.record import Record
from fairlead.model import codec
from fairlead.model.broken import Broken
from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.errors import Invalid, Missing
from fairlead.model.service import Service
from fairlead.service.directory import Backend, Directory
from fairlead.store.kubernetes.objects import Reader
from fairlead.store.kubernetes.resources import resource
from tests.kubernetes import play
from tests.unit.test_flow import WEB, seen

WEB_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10", "fd00:96::a"],
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "PreferDualStack",
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "type": "LoadBalancer",
        "externalIPs": ["192.0.2.80"],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1", "ipMode": "VIP"}, {"hostname": "lb.example"}]}},
}


def made(tree: dict[str, Any], **spec: Any) -> Any:
    return codec.from_item({**tree, "spec": {**tree["spec"], **spec}})


def slices(name: str, *endpoints: dict[str, Any], service: str = "web", family: str = "IPv4") -> Any:
    return codec.from_item(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
            "addressType": family,
            "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
            "endpoints": list(endpoints),
        }
    )


def at(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions, "nodeName": "n1"}


# -- what may be written


def test_a_service_as_people_write_it() -> None:
    found = made(WEB_SERVICE)
    assert isinstance(found, Service)
    assert found.addresses == ("10.96.0.10", "fd00:96::a", "192.0.2.80", "198.51.100.1")
    assert [one.word for one in found.spec.ports] == ["80/TCP", "53/UDP"]
    assert codec.from_item(codec.to_tree(found)) == found
    assert made(WEB_SERVICE, clusterIP="None", clusterIPs=["None"]).headless


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"clusterIP": "10.96.0"}, r"spec.*clusterIP: '10\.96\.0' is not an IP address"),
        ({"clusterIP": "10.96.0.9"}, r"clusterIPs: must begin with clusterIP, 10\.96\.0\.9"),
        ({"externalIPs": ["None"]}, "externalIPs"),
        ({"ports": [{"port": 0}]}, r"ports\[0\].*port: 0 is not a port"),
        ({"ports": [{"port": 80, "targetPort": "NOT"}]}, "targetPort"),
        ({"ports": [{"port": 80}, {"port": 81}]}, r"ports\[0\]\.name: each of several ports needs one"),
        ({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}, r"ports\[1\]: b is there twice"),
        ({"type": "ExternalName"}, "externalName"),
        ({"clusterip": "10.96.0.10"}, "clusterip"),
    ],
)
def test_a_wrong_one_is_refused_by_the_field(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        made(WEB_SERVICE, **spec)


def test_a_slice_has_addresses_of_its_type() -> None:
    with pytest.raises(Invalid, match=r"endpoints\[1\]\.addresses: 'fd00::1' is no IPv4 address"):
        slices("web-1", at("10.0.0.1"), at("fd00::1"))


# -- what is read of a cluster's


def read(plural: str, tree: dict[str, Any]) -> Any:
    tree["metadata"]["resourceVersion"] = "9"
    return Reader().read(resource(plural), json.dumps(tree).encode())


def test_of_a_clusters_service_only_that_is_kept_which_is_used() -> None:
    tree = play.service(7)
    tree["spec"]["fromTheFuture"] = {"a": 1}
    found = read("services", tree)
    assert isinstance(found, Service)
    assert found.addresses == ("10.96.1.7",)
    assert (found.spec.ports[0].port, found.spec.ports[0].target_port) == (8080, "http")
    assert found.spec.selector == {"app": "web-00007"}


def test_of_a_slice_an_address_is_kept_its_node_and_how_it_is() -> None:
    tree = play.endpoints(1, 1000, 50)
    tree["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    found = read("endpointslices", tree)
    assert isinstance(found, EndpointSlice)
    assert found.service == ("team-01", "web-00001")
    first, second = found.endpoints[:2]
    assert (first.ready, first.serving, first.node_name) == (False, True, "node-0020")
    assert (second.ready, second.addresses, second.target_ref) == (True, ("10.0.1.21",), None)
    assert len(codec.encode(found)) < len(json.dumps(tree)) / 2


def test_nulls_are_read_as_what_is_left_out() -> None:
    tree = play.endpoints(1, 1000, 50)
    tree["ports"], tree["endpoints"] = None, [{"addresses": ["10.0.0.1"], "conditions": {"ready": None}, "nodeName": None}]
    (one,) = read("endpointslices", tree).endpoints
    assert one.ready
    assert one.serving


@pytest.mark.parametrize("plural", ["services", "endpointslices"])
@pytest.mark.parametrize("tree", [{"metadata": {}}, {"metadata": {"name": "a"}, "spec": [], "addressType": "IPv5"}])
def test_nonsense_is_broken_and_no_more(plural: str, tree: dict[str, Any]) -> None:
    assert isinstance(read(plural, tree), Broken)


# -- who stands behind one


def directory(*things: Any) -> Directory:
    made = Directory()
    for one in things:
        made.put(one)
    return made


def test_backends_are_those_that_are_ready_each_once() -> None:
    web = made(WEB_SERVICE)
    known = directory(
        slices("web-1", at("10.0.0.1", ready=True), at("10.0.0.2", ready=False)),
        web,
        slices("web-2", at("10.0.0.1"), at("10.0.0.3")),
        slices("other", at("10.0.0.9"), service="other"),
    )
    assert known.at("10.96.0.10") is web
    assert known.at("fd00:96::a") is web
    assert known.at("10.96.0.11") is None
    http, dns = web.spec.ports
    assert known.backends(web, http, 4) == (Backend("10.0.0.1", 8080, "n1"), Backend("10.0.0.3", 8080, "n1"))
    assert {one.port for one in known.backends(web, dns, 4)} == {5353}


def test_without_a_ready_one_those_that_still_serve_are_asked() -> None:
    web = made(WEB_SERVICE)
    leaving = at("10.0.0.1", ready=False, serving=True, terminating=True)
    known = directory(web, slices("web-1", leaving, at("10.0.0.2", ready=False, serving=False)))
    assert [one.address for one in known.backends(web, web.spec.ports[0], 4)] == ["10.0.0.1"]


def test_what_changes_or_goes_leaves_nothing() -> None:
    web, other = made(WEB_SERVICE), made({**WEB_SERVICE, "metadata": {"name": "a", "namespace": "shop"}})
    known = directory(web, other, slices("web-1", at("10.0.0.1")))
    assert known.at("192.0.2.80") is other, "of two the first by name has an address"
    known.drop(other)
    assert known.at("192.0.2.80") is web
    known.put(made(WEB_SERVICE, externalIPs=[]))
    assert known.at("192.0.2.80") is None
    known.put(slices("web-1", at("10.0.0.1"), service="other"))
    assert known.backends(web, web.spec.ports[0], 4) == ()
    known.drop(known.services["shop", "web"])
    known.drop(known.slices["shop", "web-1"])
    assert known.at("10.96.0.10") is None
    assert vars(known) == vars(Directory())


# -- what is answered


DENIED = "10.0.0.3"


def ask(known: Directory, **query: str) -> tuple[Explained | None, list[Mapping[str, str]]]:
    asked: list[Mapping[str, str]] = []

    async def explain(words: Mapping[str, str]) -> Explained:
        asked.append(words)
        allowed = words["to"] not in {DENIED, "fd00:96::a"}
        return Explained(allowed=allowed, steps=(Explaining(text=f"to {words['to']}", allows=allowed),))

    async def run() -> Explained | None:
        answer = behind(known, {name.rstrip("_"): word for name, word in query.items()}, explain)
        return None if answer is None else await answer

    return asyncio.run(run()), asked


def test_everybody_behind_a_service_is_asked_about() -> None:
    known = directory(made(WEB_SERVICE), slices("web-1", at("10.0.0.1"), at("10.0.0.2", ready=False), at(DENIED)))
    for to in ("svc:shop/web", "10.96.0.10"):
        told, asked = ask(known, from_="client", to=to, port="http")
        assert told
        assert [one["to"] for one in asked] == ["10.0.0.1", DENIED]
        front = {"front": "10.96.0.10", "front_port": "80"}
        assert asked[0] == {"from": "client", "to": "10.0.0.1", "protocol": "tcp", "port": "8080", **front}
        assert not told.allowed
        assert told.steps[-1].text == "service shop/web, tcp port 80: allowed to 1 of 2 behind it"
    told, _ = ask(known, from_="client", to="svc:shop/web", port="53", protocol="udp")
    assert told
    assert "udp port 53" in told.steps[-1].text
    shown = words.lines(told)
    assert shown[0] == "10.0.0.1:5353 on n1"
    assert shown[-1].startswith("✗ service shop/web")
    assert ask(known, from_="client", to="10.0.0.1", port="80") == (None, [])


def test_of_two_families_one_is_asked_about() -> None:
    known = directory(made(WEB_SERVICE), slices("web-4", at("10.0.0.1")), slices("web-6", at("fd00::1"), family="IPv6"))
    four, six = ("10.0.0.1", "10.96.0.10"), ("fd00::1", "fd00:96::a")
    for to, wanted in (("svc:shop/web", four), ("10.96.0.10", four), ("fd00:96::a", six)):
        assert [(one["to"], one["front"]) for one in ask(known, from_="client", to=to, port="80")[1]] == [wanted]


def test_no_address_leads_to_who_is_asked_for_by_his_own() -> None:
    headless = made({**WEB_SERVICE, "spec": {**WEB_SERVICE["spec"], "clusterIP": "None", "clusterIPs": ["None"]}})
    (asked,) = ask(directory(headless, slices("web-1", at("10.0.0.1"))), from_="client", to="svc:shop/web", port="80")[1]
    assert "front" not in asked


def test_where_a_proxy_elsewhere_is_asked_its_address_counts() -> None:
    balanced = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "Proxy"}, {"ip": "192.0.2.8"}]}}
    known = directory(made({**WEB_SERVICE, "status": balanced}), slices("web-1", at("10.0.0.1")))
    assert ask(known, from_="client", to="192.0.2.9", port="80") == (None, [])
    (asked,) = ask(known, from_="client", to="192.0.2.8", port="80")[1]
    assert asked["front"] == "192.0.2.8"


def test_nobody_ready_is_nobody_reached() -> None:
    told, _ = ask(directory(made(WEB_SERVICE)), from_="client", to="svc:shop/web", port="80")
    assert told
    assert not told.allowed
    assert told.steps[-1].text == "service shop/web, tcp port 80: nobody behind it is ready"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"to": "svc:shop/none"}, "there is no service shop/none"),
        ({"to": "svc:web"}, "there is no service default/web"),
        ({"to": "svc:shop/web"}, "say which port of service shop/web; there are: http=80/TCP, dns=53/UDP"),
        ({"to": "svc:shop/web", "port": "81"}, "service shop/web has no port 81; there are: http=80/TCP, dns=53/UDP"),
        ({"to": "svc:shop/web", "port": "80", "protocol": "udp"}, "has no udp port 80"),
        ({"to": "svc:shop/web", "protocol": "icmp"}, "say which port"),
        ({"from_": "svc:shop/web", "to": "x"}, "a service opens no connections"),
    ],
)
def test_a_question_that_has_no_answer(query: dict[str, str], said: str) -> None:
    with pytest.raises((Invalid, Missing), match=said):
        ask(directory(made(WEB_SERVICE)), **query)


def test_how_a_service_is_written_on_the_command_line() -> None:
    assert words._words("a", "svc:shop/web:http") == {"from": "a", "to": "svc:shop/web", "port": "http"}
    assert words._words("a", "svc:web:53/udp") == {"from": "a", "to": "svc:web", "port": "53", "protocol": "udp"}
    assert words._words("a", "svc:80") == {"from": "a", "to": "svc", "port": "80"}, "no service has such a name"
    assert words._words("a", "svc:shop/web") == {"from": "a", "to": "svc:shop/web"}


def test_a_flow_to_an_address_of_a_service_is_named_by_it() -> None:
    known = directory(made(WEB_SERVICE))

    def elsewhere(address: str) -> str | None:
        found = known.at(address)
        return service(*found.key) if found else None

    names = Names(lambda: [WEB], lambda: ["192.0.2.1"], list, lambda: None, {}, elsewhere=elsewhere)
    turn = names.refresh()
    to = seen("10.0.0.2", "10.96.0.10")
    record = Record(0.0, to, names.of(packed("10.0.0.2"), turn), names.of(packed("10.96.0.10"), turn))
    peer = record.flow().destination
    assert (peer.kind, peer.namespace, peer.service, peer.address, peer.port) == ("service", "shop", "web", "10.96.0.10", 80)
    assert "-> service shop/web:80 tcp new" in line(record.flow())
    assert Query({"to": "svc:shop/web"}).matches(record)
    assert not Query({"to": "svc:shop/other"}).matches(record)
    assert not Query({"to": "shop/web"}).matches(record), "that is a container's name"
    known.put(made({**WEB_SERVICE, "metadata": {"name": "new", "namespace": "shop"}}))
    known.drop(made(WEB_SERVICE))
    later = names.refresh()
    assert names.of(packed("10.96.0.10"), later) == "service/shop/new"
    assert names.of(packed("10.96.0.10"), turn) == "service/shop/web", "what was seen before keeps its name"


def test_replaced_objects_are_those_of_the_store() -> None:
    """A slice that is told of again, with another revision, is one and the same."""
    one = slices("web-1", at("10.0.0.1"))
    again = replace(one, metadata=replace(one.metadata, resource_version="7"))
    known = directory(made(WEB_SERVICE), one, again)
    assert known.slices == {("shop", "web-1"): again}
