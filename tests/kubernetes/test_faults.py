"""What goes wrong between a store and its API server: nothing is lost, nothing is done twice, nobody is flooded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from fairlead.model.broken import Broken
from fairlead.model.cluster import ClusterNetworkPolicy
from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.errors import Conflict, Invalid, Unavailable, Unsupported
from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec
from fairlead.model.policy import NetworkPolicy
from fairlead.store.base import Compacted, Delete, Event, EventKind, Put
from fairlead.store.cache import Cache
from fairlead.store.kubernetes import discovery
from fairlead.store.kubernetes import watch as watching
from fairlead.store.kubernetes.store import Kubernetes
from tests.contracts.stores import NETWORKS, awaited, current, network, take
from tests.kubernetes.conftest import Opens
from tests.kubernetes.server import StoodIn
from tests.kubernetes.standin.server import StandIn
from tests.kubernetes.test_rbac import KINDS_OF_POLICIES, policy_kind


@pytest.fixture
def api(server: StoodIn) -> StandIn:
    assert server.standin
    return server.standin


def writes(api: StandIn, verb: str) -> int:
    return sum(one.verb == verb and one.resource == "networks" for one in api.gate.asked)


async def away(api: StandIn) -> None:
    await asyncio.to_thread(api.stop)


async def back(api: StandIn) -> None:
    await asyncio.to_thread(api.start)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


# -- away


@awaited
async def test_an_api_server_that_is_away_is_named_and_waited_for(api: StandIn, opens: Opens) -> None:
    await away(api)
    async with opens(patience=0.5) as store:
        began = time.monotonic()
        for ask in (store.get(NETWORKS, ("", "blue")), store.list(NETWORKS), store.commit(Put(network()))):
            with pytest.raises(Unavailable, match=r"API server at http://127.0.0.1:\d+ cannot be asked: "):
                await ask
        assert time.monotonic() - began < 5
        with pytest.raises(Unavailable, match="cannot be asked"):
            await take(store, NETWORKS, 5, 1)
        await back(api)
        await store.commit(Put(network()))
        assert await store.get(NETWORKS, ("", "blue")) is not None


@awaited
async def test_a_watch_outlives_a_restart(api: StandIn, opens: Opens) -> None:
    async with opens() as store:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 3))
        await store.commit(Put(network("a")))
        await until(lambda: api.watches == 1)
        await away(api)
        await back(api)
        await store.commit(Put(network("b")))
        await until(lambda: api.watches == 1)
        await store.commit(Put(network("c")))
        assert [event.object.name for event in await watching] == ["a", "b", "c"]


@awaited
async def test_an_outage_is_not_a_reason_to_hammer(api: StandIn, opens: Opens) -> None:
    async with opens(patience=60.0) as store:
        watches = [asyncio.create_task(take(store, NETWORKS, await current(store), 1, patience=50)) for _ in range(10)]
        await until(lambda: api.watches == 10)
        fault = await asyncio.to_thread(lambda: api.fault(code=503))
        await away(api)
        await back(api)
        await asyncio.sleep(3)
        assert fault.met <= 10 * 8
        await asyncio.to_thread(api.mend)
        await store.commit(Put(network()))
        assert [len(told) for told in await asyncio.gather(*watches)] == [1] * 10


@awaited
async def test_few_questions_are_under_way_at_once(api: StandIn, opens: Opens) -> None:
    await asyncio.to_thread(lambda: api.fault(verb="get", delay=0.01))
    async with opens() as store:
        await asyncio.gather(*(store.get(NETWORKS, ("", f"n{at}")) for at in range(200)))
    assert 2 <= api.faults.most <= 8


# -- refusals that pass


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@awaited
async def test_what_is_refused_for_now_is_asked_again(api: StandIn, opens: Opens, code: int) -> None:
    async with opens() as store:
        await store.commit(Put(network()))
        fault = await asyncio.to_thread(lambda: api.fault(verb="get", code=code, times=2))
        assert await store.get(NETWORKS, ("", "blue")) is not None
        assert fault.met == 2
        fault = await asyncio.to_thread(lambda: api.fault(verb="watch", code=code, times=2))
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        await until(lambda: fault.met == 2)
        await store.commit(Put(network(internal=True)))
        assert len(await watching) == 1


@awaited
async def test_who_asks_to_be_left_alone_is_left_alone_by_all(api: StandIn, opens: Opens) -> None:
    async with opens() as store:
        await store.list(NETWORKS)
        await asyncio.to_thread(lambda: api.fault(verb="get", code=429, after="1", times=1))
        asked: list[float] = []
        first = asyncio.create_task(store.get(NETWORKS, ("", "a")))
        await until(lambda: api.faults.now[0].met == 1)
        refused = time.monotonic()

        async def ask() -> None:
            await store.list(NETWORKS)
            asked.append(time.monotonic())

        await asyncio.gather(first, *(ask() for _ in range(5)))
        assert min(asked) - refused > 0.9


@awaited
async def test_who_asks_for_more_than_our_patience_is_quoted(api: StandIn, opens: Opens) -> None:
    await asyncio.to_thread(lambda: api.fault(code=429, after="30"))
    async with opens(patience=1.0) as store:
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"asked too much|left alone for"):
                await store.list(NETWORKS)


@awaited
async def test_a_slow_api_server_is_waited_for(api: StandIn, opens: Opens) -> None:
    await asyncio.to_thread(lambda: api.fault(delay=0.5))
    async with opens() as store:
        await store.commit(Put(network()))
        assert len((await store.list(NETWORKS)).objects) == 1


# -- answers that are lost


Change = Callable[[Kubernetes], Awaitable[Any]]


async def _create(store: Kubernetes) -> Any:
    return await store.commit(Put(network("new"), expect=""))


async def _replace(store: Kubernetes) -> Any:
    found = await store.get(NETWORKS, ("", "old"))
    assert isinstance(found, Network)
    return await store.commit(Put(network("old", internal=True), expect=found.metadata.resource_version))


async def _delete(store: Kubernetes) -> Any:
    found = await store.get(NETWORKS, ("", "old"))
    assert isinstance(found, Network)
    return await store.commit(Delete(NETWORKS, ("", "old"), expect=found.metadata.resource_version))


@pytest.mark.parametrize(("verb", "change"), [("create", _create), ("update", _replace), ("delete", _delete)])
@pytest.mark.parametrize("cut", ["before", "after"])
@awaited
async def test_a_change_whose_answer_is_lost_happens_once(
    api: StandIn, opens: Opens, verb: str, change: Change, cut: str
) -> None:
    async with opens() as store:
        await store.commit(Put(network("old")))
        since = await current(store)
        await asyncio.to_thread(lambda: api.fault(verb=verb, cut=cut, times=1))
        (done,) = await change(store)
        assert done is not None
        assert await current(store) == since + 1
        (event,) = await take(store, NETWORKS, since, 1)
        assert event.object.name == done.name
        if verb != "delete":
            assert event.object == done


@awaited
async def test_who_was_second_is_told_so_although_an_answer_was_lost(api: StandIn, opens: Opens) -> None:
    """The same object, written by two: managedFields tell whose it is."""
    async with opens(who="node-1") as one, opens(who="node-2") as other:
        await one.commit(Put(network(), expect=""))
        await asyncio.to_thread(lambda: api.fault(verb="create", cut="before", times=1))
        with pytest.raises(Conflict, match="exists already"):
            await other.commit(Put(network(), expect=""))


@awaited
async def test_what_nobody_knows_is_said(api: StandIn, opens: Opens) -> None:
    async with opens(patience=1.0) as store:
        await asyncio.to_thread(lambda: api.fault(verb="create", cut="after", times=1))
        await asyncio.to_thread(lambda: api.fault(verb="get", code=503))
        with pytest.raises(Unavailable):
            await store.commit(Put(network(), expect=""))


# -- histories


@awaited
async def test_a_listing_that_took_too_long_begins_anew(api: StandIn, opens: Opens) -> None:
    async with opens(page=10) as store:
        for at in range(35):
            await store.commit(Put(network(f"n{at:02}")))
        fault = await asyncio.to_thread(lambda: api.fault(verb="list", delay=0.05))

        async def forget() -> None:
            await until(lambda: fault.met == 2)
            await store.commit(Put(network("later")))
            await asyncio.to_thread(api.forget, 0)

        listing, _ = await asyncio.gather(store.list(NETWORKS), forget())
        assert [one.name for one in listing.objects] == ["later", *(f"n{at:02}" for at in range(35))]
        assert fault.met > 4


@awaited
async def test_an_api_server_that_comes_back_with_an_older_state_is_noticed(api: StandIn, opens: Opens) -> None:
    """A backup was restored: a watch from a revision that never was would wait for ever."""
    async with opens() as store:
        before = api.history.revision
        await store.commit(Put(network("lost")))
        since = await current(store)
        watching = asyncio.create_task(take(store, NETWORKS, since, 1))
        await until(lambda: api.watches == 1)
        await away(api)
        api.history.lose(before)
        await back(api)
        with pytest.raises(Compacted, match="never was at"):
            await watching
        assert (await store.list(NETWORKS)).objects == ()


@awaited
async def test_a_restart_that_forgot_everything_is_a_reason_to_list(api: StandIn, opens: Opens) -> None:
    async with opens() as store:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        await until(lambda: api.watches == 1)
        await away(api)
        api.put("networks", {"metadata": {"name": "unseen"}, "spec": {}})
        api.history.forget(0)
        await back(api)
        with pytest.raises(Compacted, match="list again"):
            await watching


# -- silence


@awaited
async def test_a_watch_that_says_nothing_is_left(api: StandIn, opens: Opens) -> None:
    """Its connection stands, and carries nothing: the bookmarks that are missing tell."""
    api.bookmark = 0.3
    async with opens(quiet=1.0) as store:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        await until(lambda: api.watches == 1)
        await asyncio.to_thread(lambda: api.fault(mute=True, verb="nothing"))
        await store.commit(Put(network()))
        await asyncio.sleep(1.2)
        assert not watching.done()
        await asyncio.to_thread(api.faults.clear)
        assert [event.object.name for event in await watching] == ["blue"]


@awaited
async def test_a_watch_without_bookmarks_is_begun_anew_ever_more_seldom(api: StandIn, opens: Opens) -> None:
    async with opens(quiet=0.2) as store:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        await until(lambda: api.watches == 1)
        await asyncio.sleep(2.5)
        assert 3 <= writes(api, "watch") <= 5  # after 0.2, 0.6, 1.4 seconds
        await store.commit(Put(network()))
        await watching


@awaited
async def test_a_watch_that_has_nothing_to_say_is_kept(api: StandIn, opens: Opens) -> None:
    api.bookmark = 0.2
    async with opens(quiet=0.8) as store:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        await until(lambda: api.watches == 1)
        asked = writes(api, "watch")
        await asyncio.sleep(2)
        assert writes(api, "watch") == asked
        await store.commit(Put(network()))
        await watching


@awaited
async def test_bookmarks_move_a_quiet_watch_past_what_is_forgotten(
    api: StandIn, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection ends as the API server wishes; it goes on from the last bookmark."""
    api.bookmark = 0.1
    monkeypatch.setattr(watching, "_ENDS", (1, 1))
    async with opens() as store:
        quiet = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        await until(lambda: api.watches == 1)
        for at in range(5):
            await asyncio.to_thread(api.put, "nodes", {"metadata": {"name": f"n{at}"}})
        await asyncio.sleep(0.3)
        await asyncio.to_thread(api.forget, 0)
        begun = writes(api, "watch")
        await until(lambda: writes(api, "watch") >= begun + 2)
        await store.commit(Put(network()))
        assert len(await quiet) == 1


# -- objects that nobody can read, or that are too large


@awaited
async def test_what_cannot_be_read_is_handed_over_beside_the_rest(api: StandIn, opens: Opens) -> None:
    async with opens() as store:
        since = await current(store)
        await store.commit(Put(network("good")))
        policy = {"metadata": {"name": "odd", "namespace": "default"}, "spec": {"podSelector": {}, "colour": "blue"}}
        await asyncio.to_thread(api.put, "networkpolicies", policy)
        await asyncio.to_thread(api.put, "networks", {"metadata": {"name": "odd"}, "spec": {"driver": "pigeon"}})
        listing = await store.list(NETWORKS)
        assert [one.name for one in listing.objects] == ["good"]
        (broken,) = listing.broken
        assert (broken.key, broken.metadata.uid != "") == (("", "odd"), True)
        assert "pigeon" in broken.reason
        told = await take(store, NETWORKS, since, 2)
        assert isinstance(told[1].object, Broken)
        (half,) = (await store.list(NetworkPolicy.plural)).broken
        assert half.key == ("default", "odd")
        assert "spec.colour" in half.reason
        (mended,) = await store.commit(Put(network("odd")))
        assert isinstance(mended, Network)
        assert mended.metadata.uid == broken.metadata.uid


@awaited
async def test_a_line_of_nonsense_ends_a_watch_with_words(api: StandIn, opens: Opens) -> None:
    async with opens() as store:
        await asyncio.to_thread(api.put, "networks", {"metadata": {"name": "odd"}, "spec": 7})
        (broken,) = (await store.list(NETWORKS)).broken
        assert "spec" in broken.reason


@awaited
async def test_what_is_too_large_is_refused_with_the_reason(opens: Opens) -> None:
    large = "x" * (300 << 10)
    async with opens() as store:
        with pytest.raises(Invalid, match=r"metadata.annotations: .*262144"):
            await store.commit(Put(network(annotations={"text": large})))
        huge = Network(metadata=Meta(name="huge"), spec=NetworkSpec(options={"text": "x" * (4 << 20)}))
        with pytest.raises(Invalid, match="at most"):
            await store.commit(Put(huge))


@awaited
async def test_what_others_wrote_into_an_object_stays(api: StandIn, opens: Opens) -> None:
    async with opens() as store:
        meta = {"name": "blue", "finalizers": ["example.com/a"], "ownerReferences": [{"name": "x"}], "labels": {"a": "b"}}
        await asyncio.to_thread(api.put, "networks", {"metadata": meta, "spec": {}, "status": {"conditions": []}})
        await store.commit(Put(network(internal=True, labels={"c": "d"})))
        tree = api.tree("networks", ("", "blue"))
        assert tree["metadata"]["finalizers"] == ["example.com/a"]
        assert tree["metadata"]["ownerReferences"] == [{"name": "x"}]
        assert tree["metadata"]["labels"] == {"c": "d"}
        assert tree["spec"] == {"internal": True}
        assert "status" in tree


# -- kinds that a cluster may not have


@awaited
async def test_a_kind_that_is_not_served_is_empty_until_it_is(
    api: StandIn, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK", (0.05, 0.1))
    plural = ClusterNetworkPolicy.plural
    async with opens() as store:
        listing = await store.list(plural)
        assert (listing.objects, listing.broken, listing.revision) == ((), (), 0)
        waiting = asyncio.create_task(take(store, plural, 0, 1))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await asyncio.to_thread(api.serve, KINDS_OF_POLICIES)
        with pytest.raises(Compacted, match="list"):
            await waiting
        assert (await store.list(plural)).revision > 0


@awaited
async def test_of_a_kind_that_is_not_served_nothing_is_found_by_whatever_name(api: StandIn, opens: Opens) -> None:
    """A name that nothing can have, too, by which is asked whether anybody answers."""
    async with opens() as store:
        for name in ("any", "/"):
            assert await store.get(ClusterNetworkPolicy.plural, ("", name)) is None
        await asyncio.to_thread(api.unserve, NETWORKS)
        for name in ("any", "/"):
            with pytest.raises(Unavailable, match=r"install the definitions"):
                await store.get(NETWORKS, ("", name))


@awaited
async def test_what_is_followed_is_followed_on_when_the_token_is_good_again(
    api: StandIn, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all kinds, those that the cluster does not have included."""
    heard: list[str] = []
    monkeypatch.setattr(watching, "_LOOK", (0.05, 0.1))
    async with opens() as store:
        plurals = (NETWORKS, ClusterNetworkPolicy.plural)
        cache = Cache(store, plurals, lambda events: heard.extend(one.object.name for one in events))
        following = asyncio.create_task(cache.run())
        await cache.synced()
        api.call(lambda: setattr(api.gate, "tokens", {"another": "agent"}))
        await asyncio.to_thread(api.stop)
        await asyncio.to_thread(api.start)
        await until(lambda: "does not know who is asking" in cache.state.why)
        api.call(lambda: setattr(api.gate, "tokens", {}))
        await until(lambda: cache.state.away is None)
        await store.commit(Put(network("late")))
        await until(lambda: heard == ["late"])
        following.cancel()


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
async def test_a_kind_that_is_gone_for_a_moment_is_not_forgotten(
    api: StandIn, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an API server's may be that has just started: to believe it would be to drop every policy."""
    plural = ClusterNetworkPolicy.plural
    await asyncio.to_thread(api.serve, KINDS_OF_POLICIES)
    async with opens() as store:
        await store.list(plural)
        await asyncio.to_thread(api.unserve, plural)
        with pytest.raises(Unavailable, match="which it had"):
            await store.list(plural)
        await asyncio.to_thread(api.serve, KINDS_OF_POLICIES)
        assert (await store.list(plural)).revision > 0
        await asyncio.to_thread(api.unserve, plural)
        monkeypatch.setattr(discovery, "GONE", 0.0)
        assert (await store.list(plural)).revision == 0


@awaited
async def test_definitions_that_are_missing_are_named_with_what_to_do(api: StandIn, opens: Opens) -> None:
    await asyncio.to_thread(api.unserve, "networks")
    async with opens() as store:
        since = 5
        for ask in (store.list(NETWORKS), store.get(NETWORKS, ("", "blue")), store.commit(Put(network(), expect=""))):
            with pytest.raises(Unavailable, match=r"networks.fairlead.dev; .*kubectl apply"):
                await ask
        with pytest.raises(Unavailable, match="kubectl apply"):
            await take(store, NETWORKS, since, 1)


@awaited
async def test_a_watch_told_of_an_error_in_its_midst_goes_on_from_where_it_was(api: StandIn, opens: Opens) -> None:
    async with opens() as store, aclosing(store.watch(NETWORKS, await current(store))) as told:
        first: asyncio.Future[Event] = asyncio.ensure_future(anext(told))
        await until(lambda: api.watches == 1)
        await store.commit(Put(network("a")))
        assert (await first).kind is EventKind.ADDED
        second: asyncio.Future[Event] = asyncio.ensure_future(anext(told))
        await away(api)
        await back(api)
        await store.commit(Put(network("b")))
        assert (await second).object.name == "b"
