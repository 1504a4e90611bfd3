"""BGPFilter: which routes pass a session, by rules."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import msgspec

from .address import FAMILIES, Family, Prefix
from .bgp import check_name
from .meta import GROUP, Object, Value

_MOST_RULES = 256


class FilterAction(StrEnum):
    """What becomes of a route that a rule matches."""

    ACCEPT = "Accept"
    REJECT = "Reject"


class MatchOperator(StrEnum):
    """How a route's prefix is compared with ``cidr``: the same, another, inside it (or the same), not inside it."""

    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    IN = "In"
    NOT_IN = "NotIn"


class PrefixLength(Value, frozen=True, kw_only=True):
    """How long a prefix may be, both included; left out, ``min`` is that of ``cidr`` and ``max`` that of an address."""

    min: Annotated[int, msgspec.Meta(ge=0, le=128)] | None = None
    max: Annotated[int, msgspec.Meta(ge=0, le=128)] | None = None


_INTERFACES = re.compile(r"[A-Za-z0-9_.@=+*?-]{1,15}")


class BGPFilterRule(Value, frozen=True, kw_only=True):
    """What becomes of routes that meet all that it says; a rule that says nothing is met by every route.

    ``source``: RemotePeers, learned by BGP. ``interface``: by which the host reaches the next hop; ``*`` and ``?`` are wild.
    """

    action: FilterAction
    match_operator: MatchOperator | None = None
    cidr: Prefix | None = None
    prefix_length: PrefixLength | None = None
    source: Literal["RemotePeers"] | None = None
    interface: str = ""

    def __post_init__(self) -> None:
        if self.cidr is not None and self.match_operator is None:
            raise ValueError(f"matchOperator: is required beside cidr: one of {', '.join(MatchOperator)}")
        if self.match_operator is not None and self.cidr is None:
            raise ValueError("cidr: is required beside matchOperator")
        if self.interface and not _INTERFACES.fullmatch(self.interface):
            raise ValueError(f"interface: {self.interface[:40]!r} is not an interface's name, such as eth0 or eth*")
        if self.prefix_length is not None:
            if self.cidr is None or self.match_operator not in {MatchOperator.IN, MatchOperator.NOT_IN}:
                raise ValueError("prefixLength: stands beside cidr with matchOperator In or NotIn")
            low, high = self.lengths
            bits = 32 if self.cidr.family == 4 else 128
            if not self.cidr.length <= low <= high <= bits:
                raise ValueError(f"prefixLength: {low} to {high} is no range within {self.cidr.length} to {bits}")

    @property
    def lengths(self) -> tuple[int, int]:
        """The shortest and the longest prefix that it means inside ``cidr``."""
        assert self.cidr is not None
        bits, said = 32 if self.cidr.family == 4 else 128, self.prefix_length or PrefixLength()
        return (
            self.cidr.length if said.min is None else said.min,
            bits if said.max is None else said.max,
        )


class Way(StrEnum):
    """Which way a route goes."""

    IMPORT = "import"
    EXPORT = "export"


class BGPFilterSpec(Value, frozen=True, kw_only=True):
    """Rules by family and way, of which the first that is met counts; what meets none goes on to the next filter."""

    import_v4: tuple[BGPFilterRule, ...] = ()
    export_v4: tuple[BGPFilterRule, ...] = ()
    import_v6: tuple[BGPFilterRule, ...] = ()
    export_v6: tuple[BGPFilterRule, ...] = ()

    def __post_init__(self) -> None:
        for way in Way:
            for family in FAMILIES:
                field, rules = f"{way}V{family}", self.rules(way, family)
                if len(rules) > _MOST_RULES:
                    raise ValueError(f"{field}: {len(rules)} rules; at most {_MOST_RULES}")
                for at, rule in enumerate(rules):
                    if rule.cidr is not None and rule.cidr.family != family:
                        raise ValueError(f"{field}[{at}].cidr: {rule.cidr} is not of IPv{family}")

    def rules(self, way: Way, family: Family) -> tuple[BGPFilterRule, ...]:
        """The rules of one way and family."""
        named: tuple[BGPFilterRule, ...] = getattr(self, f"{way}_v{family}")
        return named


class BGPFilter(Object, frozen=True, kw_only=True, tag="BGPFilter"):
    """Rules for the routes of a peer."""

    plural: ClassVar[str] = "bgpfilters"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: BGPFilterSpec = BGPFilterSpec()

    def __post_init__(self) -> None:
        check_name(self)
