"""Who is who, as it is told: what policies see, how many have it, and whose it is."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.agent.explain import explain
from fairlead.agent.identities import identities
from fairlead.api.identities import Holder, Identity
from fairlead.model import codec, errors
from fairlead.model.address import Address
from fairlead.model.meta import Meta
from fairlead.model.namespace import Namespace
from fairlead.policy.book import Book
from tests.unit.policy_world import endpoint
from tests.unit.test_agent_explain import ALL, DB, FAR, HERE, HOSTED, LONELY, Town

POLICIES = [
    codec.from_item({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **one})
    for one in (
        {
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [
                    {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]},
                    {"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]},
                    {"from": [{"ipBlock": {"cidr": "10.0.1.0/24"}}, {"ipBlock": {"cidr": "198.51.100.0/24"}}]},
                ],
            },
        },
        {
            "metadata": {"name": "out", "namespace": "shop"},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]},
        },
    )
]
TOWN = Town(ALL, HERE, {"n1": HERE, "n2": FAR}, lambda one: one is HOSTED)


def book() -> Book:
    made = Book("n1")
    made.put(Namespace(metadata=Meta(name="red", labels={"team": "x"})), *ALL, HERE, FAR, *POLICIES)
    made.show({"shop/web": (((6, 80),), (Address("10.96.0.1"),))})
    return made


def who(word: str) -> Identity:
    (found,) = identities(book(), TOWN, {"who": word})
    return found


def test_all_of_them_are_told() -> None:
    found = identities(book(), TOWN, {})
    assert [one.number for one in found] == sorted(one.number for one in found)
    assert {(one.kind, one.containers) for one in found} == {
        (Holder.CONTAINER, ("shop/web",)),
        (Holder.CONTAINER, ("shop/db",)),
        (Holder.CONTAINER, ("red/twin",)),
        (Holder.CONTAINER, ("shop/afar", "shop/both")),
        (Holder.CONTAINER, ("shop/both",)),
        (Holder.CIDR, ()),
        (Holder.SERVICE, ()),
    }
    assert {one.cidrs for one in found if one.kind is Holder.CIDR} == {("10.0.1.0/24",), ("198.51.100.0/24",)}


def test_what_policies_see() -> None:
    web = who("web")
    assert (web.namespace, web.labels, web.ports, web.addresses) == ("shop", {"app": "*"}, {"http": "8080/tcp"}, 2)
    assert who("db").labels == {"app": "db"}
    assert who("twin").namespace_labels == {"team": "x"}
    assert who("afar").cidrs == ("10.0.1.0/24",)
    assert who("10.96.0.1").fronts == ("tcp/80",)
    assert who("198.51.100.7").cidrs == ("198.51.100.0/24",)
    assert who("10.0.0.2") == who("shop/db")


def test_who_is_nobody_in_particular() -> None:
    with pytest.raises(errors.Missing, match=r"no policy in force says anything by which 203.0.113.9 is told from others"):
        who("203.0.113.9")
    for word in ("host", HOSTED.display):  # no policy looks at nodes
        with pytest.raises(errors.Missing, match="no policy in force"):
            who(word)
    with pytest.raises(errors.Invalid, match="lonely has no address of its own"):
        who(LONELY.display)
    with pytest.raises(errors.Missing, match="there is no container 'nobody'"):
        who("nobody")
    with pytest.raises(errors.Invalid, match="there is no such word; there is: who"):
        identities(book(), TOWN, {"whom": "web"})


def test_it_is_there_from_the_first_to_the_last() -> None:
    told = book()
    twin = endpoint("second", "shop", {"app": "db", "serial": "2"}, ("10.0.0.9",))
    before = identities(told, TOWN, {})
    told.put(twin)
    (two,) = [one for one in identities(told, TOWN, {}) if one.labels == {"app": "db"}]
    assert (two.addresses, two.containers) == (2, ("shop/db", "shop/second"))
    told.drop(twin)
    assert identities(told, TOWN, {}) == before
    told.drop(DB)
    assert two.number not in {one.number for one in identities(told, TOWN, {})}


def test_an_explanation_names_both() -> None:
    async def nobody(_: object) -> None:
        return None

    told = asyncio.run(explain(book(), TOWN, {"from": "web", "to": "db", "port": "80"}, nobody))
    assert (told.from_identity, told.to_identity) == (who("web").number, who("db").number)
    told = asyncio.run(explain(book(), TOWN, {"from": "203.0.113.9", "to": "afar", "port": "80"}, nobody))
    assert (told.from_identity, told.to_identity) == ("", who("afar").number)
