"""What the agent may do is what it does: the roles in deploy/kubernetes against what a store asks for in all its work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.model.address import Name, Prefix
from fairlead.model.block import Block, BlockSpec
from fairlead.model.codec import KINDS
from fairlead.model.errors import Forbidden
from fairlead.model.meta import Meta
from fairlead.model.network import Network
from fairlead.model.node import MTU, Node
from fairlead.model.pod import Pod
from fairlead.model.policy import NetworkPolicy
from fairlead.model.reservation import Reservation
from fairlead.store.base import Delete, Put
from fairlead.store.cache import Cache
from fairlead.store.kubernetes.status import Condition
from fairlead.store.kubernetes.store import Kubernetes
from tests.contracts.stores import awaited, endpoint, network
from tests.kubernetes.play import node, pod, policy
from tests.kubernetes.server import NAMESPACE, Server, StoodIn, real
from tests.tree import ROOT

TOKEN, USER = "agent-token", "system:serviceaccount:fairlead-system:fairlead-agent"
ROLES = [one for one in yaml.safe_load_all((ROOT / "deploy/kubernetes/base/rbac.yaml").read_text()) if "Role" in one["kind"]]
GRANTED = {
    (verb, group, resource, role["metadata"].get("namespace", ""))
    for role in ROLES
    if "rules" in role
    for rule in role["rules"]
    for verb in rule["verbs"]
    for group in rule["apiGroups"]
    for resource in rule["resources"]
}
POLICIES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
}


def policy_kind(kind: str, plural: str, version: str) -> dict[str, Any]:
    """A definition of one of the policy kinds that clusters may have."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    one = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    group = "policy.networking.k8s.io"
    about = {"api-approved.kubernetes.io": "unapproved, a test"}
    spec = {"group": group, "names": names, "scope": "Cluster", "versions": [one]}
    return {**POLICIES, "metadata": {"name": f"{plural}.{group}", "annotations": about}, "spec": spec}


KINDS_OF_POLICIES = [
    policy_kind("ClusterNetworkPolicy", "clusternetworkpolicies", "v1alpha2"),
    policy_kind("AdminNetworkPolicy", "adminnetworkpolicies", "v1alpha1"),
    policy_kind("BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies", "v1alpha1"),
]


async def everything_an_agent_does(store: Kubernetes) -> None:
    """Follow every kind, write what it writes, report."""
    kinds = [one.plural for one in KINDS if one is not Reservation]
    cache = Cache(store, kinds, lambda _events: None)
    following = asyncio.create_task(cache.run())
    await asyncio.wait_for(cache.synced(), 20)
    for plural in kinds:
        assert await store.get(plural, ("", "-")) is None  # as the cache does when it goes on after a break
    for thing in (network("blue"), endpoint("x"), block("10.1.0.0/26")):
        (made,) = await store.commit(Put(thing, expect=""))
        assert made is not None
        await store.commit(Put(changed(thing)))
        if isinstance(thing, Network):
            await store.report(thing.plural, thing.key, Condition("Accepted", True, "InUse"))
        await store.commit(Delete(thing.plural, thing.key))
    found = await store.get(Node.plural, ("", "node-0001"))
    assert isinstance(found, Node)
    said = Node(metadata=Meta(name="node-0001", annotations={MTU: "1450"}))
    (stored,) = await store.commit(Put(said))
    assert isinstance(stored, Node)
    assert stored.metadata.annotations == {MTU: "1450"}
    await store.report(Node.plural, stored.key, Condition("NetworkUnavailable", False, "FairleadIsReady"))
    assert cache.all(Pod.plural)
    following.cancel()
    await asyncio.wait([following])


async def a_block_and_its_end(store: Kubernetes) -> None:
    await store.commit(Put(block("10.1.0.0/26"), expect=""))
    await store.commit(Put(changed(block("10.1.0.0/26"))))
    await store.commit(Delete(Block.plural, ("", "10-1-0-0-26")))


def block(cidr: str) -> Block:
    name = cidr.replace("/", "-").replace(".", "-")
    return Block(metadata=Meta(name=name), spec=BlockSpec(network=Name("blue"), cidr=Prefix(cidr), node="node-0001"))


def changed(thing: Any) -> Any:
    from msgspec.structs import replace  # noqa: PLC0415

    return replace(thing, metadata=replace(thing.metadata, labels={"changed": "yes"}))


def fill(server: StoodIn) -> None:
    assert server.standin
    server.standin.put("nodes", node(1))
    server.standin.put("namespaces", {"metadata": {"name": "team-00"}, "spec": {}})
    server.standin.put("pods", pod(1, 1000))
    server.standin.put("networkpolicies", policy(1))


def test_what_is_granted_is_what_is_used(server: StoodIn, opens: Any) -> None:
    assert server.standin
    gate = server.standin.gate
    server.standin.serve(KINDS_OF_POLICIES)
    fill(server)
    gate.tokens = {TOKEN: USER}
    gate.grant(USER, [one for one in ROLES if "rules" in one])
    gate.asked.clear()

    @awaited
    async def run() -> None:
        async with opens(token=TOKEN) as store:
            await everything_an_agent_does(store)

    run()
    used = {(one.verb, one.group, one.resource, one.namespace if one.namespace == NAMESPACE else "") for one in gate.asked}
    assert used == GRANTED


@pytest.mark.parametrize("verb", ["delete", "create", "update"])
def test_without_a_rule_the_agent_is_told_so(server: StoodIn, opens: Any, verb: str) -> None:
    assert server.standin
    gate = server.standin.gate
    gate.tokens = {TOKEN: USER}
    gate.grant(USER, [one for one in ROLES if "rules" in one])
    for rules in gate.rules.values():
        rules[:] = [rule._replace(verbs=rule.verbs - {verb}) for rule in rules]

    @awaited
    async def run() -> None:
        async with opens(token=TOKEN) as store:
            with pytest.raises(Forbidden, match=rf"cannot {verb} resource \"blocks\".*deploy/kubernetes"):
                await a_block_and_its_end(store)

    run()


def test_the_agent_writes_no_policies_and_no_pods(server: StoodIn, opens: Any) -> None:
    assert server.standin
    server.standin.gate.tokens = {TOKEN: USER}
    server.standin.gate.grant(USER, [one for one in ROLES if "rules" in one])

    @awaited
    async def run() -> None:
        async with opens(token=TOKEN) as store:
            with pytest.raises(Forbidden, match="networkpolicies"):
                await store.commit(Put(NetworkPolicy(metadata=Meta(name="a", namespace="default")), expect=""))

    run()


def test_a_real_api_server_lets_the_agent_do_all_of_it(tmp_path: Path, assets: Path) -> None:
    with real(tmp_path, assets) as server:
        prepare(server)
        server.token, admin = TOKEN, server.token

        @awaited
        async def run() -> None:
            store = Kubernetes(server.access(patience=5.0))
            try:
                await everything_an_agent_does(store)
            finally:
                await store.close()

        run()
        server.token = admin


def prepare(server: Server) -> None:
    """The roles, bound to the user whose token is in the server's file, and a node, a pod and a policy."""
    apis = {"v1": "/api/v1"}
    for tree in yaml.safe_load_all((ROOT / "deploy/kubernetes/base/rbac.yaml").read_text()):
        if "subjects" in tree:
            tree["subjects"] = [{"kind": "User", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"}]
        group = apis.get(tree["apiVersion"], f"/apis/{tree['apiVersion']}")
        where = f"/namespaces/{space}" if (space := tree["metadata"].get("namespace")) else ""
        server.call("POST", f"{group}{where}/{tree['kind'].lower()}s", tree)
    for tree in KINDS_OF_POLICIES:
        server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", tree)
    server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "team-00"}})
    one = node(1)
    for tree in (one, made := pod(1, 1000)):
        for name in ("uid", "managedFields", "creationTimestamp", "ownerReferences"):
            tree["metadata"].pop(name, None)
    server.call("POST", "/api/v1/nodes", one)
    server.call("POST", "/api/v1/namespaces/team-00/pods", made)
