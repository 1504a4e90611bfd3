"""What an edge may ask of the agent: the one seam between it and CNI, Docker's driver and the HTTP server.

The agent implements it for real; tests of the edges use a small fake that the same contract suite checks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Protocol

from fairlead.model.address import Family, Prefix
from fairlead.model.broken import Broken
from fairlead.model.endpoint import Endpoint
from fairlead.model.meta import Object
from fairlead.model.network import Network
from fairlead.model.pod import Pod
from fairlead.model.reservation import Reservation

from .encryption import Encryption, Rotated
from .identities import Identity
from .routing import BgpRoute, BgpStatus
from .schema import (
    Applied,
    Attach,
    Attached,
    Change,
    Detach,
    Detached,
    Drift,
    Explained,
    Flow,
    Previewed,
    Proposal,
    Report,
    Reserve,
    RuleHits,
    Status,
)


class Door(Protocol):
    """Everything the agent does for others. Each method raises ``model.errors.Problem`` and nothing else."""

    @property
    def loaded(self) -> bool:
        """Whether it is known what there is, so that something can be taken away."""

    async def attach(self, request: Attach) -> Attached:
        """Give a namespace an interface; the kernel has acknowledged everything when this returns."""

    async def change(self, request: Change) -> Attached:
        """Change what an endpoint has; ``Missing`` if there is none."""

    async def reserve(self, request: Reserve) -> Reservation:
        """Set an address or a network aside; ``delete`` gives it back."""

    async def detach(self, request: Detach) -> Detached:
        """Take interfaces away; never fails because something is already gone."""

    async def pod(self, namespace: str, name: str, uid: str) -> Pod | None:
        """The pod of these names, waited for as long as is decent; None where Kubernetes does not run the nodes."""

    async def check(self, container: str, interface: str) -> tuple[Attached | None, tuple[Drift, ...]]:
        """The endpoint, if known, and how the kernel differs from what it should be for it."""

    async def collect(
        self, network: str, owner: str, keep: Collection[tuple[str, str]], labels: Mapping[str, str]
    ) -> tuple[Endpoint, ...]:
        """Remove the endpoints of ``owner`` on ``network`` with ``labels`` that are not in ``keep`` (container, interface).

        Those whose namespace is gone go at once, others when a later call does not name them either. Return those that went.
        """

    async def apply(self, thing: Object) -> Applied:
        """Create an object or replace its spec."""

    async def delete(self, plural: str, name: str) -> Object | Broken:
        """Remove an object, or what is stored as one and cannot be read; refuse while others need it."""

    async def purge(self) -> None:
        """Remove every endpoint and everything that Fairlead made from the kernel; networks stay in the store."""

    def objects(self, plural: str, *, everywhere: bool = False, reveal: bool = False) -> list[Object]:
        """All objects of a kind, by name; ``Missing`` if there is no such kind.

        ``everywhere``: other nodes' endpoints too; ``reveal``: what Secrets hold, and not only how much.
        """

    def network(self, name: str) -> Network | None:
        """One network, or None."""

    def free(self, family: Family) -> Prefix:
        """A subnet that nobody uses, kept from others for a minute."""

    def status(self) -> Status:
        """The agent in numbers; ``ready`` tells whether containers may start."""

    async def doctor(self) -> Report:
        """Compare everything, touch nothing."""

    async def encryption(self) -> Encryption:
        """Encryption between this node and the others."""

    async def rotate(self) -> Rotated:
        """Begin to replace the keys of all nodes."""

    async def bgp_status(self) -> BgpStatus:
        """The BGP speaker and its neighbours."""

    async def bgp_routes(self, query: Mapping[str, str]) -> list[BgpRoute]:
        """The routes that it knows; the words are ``peer`` and ``show`` (exported or filtered)."""

    async def explain(self, query: Mapping[str, str]) -> Explained:
        """Whether one may open a connection to another, and why; the words are ``from``, ``to``, ``protocol``, ``port``."""

    async def preview(self, proposal: Proposal) -> Previewed:
        """What would change if objects were applied or deleted; nothing is."""

    async def identities(self, query: Mapping[str, str]) -> list[Identity]:
        """The numbers by which the kernel knows who is who, or with the word ``who`` his."""

    async def hits(self) -> list[RuleHits]:
        """Every rule and how often it has decided."""

    async def flows(self, query: Mapping[str, str]) -> list[Flow]:
        """The last flows that match the words of ``query``; ``Unsupported`` if flows are off."""

    def follow(self, query: Mapping[str, str]) -> AsyncIterator[list[Flow]]:
        """What matches from now on, in batches, until the agent ends."""
