"""Whether this node speaks BGP with everybody that it should."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fairlead.api.routing import BgpStatus, Neighbour
from fairlead.api.schema import Finding

from .base import Facts, error, ok, warning

_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"there is no Secret|the password in", "write it: a Secret with that key, by fairlead apply"),
    (r"Connection refused", "nothing listens there: start BGP on it, or name its port in peerIP"),
    (r"No route to host|unreachable|Invalid next hop", "this host has no way to it: ip route get ADDRESS"),
    (r"Bad peer AS", "each side must name the other's AS: see asNumber here, and remote-as there"),
    (r"Bad BGP identifier", "two speakers have one router id: set routerID in BGPConfiguration node.NAME"),
    (r"Hold timer expired|BFD", "it fell silent: see whether it runs, and the way to it"),
    (r"rejected|de-configured|shutdown|Administrative", "the other side refuses: have it know this node as a neighbour"),
    (r"Required capability|Unsupported", "the two have no family in common: see families here, and activate there"),
)
_SPEAKER = "the agent tries again by itself; it needs Debian's bird2, and BIRD's log lies in bgp/var of the run directory"
_SILENT = "nobody answers: see that it runs, that TCP port 179 is let through, and that both have the same password"


def check(facts: Facts) -> Iterable[Finding]:
    """One finding for each session that is down; nothing where there is no BGP."""
    status = facts.bgp
    if status is None or (not status.wanted and not status.reason):
        return
    if not status.running or status.reason:
        yield error("bgp", f"the BGP speaker: {status.reason or 'BIRD does not answer'}", _SPEAKER)
    down = [one for one in status.neighbours if not one.up] if status.running else []
    yield from (error("bgp", _down(one), remedy(one)) for one in down)
    for one in status.neighbours:
        if one.up and one.bfd not in {"", "Up"}:
            yield warning(
                "bgp", f"BFD with {one.peer} is {one.bfd}", "have the other side speak it; until then the hold time counts"
            )
        if one.up and any(count.received > count.accepted == 0 for count in one.routes):
            yield warning("bgp", f"nothing that {one.peer} tells passes", f"fairlead bgp routes --peer {one.peer} --filtered")
    if status.running and not down and not status.reason:
        yield ok("bgp", _well(status))


def remedy(one: Neighbour) -> str:
    """What to do about a session that is down."""
    found = next((what for pattern, what in _REMEDIES if re.search(pattern, one.error)), "")
    return (found or _SILENT).replace("ADDRESS", one.address.partition(" ")[0])


def _down(one: Neighbour) -> str:
    state = one.state or "not known to BIRD"
    why = f": {one.error}" if one.error else ""
    return f"the session with {one.peer} ({one.type}, {one.address}, AS {one.asn}) is {state}{why}"


def _well(status: BgpStatus) -> str:
    count = len(status.neighbours)
    return f"AS {status.asn}: {count} session{'' if count == 1 else 's'}, all established" if count else "nobody to speak with"
