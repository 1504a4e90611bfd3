"""Publish: what this node tells the others, itself and its containers on shared networks.

What should be there is compared with what the store is known to hold of this node, so that a restart, a store that was away
and a change of labels are the same: the difference is written. Nobody waits for it; a container works on its own node before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from fairlead.kit.wanted import Wanted
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.errors import Conflict, Missing, Problem, Unavailable
from fairlead.model.meta import Meta
from fairlead.model.network import Network
from fairlead.model.node import Node
from fairlead.store.base import Change, Delete, Key, Put, Store, Stored

from .me import Me
from .pods import told_by_pods

log = logging.getLogger(__name__)

_FIRST, _MOST = 0.2, 30.0
"""Seconds between attempts to reach a store that is away."""
_TRIES = 3
"""Attempts to be heard by somebody who waits, while others write too."""


class Publish:
    """Runs beside the agent for as long as it lives."""

    def __init__(
        self,
        store: Store,
        me: Me,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        shared: Callable[[str], Network | None],
        *,
        kubelet: bool = False,
        contested: Callable[[Endpoint], bool] = lambda _: False,
    ) -> None:
        """``shared`` answers with the network of a name if it reaches over nodes.

        ``kubelet``: others make the node known, and its pods by their first addresses; we add what they do not say, and
        contradict what they say of addresses that are ``contested``.
        """
        self.node: Node | None = None
        self.known: dict[Key, Endpoint] = {}
        """What the store holds of this node's containers, as far as is known."""
        self._store, self._me, self._ask_endpoints, self._shared = store, me, endpoints, shared
        self._kubelet, self._contested = kubelet, contested
        self._writing = asyncio.Lock()
        self._wanted = Wanted(_FIRST, _MOST)

    def want(self) -> None:
        """Something has changed."""
        self._wanted.want()

    def load(self, told: Iterable[Stored]) -> None:
        """Take what an earlier life of this node has told at a start: what has ended since is untold."""
        self.known |= {one.key: one for one in told if isinstance(one, Endpoint) and one.spec.node == self._me.name}

    def hear(self, key: Key, endpoint: Endpoint | None) -> None:
        """The store has, or has no more, a container of this node."""
        if endpoint is None:
            self.known.pop(key, None)
        else:
            self.known[key] = endpoint
        self.want()

    async def run(self) -> None:
        """Write what differs whenever something changed; a store that is away is tried again."""
        self.want()
        await self._wanted.serve(self._tell)

    async def _tell(self) -> bool:
        try:
            await self.write()
        except Problem as problem:
            log.warning("not told to other nodes yet: %s", problem)
            return False
        return True

    async def tell(self, endpoint: Endpoint) -> None:
        """Wait until the store has what others must know of a container; ``Unavailable`` if it does not get there."""
        wanted = self._slim(endpoint)
        for _ in range(_TRIES):
            await self.write()
            have = self.known.get(wanted.key) if wanted else None
            if wanted is None or (have is not None and _alike(have, wanted)):
                return
        raise Unavailable(f"other nodes cannot be told that {endpoint.display} has its addresses; try again")

    async def write(self) -> int:
        """Write what differs; return how many changes that took."""
        async with self._writing:
            return await self._write()

    async def _write(self) -> int:
        count = await self._write_node()
        changes = list(self._changes())
        most = self._store.at_once
        for start in range(0, len(changes), most):
            batch = changes[start : start + most]
            try:
                done = await self._store.commit(*batch)
            except (Conflict, Missing):
                await self._look_again()
                self.want()
                return count
            for change, stored in zip(batch, done, strict=True):
                if isinstance(change, Delete):
                    self.known.pop(change.key, None)
                elif isinstance(stored, Endpoint):
                    self.known[change.key] = stored
            count += len(batch)
        return count

    async def _write_node(self) -> int:
        wanted = self._me.node(self.node)
        if self._kubelet:
            if self.node is None:
                return 0  # kubelet makes it when it joins; then it is heard
            wanted = replace(self.node, metadata=replace(self.node.metadata, annotations=wanted.metadata.annotations))
        if self.node is not None and _bare(wanted) == _bare(self.node):
            return 0
        try:
            (stored,) = await self._store.commit(Put(wanted, self.node.metadata.resource_version if self.node else ""))
        except (Conflict, Missing):
            found = await self._store.get(Node.plural, ("", self._me.name))
            self.node = found if isinstance(found, Node) else None
            self.want()
            return 0
        self.node = stored if isinstance(stored, Node) else None
        return 1

    def _changes(self) -> Iterable[Change]:
        wanted = {one.key: one for one in (self._slim(each) for each in self._ask_endpoints().values()) if one}
        for key, one in wanted.items():
            have = self.known.get(key)
            if have is None or not _alike(have, one):
                yield Put(one, have.metadata.resource_version if have else "")
        for key, have in self.known.items():
            if key not in wanted:
                yield Delete(Endpoint.plural, key, have.metadata.resource_version)

    def _slim(self, endpoint: Endpoint) -> Endpoint | None:
        """What others need to know of a container; None if nothing."""
        spec = endpoint.spec
        meta = endpoint.metadata
        if spec.chained or self._shared(spec.network) is None:
            return None
        if self._kubelet and told_by_pods(endpoint) and not self._contested(endpoint):
            return None  # its pod tells of it
        return Endpoint(
            metadata=Meta(name=f"{meta.name}@{self._me.name}", namespace=meta.namespace, labels=meta.labels),
            spec=EndpointSpec(
                container=spec.container,
                interface=spec.interface,
                network=spec.network,
                sandbox=Sandbox(path=""),
                display=spec.display,
                owner=spec.owner,
                addresses=spec.addresses,
                named_ports=spec.named_ports,
                node=self._me.name,
            ),
        )

    async def _look_again(self) -> None:
        listing = await self._store.list(Endpoint.plural)
        mine = (one for one in listing.objects if isinstance(one, Endpoint) and one.spec.node == self._me.name)
        self.known = {one.key: one for one in mine}


def _alike(one: Endpoint, other: Endpoint) -> bool:
    return one.spec == other.spec and one.metadata.labels == other.metadata.labels


def _bare(node: Node) -> Node:
    """Without what the store adds."""
    return replace(node, metadata=replace(node.metadata, uid="", creation_timestamp=""))
