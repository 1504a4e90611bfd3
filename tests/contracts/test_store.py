"""One suite for every store: what ``store.base`` promises, asked of each implementation."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid, Missing, Unavailable, Unsupported
from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec
from fairlead.store.base import MAX_CHANGES, MAX_OBJECT, Delete, Put, Store
from tests.contracts.stores import ENDPOINTS, NETWORKS, Opened, awaited, commit, current, endpoint, network, revision, take

# -- one object


@awaited
async def test_what_was_put_is_there(opened: Opened) -> None:
    async with opened(clock=lambda: 1_700_000_000.0) as store:
        (put,) = await store.commit(Put(network(labels={"tier": "web"})))
        assert put == await store.get(NETWORKS, ("", "blue"))
        assert put is not None
        assert put.metadata.labels == {"tier": "web"}
        assert revision(put) <= await current(store)
        if opened.alone:
            assert revision(put) == await current(store)
            assert put.metadata.creation_timestamp == "2023-11-14T22:13:20Z"
        assert re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", put.metadata.creation_timestamp)
        assert len(put.metadata.uid) == 36


@awaited
async def test_what_was_not_put_is_not_there(opened: Opened) -> None:
    async with opened() as store:
        assert await store.get(NETWORKS, ("", "blue")) is None
        assert (await store.list(NETWORKS)).objects == ()


@awaited
async def test_uid_and_birth_stay_whatever_the_caller_writes(opened: Opened) -> None:
    async with opened() as store:
        (first,) = await store.commit(Put(network(uid="mine", creation_timestamp="1999-01-01T00:00:00Z")))
        (second,) = await store.commit(Put(network(internal=True, uid="other", resource_version="77")))
        assert first is not None
        assert second is not None
        assert first.metadata.uid != "mine"
        assert second.metadata.uid == first.metadata.uid
        assert second.metadata.creation_timestamp == first.metadata.creation_timestamp
        assert revision(second) > revision(first)


@awaited
async def test_one_made_again_is_another(opened: Opened) -> None:
    async with opened() as store:
        (first,) = await store.commit(Put(network()))
        (gone,) = await store.commit(Delete(NETWORKS, ("", "blue")))
        (second,) = await store.commit(Put(network()))
        assert first is not None
        assert second is not None
        assert first.metadata.uid != second.metadata.uid
        assert revision(first) <= revision(gone) < revision(second)
        assert not opened.alone or revision(first) < revision(gone)


@awaited
async def test_a_put_that_changes_nothing_takes_no_revision(opened: Opened) -> None:
    async with opened() as store:
        (first,) = await store.commit(Put(network()))
        (again,) = await store.commit(Put(network()))
        assert again == first
        assert not opened.alone or await current(store) == revision(first)
        several = await commit(store, Put(network()), Put(network("red")), Put(network("green")))
        assert several[0] == first
        assert await commit(store, Put(network()), Put(network("red"))) == several[:2]
        assert not opened.alone or await current(store) == revision(several[2])


@awaited
async def test_delete_returns_what_was_there(opened: Opened) -> None:
    async with opened() as store:
        (put,) = await store.commit(Put(network()))
        (gone,) = await store.commit(Delete(NETWORKS, ("", "blue")))
        assert put is not None
        assert gone is not None
        assert gone.metadata.uid == put.metadata.uid
        assert revision(gone) >= revision(put)
        assert not opened.alone or revision(gone) > revision(put)
        assert await store.get(NETWORKS, ("", "blue")) is None
        assert await store.commit(Delete(NETWORKS, ("", "blue"))) == (None,)


@awaited
async def test_listing_is_by_key_and_of_one_kind(opened: Opened) -> None:
    async with opened() as store:
        await commit(store, *(Put(network(name)) for name in ("c", "a", "b")), Put(endpoint("x")))
        listing = await store.list(NETWORKS)
        assert [one.name for one in listing.objects] == ["a", "b", "c"]
        assert listing.revision >= max(map(revision, listing.objects))


@awaited
async def test_an_object_handed_out_is_not_the_stored_one(opened: Opened) -> None:
    async with opened() as store:
        mine = network(labels={"tier": "web"})
        (put,) = await store.commit(Put(mine))
        got = await store.get(NETWORKS, ("", "blue"))
        assert put is not None
        assert got is not None
        for thing in (mine, put, got):
            thing.metadata.labels["tier"] = "changed"
        fresh = await store.get(NETWORKS, ("", "blue"))
        assert fresh is not None
        assert fresh.metadata.labels == {"tier": "web"}


# -- what is refused


@awaited
async def test_an_unknown_kind_is_named(opened: Opened) -> None:
    async with opened() as store:
        for ask in (
            store.get("wishes", ("", "x")),
            store.list("wishes"),
            store.deleted("wishes"),
            store.commit(Delete("wishes", ("", "x"))),
        ):
            with pytest.raises(Missing, match="wishes"):
                await ask
        with pytest.raises(Missing, match="wishes"):
            await take(store, "wishes", 0, 1)


@awaited
async def test_expectations(opened: Opened) -> None:
    async with opened() as store:
        for absent in ("", 0, "0"):
            (made,) = await store.commit(Put(network(f"n{absent or 'e'}{type(absent).__name__}"), expect=absent))
            assert made is not None
        (first,) = await store.commit(Put(network(), expect=""))
        with pytest.raises(Conflict, match=f"networks/blue exists already, at revision {revision(first)}") as taken:
            await store.commit(Put(network(internal=True), expect=""))
        assert int(taken.value.revision) == revision(first)
        (second,) = await store.commit(Put(network(internal=True), expect=revision(first)))
        for stale in (Put(network(), expect=str(revision(first))), Delete(NETWORKS, ("", "blue"), expect=revision(first))):
            with pytest.raises(Conflict, match=f"revision {revision(second)}") as lost:
                await store.commit(stale)
            assert int(lost.value.revision) == revision(second)
        for gone in (Put(network("red"), expect="1"), Delete(NETWORKS, ("", "red"), expect="1")):
            with pytest.raises(Missing, match="networks/red"):
                await store.commit(gone)
        with pytest.raises(Invalid, match="abc"):
            await store.commit(Put(network(), expect="abc"))
        await store.commit(Delete(NETWORKS, ("", "blue"), expect=revision(second)))


@awaited
async def test_all_or_nothing(opened: Opened) -> None:
    async with opened() as store:
        if store.at_once == 1:
            pytest.skip("it changes one object at a time")
        await store.commit(Put(network("a")), Put(network("b")))
        before = await store.list(NETWORKS)
        since = before.revision
        fine = (Put(network("a", internal=True)), Delete(NETWORKS, ("", "b")), Put(network("c")))
        for refused in (Put(endpoint("x"), expect="7"), Delete(ENDPOINTS, ("", "x"), expect="7")):
            for changes in ((*fine, refused), (refused, *fine)):
                with pytest.raises(Missing):
                    await store.commit(*changes)
        assert await store.list(NETWORKS) == before
        assert await store.commit(*fine) != (None, None, None)
        told = [(event.kind.value, event.object.name) for event in await take(store, None, since, 3)]
        assert told == [("modified", "a"), ("deleted", "b"), ("added", "c")]
        assert [one.name for one in (await store.list(NETWORKS)).objects] == ["a", "c"]


@awaited
async def test_more_than_a_store_takes_is_refused_whole(opened: Opened) -> None:
    async with opened() as store:
        if store.at_once > 1:
            pytest.skip("it takes several")
        with pytest.raises(Unsupported, match="these are 2"):
            await store.commit(Put(network("a")), Put(network("b")))
        assert (await store.list(NETWORKS)).objects == ()


@awaited
async def test_an_empty_commit_is_nothing(opened: Opened) -> None:
    async with opened() as store:
        before = await current(store)
        assert await store.commit() == ()
        assert not opened.alone or await current(store) == before


@awaited
async def test_one_object_twice_in_a_commit_is_refused(opened: Opened) -> None:
    async with opened() as store:
        with pytest.raises(Invalid, match="networks/blue"):
            await store.commit(Put(network()), Delete(NETWORKS, ("", "blue")))
        assert await store.get(NETWORKS, ("", "blue")) is None


@awaited
async def test_what_cannot_be_kept_is_refused_alone(opened: Opened) -> None:
    huge = Network(metadata=Meta(name="huge", annotations={"text": "x" * (2 << 20)}))
    broken = Network(metadata=Meta(name="broken", annotations={"text": "\udcff"}))
    async with opened() as store:
        asked = (
            store.commit(Put(network("a"))),
            store.commit(Put(huge)),
            store.commit(Put(broken)),
            store.commit(Put(network("b"))),
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, Invalid, Invalid, tuple]
        assert [one.name for one in (await store.list(NETWORKS)).objects] == ["a", "b"]


@awaited
async def test_hostile_names_and_values_are_kept_as_they_are(opened: Opened) -> None:
    """Names are checked where they enter; a store keeps apart whatever comes, and takes none of it for a path or a pattern."""
    names = [
        "a/b",
        "/",
        "..",
        ".",
        "%2F",
        "%",
        "",
        " ",
        "a\x00b",
        "\n",
        "ü",
        "\U0001f980",
        "*",
        "'; DROP TABLE objects; --",
        "x" * 250,
    ]
    keys = [(namespace, name) for namespace in ("", "a", "a/b", "%2F", "..", "ns") for name in names]
    async with opened() as store:
        since = await current(store)
        for at in range(0, len(keys), 10):
            some = [Put(odd(*key), expect="") for key in keys[at : at + 10]]
            await commit(store, *some)
        listing = await store.list(ENDPOINTS)
        assert [one.key for one in listing.objects] == sorted(keys)
        for key in keys:
            assert (found := await store.get(ENDPOINTS, key)) is not None
            assert found.key == key
        assert [event.object.key for event in await take(store, ENDPOINTS, since, len(keys))] == keys
        text = "".join(map(chr, (*range(0xD800), *range(0xE000, 0xE100), 0x10FFFF)))
        names = {"\x00": "\x00", "": ""} if opened.any_text else {}
        thing = odd("\x00", "odd", annotations={"text": text, **names}, uid="\x00")
        (put,) = await store.commit(Put(thing))
        assert put is not None
        assert put.metadata.annotations == thing.metadata.annotations
        assert await store.get(ENDPOINTS, ("\x00", "odd")) == put
        for at in range(0, len(keys), 10):
            await commit(store, *(Delete(ENDPOINTS, key) for key in keys[at : at + 10]))
        assert (await store.list(ENDPOINTS)).objects == (put,)


def odd(namespace: str, name: str, **meta: Any) -> Endpoint:
    """An object of a kind whose names nobody checks."""
    return replace(endpoint("x"), metadata=Meta(namespace=namespace, name=name, **meta))


@awaited
async def test_a_name_that_is_no_text_is_refused(opened: Opened) -> None:
    async with opened() as store:
        for key in (("", "\udcff"), ("\udcff", "a")):
            with pytest.raises(Invalid, match="Unicode"):
                await store.get(ENDPOINTS, key)
            for change in (Put(odd(*key)), Put(odd(*key), expect=""), Delete(ENDPOINTS, key)):
                with pytest.raises(Invalid, match="Unicode"):
                    await store.commit(change)


@awaited
async def test_many_objects_are_listed_whole(opened: Opened) -> None:
    """In however many pages a store reads them, and whatever happens meanwhile: as they were at one moment."""
    async with opened() as store:
        for at in range(0, 2500, 100):
            await commit(store, *(Put(endpoint(f"e{one:04}", 1), expect="") for one in range(at, at + 100)))

        async def churn() -> None:
            for at in range(60):
                old, new = f"e{at:04}:eth0", Put(endpoint(f"z{at:04}", 1))
                await commit(store, Delete(ENDPOINTS, ("", old)), new)

        churning = asyncio.create_task(churn())
        while not churning.done():
            listing = await store.list(ENDPOINTS)
            await asyncio.sleep(0)
            assert len(listing.objects) in ({2500} if store.at_once > 1 else {2499, 2500})
            assert len({one.name for one in listing.objects}) == len(listing.objects)
            assert listing.revision >= max(map(revision, listing.objects))
        await churning


@awaited
async def test_large_objects_are_kept_and_listed(opened: Opened) -> None:
    async with opened() as store:
        text = "x" * (MAX_OBJECT - 1000)
        for at in range(6):
            await store.commit(Put(Network(metadata=Meta(name=f"n{at}"), spec=NetworkSpec(options={"text": text}))))
        listing = await store.list(NETWORKS)
        assert [one.spec.options["text"] == text for one in listing.objects if isinstance(one, Network)] == [True] * 6


@awaited
async def test_as_many_changes_as_every_store_takes(opened: Opened) -> None:
    async with opened() as store:
        put = await commit(store, *(Put(endpoint(f"e{at}")) for at in range(MAX_CHANGES)))
        gone = await commit(
            store, *(Delete(ENDPOINTS, ("", f"e{at}:eth0"), expect=revision(put[at])) for at in range(MAX_CHANGES))
        )
        assert len(put) == len(gone) == MAX_CHANGES
        assert (await store.list(ENDPOINTS)).objects == ()


@awaited
async def test_a_closed_store_says_so(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(Put(network()))
        await store.close()
        await store.close()
        for ask in (
            store.get(NETWORKS, ("", "blue")),
            store.list(NETWORKS),
            store.commit(Put(network())),
            store.deleted(NETWORKS),
        ):
            with pytest.raises(Unavailable, match="closed"):
                await ask
        with pytest.raises(Unavailable, match="closed"):
            await take(store, NETWORKS, 0, 1)


# -- many at once


@awaited
async def test_no_update_is_lost(opened: Opened) -> None:
    async def bump(store: Store, times: int) -> int:
        conflicts = 0
        while times:
            now = await store.get(ENDPOINTS, ("", "x:eth0"))
            assert isinstance(now, Endpoint)
            try:
                await store.commit(Put(endpoint("x", now.spec.mtu + 1), expect=now.metadata.resource_version))
                times -= 1
            except Conflict:
                conflicts += 1
                await asyncio.sleep(0)
        return conflicts

    async with opened() as store:
        (first,) = await store.commit(Put(endpoint("x")))
        await asyncio.gather(*(bump(store, 20) for _ in range(8)))
        last = await store.get(ENDPOINTS, ("", "x:eth0"))
        assert isinstance(last, Endpoint)
        assert last.spec.mtu == 160
        told = [event.object for event in await take(store, ENDPOINTS, revision(first), 160)]
        assert [one.spec.mtu for one in told if isinstance(one, Endpoint)] == list(range(1, 161))


@awaited
async def test_of_many_who_create_one_wins(opened: Opened) -> None:
    async with opened() as store:
        own = range(32 if store.at_once > 1 else 0)
        asked = (
            store.commit(Put(endpoint("x", at), expect=""), *(Put(endpoint(f"own{k}")) for k in own if k == at))
            for at in range(32)
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
        won = [at for at, answer in enumerate(answers) if isinstance(answer, tuple)]
        assert len(won) == 1
        assert all(isinstance(answer, tuple | Conflict) for answer in answers)
        names = {one.name for one in (await store.list(ENDPOINTS)).objects}
        assert names == {"x:eth0", *(f"own{at}:eth0" for at in won if at in own)}


@awaited
async def test_revisions_only_grow(opened: Opened) -> None:
    """A commit's changes may share one, where the store says so; those of two commits never do."""
    async with opened() as store:
        since = await current(store)
        sizes = [1, 2, 3, 4, 5] if store.at_once > 1 else [1] * 15
        asked = (store.commit(*(Put(endpoint(f"e{at}.{k}")) for k in range(size))) for at, size in enumerate(sizes))
        taken = sorted([revision(one) for one in answer] for answer in await asyncio.gather(*asked))
        assert all(one == sorted(one) for one in taken)
        assert all(before[-1] < after[0] for before, after in itertools.pairwise([[since], *taken]))
        events = await take(store, ENDPOINTS, since, 15)
        assert [event.revision for event in events] == [one for some in taken for one in some]


@awaited
async def test_a_caller_that_is_cancelled_harms_nobody(opened: Opened) -> None:
    async with opened() as store:
        tasks = [asyncio.create_task(store.commit(Put(endpoint(f"e{at}")))) for at in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, tuple) for answer in answers[1::2])
        names = {one.name for one in (await store.list(ENDPOINTS)).objects}
        assert {f"e{at}:eth0" for at in range(1, 20, 2)} <= names
