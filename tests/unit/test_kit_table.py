"""Tables that never change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.kit.table import _MOST, Table

KEYS = st.integers(0, 200)
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.integers(1, 9)), max_size=90)


@given(st.dictionaries(KEYS, st.integers(1, 9)), st.lists(st.tuples(CHANGES, st.booleans()), max_size=12))
def test_each_is_a_dictionary_of_its_own_time(first: dict[int, int], steps: list[tuple[dict[int, int | None], bool]]) -> None:
    table, wanted = Table(first), dict(first)
    before = []
    for changes, read in steps:
        before.append((table, dict(wanted)))
        table = table.over(changes)
        wanted = {key: value for key, value in {**wanted, **changes}.items() if value is not None}
        for key in range(0, 201, 7):
            assert table.get(key) == wanted.get(key)
            assert (key in table) == (key in wanted)
        if read:
            assert table == wanted
    for one, then in [*before, (table, wanted)]:
        assert one == then
        assert len(one) == len(then)
        assert {*one} == {*one.keys()} == {*then}
        assert sorted(one.items()) == sorted(then.items())
        assert sorted(one.values()) == sorted(then.values())


def test_a_change_shares_the_rest() -> None:
    table = Table(dict.fromkeys(range(10_000), 1))
    for key in range(1000):
        before, table = table, table.over({key: 2})
        had = {id(leaf) for leaf in before.leaves()}
        fresh = [leaf for leaf in table.leaves() if id(leaf) not in had]
        assert [key in leaf for leaf in fresh] == [True], "the leaf with the key is copied, and no other"
        assert len(fresh[0]) <= _MOST, "of ten thousand few were copied"
    assert len(table) == 10_000
    assert sum(table.values()) == 11_000


def test_a_small_one_has_the_order_in_which_keys_came() -> None:
    table = Table(dict.fromkeys("cab", 1)).over({"z": 1}).over({"d": 1, "a": 2})
    assert [*table] == ["c", "a", "b", "z", "d"]


class Alike:
    """All of them have the same hash."""

    def __hash__(self) -> int:
        return -1


def test_keys_of_one_hash_can_be_many() -> None:
    keys = [Alike() for _ in range(200)]
    table = Table(dict.fromkeys(keys, 1)).over(dict.fromkeys(keys[:50]))
    assert {*table} == {*keys[50:]}
    assert table[keys[50]] == 1
    assert keys[0] not in table


def test_what_is_gone_is_missing() -> None:
    table = Table({1: 1}).over({1: None})
    for key in (1, 2):
        with pytest.raises(KeyError):
            table[key]
    assert not table
