"""What is known and what is new: each change is told once, and whoever is told knows in the end what the store holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec
from fairlead.store.base import Event, EventKind, Listing
from fairlead.store.mirror import Mirror

ADDED, MODIFIED, DELETED = EventKind.ADDED, EventKind.MODIFIED, EventKind.DELETED


def thing(name: str, revision: int, uid: str = "1", *, internal: bool = False) -> Network:
    return Network(metadata=Meta(name=name, uid=uid, resource_version=str(revision)), spec=NetworkSpec(internal=internal))


def words(events: tuple[Event, ...]) -> list[str]:
    return [f"{event.kind} {event.object.name}" for event in events]


def test_a_first_listing_adds_all() -> None:
    mirror = Mirror()
    assert words(mirror.listed(Listing((thing("a", 1), thing("b", 2)), 5))) == ["added a", "added b"]
    assert mirror.since == 5


def test_a_second_listing_tells_the_difference_and_first_what_is_gone() -> None:
    mirror = Mirror([thing("a", 1), thing("b", 2), thing("c", 3), thing("d", 4)])
    listing = Listing((thing("a", 1), thing("b", 7), thing("d", 8, uid="2"), thing("e", 9)), 9)
    assert words(mirror.listed(listing)) == ["deleted c", "deleted d", "modified b", "added d", "added e"]
    assert mirror.listed(listing) == ()


def test_what_looks_the_same_by_its_revision_but_is_not_is_told() -> None:
    """Another store may stand where the old one was."""
    mirror = Mirror([thing("a", 3)])
    assert words(mirror.listed(Listing((thing("a", 3, internal=True),), 3))) == ["modified a"]


def test_what_is_told_again_is_not_new() -> None:
    mirror = Mirror()
    added = Event(ADDED, thing("a", 4), 4, more=True)
    assert words(mirror.told(added)) == ["added a"]
    assert mirror.since == 3
    assert mirror.told(added) == ()
    gone = Event(DELETED, thing("a", 5), 5)
    assert words(mirror.told(gone)) == ["deleted a"]
    assert mirror.told(gone) == ()
    assert words(mirror.told(Event(ADDED, thing("a", 6), 6))) == ["added a"]
    assert mirror.told(gone) == ()
    assert mirror.since == 6


def test_words_are_those_of_one_who_knows_only_what_he_was_told() -> None:
    mirror = Mirror([thing("a", 1)])
    assert words(mirror.told(Event(ADDED, thing("a", 2), 2))) == ["modified a"]
    assert words(mirror.told(Event(MODIFIED, thing("b", 3), 3))) == ["added b"]
    assert words(mirror.told(Event(MODIFIED, thing("a", 4, uid="2"), 4))) == ["deleted a", "added a"]
    assert mirror.told(Event(DELETED, thing("c", 5), 5)) == ()


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete", "relist", "repeat", "miss"])), min_size=1, max_size=40
)


@given(STEPS)
def test_whoever_follows_knows_what_the_store_holds(steps: list[tuple[str, str]]) -> None:
    """A store, a mirror that misses some events and hears others twice, and one who is told what is new."""
    store: dict[str, Network] = {}
    mirror, follower = Mirror(), dict[str, Network]()
    revision, uids, told = 0, 0, list[Event]()

    def follow(events: tuple[Event, ...]) -> None:
        for event in events:
            assert isinstance(event.object, Network)
            known = event.object.name in follower
            assert known == (event.kind is not ADDED)
            if event.kind is DELETED:
                del follower[event.object.name]
            else:
                follower[event.object.name] = event.object

    for name, act in steps:
        if act == "relist":
            follow(mirror.listed(Listing(tuple(store.values()), revision)))
            told.clear()
        elif act == "repeat" and told:
            follow(tuple(new for event in told[-3:] for new in mirror.told(event)))
        elif act in {"put", "delete", "miss"}:
            revision += 1
            before = store.get(name)
            if act == "delete" and before:
                event = Event(DELETED, thing(name, revision, before.metadata.uid), revision)
                del store[name]
            else:
                uids += before is None
                store[name] = thing(name, revision, before.metadata.uid if before else str(uids), internal=revision % 2 == 0)
                event = Event(MODIFIED if before else ADDED, store[name], revision)
            if act == "miss":  # as after Compacted: the next thing is a listing
                follow(mirror.listed(Listing(tuple(store.values()), revision)))
                told.clear()
            else:
                told.append(event)
                follow(mirror.told(event))
        assert follower == {one.name: one for one in mirror.objects.values()} == store
