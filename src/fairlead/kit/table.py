"""Table: a mapping that never changes. One that differs in a few keys shares the rest, and costs what the changes are.

It is a tree. A leaf is a dictionary of a few dozen keys at most; above are branches of sixteen, chosen by four bits of a key's
hash at each level. A change copies the leaves that it concerns and the branches above them::

    branch ─┬─ leaf {a, b}            branch' ─┬─ the same leaf
            ├─ leaf {c}       c = 2            ├─ leaf {c}
            └─ branch ...                      └─ the same branch

Nothing is ever put together as a whole, however many changes there have been: a dictionary of fifty thousand keys takes
milliseconds to copy, and again as many when Python looks for garbage in what is new, and a container's start would wait for
both. As long as a table is one leaf its order is that in which keys came; of a larger one it is any.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

_BITS = 4
_WAYS = 1 << _BITS
_MOST = 64
"""Keys of a leaf."""
_DEEPEST = 15
"""Levels: keys whose hashes are the same this far stay in one leaf."""

Tree = dict[K, V] | tuple["Tree[K, V]", ...]


class Table(Mapping[K, V]):
    """Values are never None."""

    __slots__ = ("_tree",)

    def __init__(self, first: Mapping[K, V] | None = None) -> None:
        self._tree: Tree[K, V] = _grown(dict(first or {}), 0)

    def over(self, changes: Mapping[K, V | None]) -> Table[K, V]:
        """The table with these in place of what it says of them; None: it says nothing any more."""
        new: Table[K, V] = Table()
        new._tree = _changed(self._tree, changes, 0)
        return new

    def __getitem__(self, key: K) -> V:
        tree, bits = self._tree, hash(key)
        while isinstance(tree, tuple):
            tree = tree[bits % _WAYS]
            bits >>= _BITS
        return tree[key]

    def __iter__(self) -> Iterator[K]:
        for leaf in self.leaves():
            yield from leaf

    def __len__(self) -> int:
        return sum(map(len, self.leaves()))

    def leaves(self) -> Iterator[Mapping[K, V]]:
        """All of it, a few at a time."""
        return _leaves(self._tree)

    def values(self) -> ValuesView[V]:
        """All values."""
        return _Values(self)

    def items(self) -> ItemsView[K, V]:
        """All keys with their values."""
        return _Items(self)


class _Values(ValuesView[V]):
    """Without looking up each key."""

    _mapping: Table[object, V]

    def __iter__(self) -> Iterator[V]:
        for leaf in self._mapping.leaves():
            yield from leaf.values()


class _Items(ItemsView[K, V]):
    """Without looking up each key."""

    _mapping: Table[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for leaf in self._mapping.leaves():
            yield from leaf.items()


def _leaves(tree: Tree[K, V]) -> Iterator[dict[K, V]]:
    if isinstance(tree, dict):
        yield tree
        return
    for branch in tree:
        yield from _leaves(branch)


def _changed(tree: Tree[K, V], changes: Mapping[K, V | None], depth: int) -> Tree[K, V]:
    if isinstance(tree, dict):
        leaf = {**tree, **changes}
        return _grown({key: value for key, value in leaf.items() if value is not None}, depth)
    branches = list(tree)
    for way, some in _apart(changes, depth).items():
        branches[way] = _changed(branches[way], some, depth + 1)
    return tuple(branches)


def _grown(leaf: dict[K, V], depth: int) -> Tree[K, V]:
    """A leaf, or a branch in place of one that has become too large."""
    if len(leaf) <= _MOST or depth == _DEEPEST:
        return leaf
    found = _apart(leaf, depth)
    return tuple(_grown(found.get(way, {}), depth + 1) for way in range(_WAYS))


def _apart(keys: Mapping[K, V], depth: int) -> dict[int, dict[K, V]]:
    """What belongs to each branch of this level."""
    found: dict[int, dict[K, V]] = {}
    for key, value in keys.items():
        found.setdefault((hash(key) >> _BITS * depth) % _WAYS, {})[key] = value
    return found
