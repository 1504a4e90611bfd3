"""Salvage: what is enforced of a policy that cannot be read. What is not understood opens nothing.

NetworkPolicy
    isolates whom its podSelector means, or all of its namespace, in the directions of its policyTypes, or in both: in each case
    the one if that can be read, else the other
cluster-wide policy
    where tier, priority and subject can be read and the spec holds nothing unknown, its rules count; one that cannot be read
    matches nothing if it accepts, and denies everything if it denies, passes on, or does nobody knows what (the API's own words
    for peers of an unknown kind); else it denies everything, to its subject or to all
Namespace
    its labels are not known: nothing passes to or from its containers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fairlead.model import codec
from fairlead.model.admin import (
    ACTIONS,
    LAST,
    AdminEgressRule,
    AdminIngressRule,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    BaselineEgressRule,
    BaselineIngressRule,
)
from fairlead.model.broken import Broken
from fairlead.model.cluster import (
    Action,
    ClusterEgressRule,
    ClusterIngressRule,
    ClusterNetworkPolicy,
    ClusterSubject,
    Priority,
    Tier,
)
from fairlead.model.errors import Invalid
from fairlead.model.namespace import Namespace
from fairlead.model.policy import NetworkPolicy, PolicyType
from fairlead.model.selector import Selector

from .identity import Numbers, canonical
from .select import DIRECTIONS, LAYERS, TITLES, AnyRule, Clause, Direction, Layer, Part, Prepared, Rule, key_of
from .terms import Labelled, of_subject

T = TypeVar("T")

FIRST = -1
"""A priority before all that can be written: of what is to be closed and says nothing of its place."""

PLURALS = (
    NetworkPolicy.plural,
    ClusterNetworkPolicy.plural,
    AdminNetworkPolicy.plural,
    BaselineAdminNetworkPolicy.plural,
    Namespace.plural,
)
"""The kinds of which something is enforced even if they cannot be read."""

_RULES: Mapping[tuple[str, PolicyType], type[AnyRule]] = {
    (ClusterNetworkPolicy.plural, PolicyType.INGRESS): ClusterIngressRule,
    (ClusterNetworkPolicy.plural, PolicyType.EGRESS): ClusterEgressRule,
    (AdminNetworkPolicy.plural, PolicyType.INGRESS): AdminIngressRule,
    (AdminNetworkPolicy.plural, PolicyType.EGRESS): AdminEgressRule,
    (BaselineAdminNetworkPolicy.plural, PolicyType.INGRESS): BaselineIngressRule,
    (BaselineAdminNetworkPolicy.plural, PolicyType.EGRESS): BaselineEgressRule,
}
_ACCEPTS = {Action.ACCEPT.value, *(word.value for word, action in ACTIONS.items() if action is Action.ACCEPT)}


def salvage(broken: Broken, numbers: Numbers) -> Prepared:
    """What is enforced of it; ``numbers`` those of its rules."""
    match broken.plural:
        case NetworkPolicy.plural:
            return _network(broken)
        case Namespace.plural:
            return _namespace(broken, numbers)
        case _:
            return _cluster(broken, numbers)


def _network(broken: Broken) -> Prepared:
    key, spec = key_of(broken), broken.spec
    selector = _read(spec.get("podSelector", {}), Selector) or Selector()
    types = _read(spec.get("policyTypes"), tuple[PolicyType, ...]) or DIRECTIONS
    return Prepared(
        key=key,
        title=f"{key[1]}/{broken.name}",
        layer=Layer.NETWORK,
        subject=Labelled.by(key[1], selector, None),
        directions={one: Direction("unreadable", ()) for one in DIRECTIONS if one in types},
        wrong=broken.reason,
    )


def _namespace(broken: Broken, numbers: Numbers) -> Prepared:
    part = Part(f"Namespace/{broken.name}", Layer.ADMIN, numbers)
    return Prepared(
        key=key_of(broken),
        title=part.title,
        layer=part.layer,
        priority=FIRST,
        subject=Labelled.by(broken.name, None, None),
        directions={one: _shut(part, one) for one in DIRECTIONS},
        wrong=broken.reason,
    )


def _cluster(broken: Broken, numbers: Numbers) -> Prepared:
    spec = broken.spec
    tier = _read(spec.get("tier"), Tier)
    if broken.plural != ClusterNetworkPolicy.plural:
        tier = Tier.ADMIN if broken.plural == AdminNetworkPolicy.plural else Tier.BASELINE
    priority = LAST if broken.plural == BaselineAdminNetworkPolicy.plural else _read(spec.get("priority"), Priority)
    subject = _read(spec.get("subject"), ClusterSubject)
    layer = LAYERS[tier or Tier.ADMIN]
    part = Part(f"{TITLES.get(broken.plural) or tier or Tier.ADMIN}/{broken.name}", layer, numbers)
    known = {"tier", "priority", "subject", "ingress", "egress"}
    whole = tier is not None and priority is not None and subject is not None and spec.keys() <= known
    directions = {one: _rules(part, one, broken) if whole else _shut(part, one) for one in DIRECTIONS}
    return Prepared(
        key=key_of(broken),
        title=part.title,
        layer=layer,
        priority=priority if whole and priority is not None else FIRST,
        subject=of_subject(subject) if subject else Labelled.by("", None, None),
        directions={one: said for one, said in directions.items() if said.clauses},
        wrong=broken.reason,
    )


def _rules(part: Part, way: PolicyType, broken: Broken) -> Direction:
    """The rules of one direction, each as far as it can be read."""
    rules = broken.spec.get(way.value.lower(), [])
    if not isinstance(rules, list):
        return _shut(part, way)
    clauses: list[Clause] = []
    for at, tree in enumerate(rules):
        if rule := _read(tree, _RULES[broken.plural, way]):
            clauses.append(part.clause(way, at, rule))
        elif not (isinstance(tree, dict) and tree.get("action") in _ACCEPTS):
            clauses.append(_deny(part, way, at))
    return Direction(canonical(rules).decode(), tuple(clauses))


def _shut(part: Part, way: PolicyType) -> Direction:
    return Direction("unreadable", (_deny(part, way, 0),))


def _deny(part: Part, way: PolicyType, at: int) -> Clause:
    """A rule that denies everything to everybody."""
    word = way.value.lower()
    rule = Rule(part.title, word, at, Action.DENY)
    return Clause(part.number(word, at), rule, part.layer, everybody=True, terms=(), ports=())


def _read(tree: Any, to: type[T]) -> T | None:
    try:
        return codec.from_tree(tree, to)
    except (Invalid, RecursionError):
        return None
