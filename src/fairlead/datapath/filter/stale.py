"""Tracked connections that outlived the rule they were made under.

The kernel keeps a connection's translation for as long as packets come. So a UDP client that never pauses would go on to reach
nobody after its port was published, and a container that is gone, or a stranger with its address, after it was withdrawn.
Only what is provably stale is forgotten; every other connection goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.desired.state import Publication, Row
from fairlead.kernel import conntrack, route
from fairlead.kernel.conntrack import Flow
from fairlead.kernel.netlink import Netlink
from fairlead.model.endpoint import Protocol

NUMBERS = {Protocol.TCP: conntrack.TCP, Protocol.UDP: conntrack.UDP, Protocol.SCTP: conntrack.SCTP}


def forget(nl: Netlink, added: Iterable[Row], removed: Iterable[Row]) -> int:
    """Forget what ``added`` publications would never see and what ``removed`` ones led somewhere; return how many.

    A listing takes the kernel some 10 ms: not while somebody waits.
    """
    gone = [row for row in removed if isinstance(row, Publication)]
    new = [row for row in added if isinstance(row, Publication) and row.protocol is not Protocol.TCP]
    stale = [flow for row in gone for flow in _flows(nl, row) if _led(flow, row)]
    if new and (missed := [flow for row in new for flow in _flows(nl, row) if _untranslated(flow)]):
        with Netlink() as links:
            local = {one.address for one in route.addresses(links)}
        stale += [flow for flow in missed if flow.original.destination in local]
    if stale:
        conntrack.delete(nl, *stale)
    return len(stale)


def _flows(nl: Netlink, row: Publication) -> Iterable[Flow]:
    port = row.first if row.count == 1 else 0
    for flow in conntrack.flows(nl, row.family, NUMBERS[row.protocol], destination=row.host or "", port=port):
        if row.first <= flow.original.destination_port < row.first + row.count:
            yield flow


def _led(flow: Flow, row: Publication) -> bool:
    return flow.reply.source == row.target and flow.original.destination != row.target


def _untranslated(flow: Flow) -> bool:
    return flow.reply.source == flow.original.destination
