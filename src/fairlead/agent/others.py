"""Others: the nodes that have the same store. They are heard, told of this one, and seen to be alive or not.

::

    shared store ──► known (a copy lies on this machine) ──► sync ──► networks, blocks, cluster, policies
         ▲    └─ presence: who gives signs of life ─────────────────► cluster
         └────────── publish: this node and its containers
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from fairlead.kit.tasks import forever
from fairlead.store import presence
from fairlead.store.base import Store, Stored
from fairlead.store.cache import State
from fairlead.store.url import Shared

from .cluster import Cluster
from .config import Settings
from .encryption import Encryption
from .known import Known
from .networkstatus import NetworkStatus
from .orchestrated import Orchestrated
from .pods import Pods
from .publish import Publish
from .sync import Sync


class Others:
    """Of a node alone only what is stored matters; nobody is heard or told."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        shared: Shared | None,
        source: str,
        *,
        sync: Sync,
        publish: Publish,
        cluster: Cluster,
        encryption: Encryption,
        pods: Pods | None = None,
        orchestrated: Orchestrated | None = None,
        networkstatus: NetworkStatus | None = None,
    ) -> None:
        """``shared`` is ``store``, if several nodes have it; ``source`` names it."""
        self._pods, self._orchestrated, self._networkstatus = pods, orchestrated, networkstatus
        self._settings, self._shared, self._sync, self._publish, self._cluster = settings, shared, sync, publish, cluster
        self._known = Known(store, sync.plurals, source, settings.state / "shared.db" if shared else None)
        self._encryption = encryption
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> State:
        """How far what is known can be trusted."""
        return self._known.state

    async def begin(self, holder: str) -> None:
        """Know what there is. A cluster's node has nothing to do before it does, and waits for it however long that takes.

        ``Conflict`` if another machine has this node's name: it would have its addresses too. (Kubernetes sees to that itself.)
        """
        if self._shared and self._orchestrated is None:
            await presence.sole(self._shared, self._settings.node, holder, self._settings.ttl)
        await self._known.begin(endless=self._orchestrated is not None)

    @property
    def unsynced(self) -> str:
        """Why a cluster's node must get no pods yet; empty if it may. What is known of an earlier life may be much else now."""
        state = self.state
        if self._orchestrated is None or state.synced:
            return ""
        return f"the Kubernetes API has not told everything yet: {state.why or 'it is being read'}"

    def leave(self) -> None:
        """The agent is to end: wait for the store no longer."""
        self._known.leave()

    def all(self, plural: str) -> list[Stored]:
        """Everything of a kind that is known."""
        return self._known.all(plural)

    def start(self, holder: str) -> None:
        """Hear, tell and see from now on. ``holder`` tells this life of the node from others."""
        shared = self._shared
        if shared is None:
            return

        async def hear() -> None:
            await self._known.follow(self._sync.take)

        async def live() -> None:
            await presence.stay(shared, self._settings.node, holder, self._settings.ttl)

        async def watch() -> None:
            async with aclosing(shared.present()) as turns:
                async for held in turns:
                    await self._cluster.present(held)

        acts = [
            ("hearing other nodes", hear),
            ("telling other nodes", self._publish.run),
            ("seeing to keys", self._encryption.run),
            ("sounding the ways", self._cluster.sounding.run),
        ]
        if self._pods is None or self._orchestrated is None:
            acts += [("giving signs of life", live), ("seeing who is alive", watch)]
        else:  # kubelet gives signs of life, and the node controller sees them
            acts += [("labelling pods", self._pods.run), ("reporting", self._orchestrated.reports.run)]
        if self._networkstatus is not None:
            acts.append(("telling pods of their networks", self._networkstatus.run))
        for name, act in acts:
            self._tasks.append(asyncio.create_task(forever(name, act)))

    async def stop(self) -> None:
        """Fall silent, and remember what is known."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cluster.close()
        await self._known.close()
