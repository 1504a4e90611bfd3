"""Whether everything that is stored can be read."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, error, ok

_EFFECTS = {
    "networkpolicies": "whom it may select is isolated",
    "clusternetworkpolicies": "what of it cannot be read accepts nothing, and else denies",
    "adminnetworkpolicies": "what of it cannot be read allows nothing, and else denies",
    "baselineadminnetworkpolicies": "what of it cannot be read allows nothing, and else denies",
    "namespaces": "nothing passes to or from its containers",
    "networks": "its containers have no network",
    "endpoints": "it has no link",
}


def check(facts: Facts) -> Iterable[Finding]:
    """One finding for each object that another version or a person wrote, and nobody here can read."""
    if not facts.unreadable:
        yield ok("objects", "everything that is stored can be read")
    for one in facts.unreadable:
        effect = _EFFECTS.get(one.plural, "it counts as not there")
        yield error(
            "objects",
            f"{one.plural} {one.name} cannot be read ({one.reason}): {effect}",
            f"apply it anew, or remove it: fairlead delete {one.plural} {one.name}",
        )
