"""Whether the host lets packets through."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, error, ok, warning


def forwarding(facts: Facts) -> Iterable[Finding]:
    """Routing switched off cuts every container from the outside."""
    if facts.forwards:
        yield ok("forwarding", "the host routes packets")
    else:
        yield error("forwarding", "net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1, or restart the agent")


def firewall(facts: Facts) -> Iterable[Finding]:
    """A drop in anybody's forward chain is final, whatever Fairlead accepts."""
    if not facts.dropping:
        yield ok("firewall", "no other forward chain drops by default")
    for chain in facts.dropping:
        yield warning(
            "firewall",
            f"chain {chain} drops forwarded packets by default",
            "containers reach the outside only if that firewall accepts it: allow the bridges there",
        )


def mtu(facts: Facts) -> Iterable[Finding]:
    """A network with larger packets than the uplink takes hangs connections whose path MTU discovery is blocked."""
    fine = True
    for network, (size, fits) in facts.mtus.items():
        if size > fits:
            fine = False
            yield warning(
                "mtu",
                f"network {network} has MTU {size}, of which the uplink carries {fits}",
                f"set spec.mtu of network {network} to {fits}; TCP is clamped meanwhile",
            )
    if fine:
        yield ok("mtu", f"no network sends larger packets than the uplink's {facts.uplink_mtu} bytes")


def ways(facts: Facts) -> Iterable[Finding]:
    """A way that carries less than this end loses large packets, often without a word."""
    for one in facts.narrow:
        yield warning(
            "ways",
            one.told,
            f"let everything between carry {one.mine}, or set both uplinks to {one.found}; routes are limited meanwhile",
        )


def kernel(facts: Facts) -> Iterable[Finding]:
    """What this kernel lacks, and what needs it."""
    lacking = [one for one in facts.capabilities if not one.ok]
    for one in lacking:
        yield warning("kernel", f"this kernel has no {one.name}", f"needs {one.needs}" if one.needs else "")
    if not lacking:
        yield ok("kernel", "everything that Fairlead can use is there")
