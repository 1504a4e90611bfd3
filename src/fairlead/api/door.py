"""What an edge may ask of the agent: the one seam between it and CNI, Docker's driver and the HTTP server.

The agent implements it for real; tests of the edges use a small fake that the same contract suite checks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Protocol

from fairlead.model.endpoint import Endpoint
from fairlead.model.meta import Object
from fairlead.model.network import Network

from .schema import Applied, Attach, Attached, Detach, Detached, Drift, Flow, Report, Status


class Door(Protocol):
    """Everything the agent does for others. Each method raises ``model.errors.Problem`` and nothing else."""

    async def attach(self, request: Attach) -> Attached:
        """Give a namespace an interface; the kernel has acknowledged everything when this returns."""

    async def detach(self, request: Detach) -> Detached:
        """Take interfaces away; never fails because something is already gone."""

    async def check(self, container: str, interface: str) -> tuple[Attached | None, tuple[Drift, ...]]:
        """The endpoint, if known, and how the kernel differs from what it should be for it."""

    async def collect(self, network: str, owner: str, keep: Collection[tuple[str, str]]) -> tuple[Endpoint, ...]:
        """Remove the endpoints of ``owner`` on ``network`` that are not in ``keep`` (container, interface); return them.

        Each is one whose namespace is gone or that the caller no longer knows.
        """

    async def apply(self, thing: Object) -> Applied:
        """Create an object or replace its spec."""

    async def delete(self, plural: str, name: str) -> Object:
        """Remove an object; refuse while others need it."""

    async def purge(self) -> None:
        """Remove every endpoint and everything that Fairlead made from the kernel; networks stay in the store."""

    def objects(self, plural: str) -> list[Object]:
        """All objects of a kind, by name; ``Missing`` if there is no such kind."""

    def network(self, name: str) -> Network | None:
        """One network, or None."""

    def status(self) -> Status:
        """The agent in numbers; ``ready`` tells whether containers may start."""

    async def doctor(self) -> Report:
        """Compare everything, touch nothing."""

    async def flows(self, query: Mapping[str, str]) -> list[Flow]:
        """The last flows that match the words of ``query``; ``Unsupported`` if flows are off."""

    def follow(self, query: Mapping[str, str]) -> AsyncIterator[list[Flow]]:
        """What matches from now on, in batches, until the agent ends."""
