"""Table: a mapping that never changes. One with a few changes laid over it shares the rest, and costs what the changes are.

::

    base   what was read as a whole last; shared by every table that came of it since
    laid   what is otherwise since then; None: it is gone

Looking up one key asks ``laid``, then ``base``. Who reads all of it makes the two one, once, for those that come of it later
too; so does a change when ``laid`` has grown to a part of ``base`` that is worth it.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_FEW, _PART = 64, 128
"""So many changes, and as many again as this part of the whole, are laid over before the two are made one."""


class Table(Mapping[K, V]):
    """Values are never None."""

    __slots__ = ("_parts",)

    def __init__(self, base: Mapping[K, V] | None = None) -> None:
        self._parts: tuple[dict[K, V], dict[K, V | None]] = (dict(base or {}), {})

    def over(self, changes: Mapping[K, V | None]) -> Table[K, V]:
        """The table with these in place of what it says of them."""
        base, laid = self._parts
        new: Table[K, V] = Table()
        new._parts = (base, {**laid, **changes})
        if len(laid) + len(changes) > _FEW + len(base) // _PART:
            new._whole()
        return new

    def __getitem__(self, key: K) -> V:
        base, laid = self._parts
        found = laid[key] if key in laid else base[key]
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[K]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def keys(self) -> KeysView[K]:
        """All keys."""
        return self._whole().keys()

    def values(self) -> ValuesView[V]:
        """All values."""
        return self._whole().values()

    def items(self) -> ItemsView[K, V]:
        """All keys with their values."""
        return self._whole().items()

    def _whole(self) -> dict[K, V]:
        """Both parts as one. Threads may do it at once: each comes to the same."""
        base, laid = self._parts
        if laid:
            base = dict(base)
            for key, value in laid.items():
                base.pop(key, None)
                if value is not None:
                    base[key] = value
            self._parts = (base, {})
        return base
