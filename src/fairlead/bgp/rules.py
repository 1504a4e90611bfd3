"""Which routes pass: the cluster's own order, and people's BGPFilters, in BIRD's words.

Who tells whom of what, before filters, which can only take away::

    to a node          what is reached through us
    to a client        the same, and what other nodes told: it is reflected
    to a router        the same; what other nodes told with a higher MED, so that it prefers whom it can reach without us
    from a node        addresses of the cluster
    from a router      everything
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.desired import names
from fairlead.desired.routing import Session, Sieve
from fairlead.model.address import Family, Prefix
from fairlead.model.bgpfilter import BGPFilterRule, FilterAction, MatchOperator, Way

SECOND_HAND = 100
"""The MED of what other nodes told; our own have none, which counts as 0."""


def order(prefix: Prefix) -> tuple[int, int, int]:
    """By which prefixes are sorted."""
    return prefix.family, int(prefix.net.network_address), prefix.length


def plain(text: str) -> str:
    """``text`` as it may stand between quotes or in a comment."""
    return "".join(character if character.isprintable() and character not in '"\\' else "?" for character in text)


def territory(family: Family, prefixes: Iterable[Prefix]) -> Iterator[str]:
    """The function that tells addresses of the cluster from others."""
    inside = ", ".join(f"{prefix}+" for prefix in prefixes if prefix.family == family)
    yield f"function cluster{family}()"
    yield "{"
    yield f"  return net ~ [ {inside} ];" if inside else "  return false;"
    yield "}"


def functions(name: str, sieve: Sieve | None) -> Iterator[str]:
    """A BGPFilter as functions, one for each way and family. One that is not there lets nothing pass."""
    yield f"# BGPFilter {name}" if sieve else f"# There is no BGPFilter {name}, and so nothing passes"
    for way in Way:
        for family in (4, 6):
            yield f"function {_function(name, way, family)}()"
            yield "{"
            if sieve is None:
                yield "  reject;"
            else:
                yield from (f"  {_rule(rule)}" for rule in sieve.rules.rules(way, family))
            yield "}"


def passing(session: Session, family: Family) -> Iterator[str]:
    """What a session lets in and out."""
    yield "import filter {"
    if session.kind != "external":
        yield f"  if !cluster{family}() then reject;"
    yield from (f"  {_function(name, Way.IMPORT, family)}();" for name in session.filters)
    yield "  accept;"
    yield "};"
    yield "export filter {"
    ours = f'proto = "own{family}"'
    if session.kind in {"mesh", "reflector"}:
        yield f"  if !({ours}) then reject;"
    else:  # To BIRD && binds no tighter than ||
        yield f'  if !({ours} || (proto ~ "{names.NODE}.*" && cluster{family}())) then reject;'
    if session.kind == "external" and not session.internal:
        yield f"  if !({ours}) then bgp_med = {SECOND_HAND};"
    yield from (f"  {_function(name, Way.EXPORT, family)}();" for name in session.filters)
    yield "  accept;"
    yield "};"


def _function(name: str, way: Way, family: Family) -> str:
    return f"'{names.symbol(f'{way}{family}', name)}'"


def _rule(rule: BGPFilterRule) -> str:
    met = []
    if rule.cidr is not None:
        met.append(_compared(rule, rule.cidr))
    if rule.source:
        met.append("source = RTS_BGP")
    if rule.interface:
        met.append(f'ifname ~ "{rule.interface}"')
    verdict = "accept" if rule.action is FilterAction.ACCEPT else "reject"
    return f"if {' && '.join(met)} then {verdict};" if met else f"{verdict};"


def _compared(rule: BGPFilterRule, cidr: Prefix) -> str:
    match rule.match_operator:
        case MatchOperator.EQUAL:
            return f"net = {cidr}"
        case MatchOperator.NOT_EQUAL:
            return f"net != {cidr}"
        case _:
            low, high = rule.lengths
            sign = "~" if rule.match_operator is MatchOperator.IN else "!~"
            return f"net {sign} [ {cidr}{{{low},{high}}} ]"
