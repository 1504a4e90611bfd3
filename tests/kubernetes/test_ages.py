"""API servers older and newer than ours: what they have in another version, and what they do not take."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from fairlead.model.cluster import ClusterNetworkPolicy
from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.errors import Unsupported
from fairlead.store.base import Put
from fairlead.store.kubernetes.status import Condition
from tests.contracts.stores import NETWORKS, awaited, network
from tests.kubernetes.conftest import Opens
from tests.kubernetes.server import StoodIn
from tests.kubernetes.standin.server import StandIn
from tests.kubernetes.test_rbac import policy_kind


@pytest.fixture
def api(server: StoodIn) -> StandIn:
    assert server.standin
    return server.standin


@awaited
async def test_a_kind_in_a_version_that_is_not_known_is_not_taken_for_none(api: StandIn, opens: Opens) -> None:
    later = policy_kind("ClusterNetworkPolicy", "clusternetworkpolicies", "v1")
    await asyncio.to_thread(api.serve, [later])
    async with opens() as store:
        with pytest.raises(Unsupported, match=r"clusternetworkpolicies.* as v1, and known here is v1alpha2"):
            await store.list(ClusterNetworkPolicy.plural)
        assert (await store.list("adminnetworkpolicies")).objects == ()


@awaited
async def test_slices_of_a_cluster_of_before_1_21_are_read_and_followed(api: StandIn, opens: Opens) -> None:
    """It has them in an older version, until it is brought up to one that has it no more."""
    plural = EndpointSlice.plural
    await asyncio.to_thread(api.age, plural, "v1beta1")
    where = {"kubernetes.io/hostname": "n7", "topology.kubernetes.io/zone": "z"}
    ends = [{"addresses": ["10.0.0.7"], "topology": where}]
    web = {"metadata": {"name": "web", "namespace": "shop"}, "addressType": "IPv4", "endpoints": ends}
    await asyncio.to_thread(api.put, plural, web)
    async with opens() as store:
        listing = await store.list(plural)
        (end,) = [end for one in listing.objects for end in one.endpoints]
        assert (end.addresses, end.node_name, end.zone) == (("10.0.0.7",), "n7", "z")
        async with aclosing(store.watch(plural, listing.revision)) as told:
            await asyncio.to_thread(api.put, plural, web | {"metadata": {"name": "more", "namespace": "shop"}})
            assert (await anext(told)).object.name == "more"
        await asyncio.to_thread(api.age, plural, "v1")
        assert {one.name for one in (await store.list(plural)).objects} == {"more", "web"}


@awaited
async def test_a_condition_without_a_message_has_none_written(api: StandIn, opens: Opens) -> None:
    """Kubernetes 1.20 makes null of an empty one when it applies, and refuses that."""
    async with opens() as store:
        await store.commit(Put(network("blue")))
        for message in ("it overlaps", ""):
            await store.report(NETWORKS, ("", "blue"), Condition("Accepted", not message, "R", message))
            (condition,) = api.tree(NETWORKS, ("", "blue"))["status"]["conditions"]
            assert condition.get("message") == (message or None)
            assert condition["status"] == str(not message)
