"""A table of ours as a value: what makes it up, and the text that puts it in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

from . import layout
from .elements import Elements
from .layout import Layout

NAME = "fairlead"
"""What a table of ours is called, unless there is another of its family."""


class Table(NamedTuple):
    """One table: its family, the sets whose elements come and go, and everything else, which stays.

    One with ``wakes`` is dormant while none of these sets has an element: packets do not even come by.
    """

    family: str
    sets: Mapping[str, Layout]
    body: str
    name: str = NAME
    wakes: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        """How nft and the kernel's events name it."""
        return f"{self.family} {self.name}"

    @property
    def version(self) -> str:
        """A short text that is another when the body is."""
        return blake2b(self.body.encode(), digest_size=8).hexdigest()

    def is_needed(self, found: Elements) -> bool:
        """Whether these elements give it something to do."""
        return not self.wakes or any(found.get(name) for name in self.wakes)

    def text(self, found: Elements) -> str:
        """The whole table with its elements, as commands that replace what was there."""
        path = self.path
        flags = "" if self.is_needed(found) else "\n    flags dormant;"
        lines = [f"add table {path}", f"delete table {path}", f"table {path} {{{flags}{self.body}}}", *self._elements(found)]
        return "\n".join(lines) + "\n"

    def _elements(self, found: Elements) -> Iterator[str]:
        for name, shape in self.sets.items():
            if elements := found.get(name):
                shown = ", ".join(layout.text(shape, one) for one in sorted(elements))
                yield f"add element {self.path} {name} {{ {shown} }}"
