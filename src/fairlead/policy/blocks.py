"""Blocks: the CIDRs that policies use, and which of them hold an address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from fairlead.model.address import Address, Family, Prefix

BITS = {4: 32, 6: 128}


class Spot(NamedTuple):
    """An address or prefix as numbers: arithmetic without parsing."""

    family: Family
    value: int
    length: int

    @classmethod
    def of(cls, where: Address | Prefix) -> Spot:
        """The spot of an address (of full length) or a prefix."""
        family = where.family
        if isinstance(where, Address):
            return cls(family, int(where.ip), BITS[family])
        return cls(family, int(where.net.network_address), where.length)


class Blocks:
    """CIDRs, counted by use. They are nested or apart, so the longest that holds an address says which others do."""

    def __init__(self) -> None:
        self._uses: Counter[Prefix] = Counter()
        self._at: dict[Family, dict[int, dict[int, Prefix]]] = {4: {}, 6: {}}

    def __contains__(self, cidr: Prefix) -> bool:
        return cidr in self._uses

    def __iter__(self) -> Iterator[Prefix]:
        return iter(self._uses)

    def add(self, cidr: Prefix) -> bool:
        """Use it once more; whether it was not in use."""
        self._uses[cidr] += 1
        if self._uses[cidr] > 1:
            return False
        family, value, length = Spot.of(cidr)
        self._at[family].setdefault(length, {})[value >> (BITS[family] - length)] = cidr
        return True

    def remove(self, cidr: Prefix) -> bool:
        """Use it once less; whether nobody uses it any more."""
        self._uses[cidr] -= 1
        if self._uses[cidr]:
            return False
        del self._uses[cidr]
        family, value, length = Spot.of(cidr)
        held = self._at[family][length]
        del held[value >> (BITS[family] - length)]
        if not held:
            del self._at[family][length]
        return True

    def holding(self, spot: Spot) -> tuple[Prefix, ...]:
        """Those in use that hold all of ``spot``, itself included, the widest first."""
        family, value, longest = spot
        bits = BITS[family]
        lengths = self._at[family]
        found = (lengths[length].get(value >> (bits - length)) for length in sorted(lengths) if length <= longest)
        return tuple(one for one in found if one is not None)
