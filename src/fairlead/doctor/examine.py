"""Every check there is, in the order in which a person would look."""

from __future__ import annotations

from fairlead.api.schema import Report

from . import bgp, drift, encryption, host, maps, namespaces, nodes, objects, others, pools
from .base import Check, Facts

CHECKS: tuple[Check, ...] = (
    drift.check,  # is the kernel as it should be
    namespaces.check,  # are the containers there
    objects.check,  # can everything be read
    pools.check,  # are there addresses left
    nodes.check,  # are the other nodes there
    encryption.check,  # is what goes to them encrypted
    bgp.check,  # are the neighbours told, and heard
    maps.check,  # is there room for policies
    host.forwarding,  # does the host route
    host.firewall,  # does somebody else drop
    others.networks,  # is another network here
    others.proxy,  # do policies know who asks services
    host.mtu,  # do packets fit
    host.ways,  # do they on the way
    host.kernel,  # what the kernel lacks
)


def examine(facts: Facts) -> Report:
    """Judge the facts."""
    return Report(findings=tuple(finding for check in CHECKS for finding in check(facts)))
