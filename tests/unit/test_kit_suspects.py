"""Who is missing from one list is spared; who is missing from all of them for long enough is not."""

from __future__ import annotations

from fairlead.kit.suspects import Suspects


class Lists:
    """Lists that come with the time at which they come."""

    def __init__(self, wait: float = 10.0) -> None:
        self.now = 0.0
        self.suspects: Suspects[str] = Suspects(wait, lambda: self.now)

    def at(self, now: float, *missing: str, scope: str = "net") -> set[str]:
        self.now = now
        return set(self.suspects.confirmed(scope, missing))


def test_missing_twice_and_long_enough() -> None:
    lists = Lists()
    assert lists.at(0, "a") == set()
    assert lists.at(9, "a", "b") == set()
    assert lists.at(10, "a", "b") == {"a"}
    assert lists.at(19, "b") == {"b"}


def test_once_seen_it_begins_anew() -> None:
    lists = Lists()
    assert lists.at(0, "a") == set()
    assert lists.at(50) == set()
    assert lists.at(60, "a") == set()
    assert lists.at(70, "a") == {"a"}


def test_even_without_a_wait_once_is_not_enough() -> None:
    lists = Lists(wait=0)
    assert lists.at(0, "a") == set()
    assert lists.at(0, "a") == {"a"}


def test_lists_of_others_say_nothing() -> None:
    lists = Lists()
    assert lists.at(0, "a", scope="red") == set()
    assert lists.at(20, "a", scope="blue") == set()
    assert lists.at(20, "a", scope="red") == {"a"}


def test_whoever_came_to_life_meanwhile_is_acquitted() -> None:
    lists = Lists()
    assert lists.at(0, "a", "b") == set()
    lists.suspects.acquit("net", "a")
    lists.suspects.acquit("other", "a")
    assert lists.at(20, "a", "b") == {"b"}
