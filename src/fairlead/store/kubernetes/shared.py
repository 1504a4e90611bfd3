"""Shared: values that many objects have, kept once: pods and slices come in tens of thousands."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=Hashable)


class Shared:
    """Values that many have, once. It forgets all when it has grown large: whoever has one keeps it."""

    def __init__(self, most: int = 1 << 14) -> None:
        self._known: dict[Hashable, Any] = {}
        self._most = most

    def one(self, value: T) -> T:
        """The first that was like ``value``."""
        if len(self._known) > self._most:
            self._known.clear()
        found: T = self._known.setdefault(value, value)
        return found

    def labels(self, raw: msgspec.Raw) -> dict[str, str]:
        """Labels as they are written. Nobody may change what he is handed."""
        text = bytes(raw)
        found: dict[str, str] | None = self._known.get(text)
        if found is None:
            if len(self._known) > self._most:
                self._known.clear()
            found = msgspec.json.decode(text, type=dict[str, str] | None) or {} if text else {}
            found = {self.one(key): self.one(value) for key, value in found.items()}
            self._known[text] = found
        return found
