"""Whether packets between nodes that are to be encrypted are, and arrive. What cannot be encrypted is not sent."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, error, ok, warning

_SILENCE = 300.0
"""Seconds without a handshake after which something is wrong: there is one every two minutes, as idle peers are greeted too."""


def check(facts: Facts) -> Iterable[Finding]:
    """Nothing is said where nothing is to be encrypted."""
    now = facts.encryption
    if not now.networks or facts.nodes < 2:
        return
    names = ", ".join(now.networks)
    if now.lacking:
        yield error(
            "encryption",
            f"this node reaches no other node's containers on {names}: {now.lacking}",
            "install the package wireguard-go, which is found within a minute, or boot a kernel with CONFIG_WIREGUARD",
        )
        return
    yield from (
        error(
            "encryption",
            f"WireGuard device {one.device} is missing: nothing is sent to other nodes",
            "see the agent's log",
        )
        for one in now.keys
        if not one.up
    )
    for peer in now.peers:
        if peer.problem:
            yield error(
                "encryption",
                f"nothing is sent to {peer.node} on {names}: {peer.problem}",
                f"fairlead doctor on {peer.node}; its agent must run, and find WireGuard or the package wireguard-go",
            )
        elif peer.sent and (peer.handshake is None or peer.handshake > _SILENCE):
            ago = "never" if peer.handshake is None else f"{peer.handshake:.0f} s ago the last time"
            yield warning(
                "encryption",
                f"{peer.node} ({peer.endpoint}) does not answer WireGuard: {ago}",
                f"let UDP port {peer.endpoint.rpartition(':')[2]} pass between the nodes",
            )
    if not any(one.problem for one in now.peers):
        yield ok("encryption", f"packets to {len(now.peers)} other nodes on {names} are encrypted by {now.by}")
