"""Whether somebody else sees to the pods' network too, or takes pods for strangers."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, warning

_SHOWN = 6


def networks(facts: Facts) -> Iterable[Finding]:
    """While nodes move from another network both are there; afterwards nobody needs what it left."""
    for network, left in facts.networks.items():
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        yield warning(
            "networks",
            f"{network} is here too: {', '.join(left[:_SHOWN])}{more}",
            f"once every node has moved, remove what it left: docs/kubernetes-install.md, In place of {network}",
        )


def proxy(facts: Facts) -> Iterable[Finding]:
    """Whom kube-proxy takes for the outside it gives the node's address, and policies no longer know the pod behind it."""
    for subnet, known in facts.strangers.items():
        yield warning(
            "kube-proxy",
            f"pods of {subnet} reach Services with their node's address, for kube-proxy takes {known} for the pods",
            "have clusterCIDR in kube-proxy's configuration hold both, and restart it; policies take such a pod for its node",
        )
