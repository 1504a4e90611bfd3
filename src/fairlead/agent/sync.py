"""Sync: what the store says has changed, by whomever, brought to those whom it concerns.

One task takes the events in order. What this node wrote itself comes back as an event too: whoever knows a revision already
passes it over. A failure concerns its own object and is logged; the next comparison with the kernel, or the next event, mends
it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from fairlead.model.block import Block
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Problem
from fairlead.model.network import Network
from fairlead.model.node import Node
from fairlead.model.pod import Pod
from fairlead.policy.book import Thing as Judged
from fairlead.policy.pods import Step
from fairlead.store.base import Event, EventKind, Stored

from .bgp import Bgp
from .blocks import Blocks
from .cluster import Cluster
from .networks import Networks
from .orchestrated import Orchestrated
from .peerings import KINDS as BGP_KINDS
from .pods import Pods, told_by_pods
from .policies import Policies
from .publish import Publish
from .services import KINDS as SERVICE_KINDS
from .services import Services

log = logging.getLogger(__name__)


class Sync:
    """From events to the parts of the agent."""

    def __init__(
        self,
        me: str,
        *,
        networks: Networks,
        blocks: Blocks,
        cluster: Cluster,
        policies: Policies,
        publish: Publish,
        bgp: Bgp,
        services: Services,
        pods: Pods | None = None,
        orchestrated: Orchestrated | None = None,
    ) -> None:
        """``pods`` and ``orchestrated``: where Kubernetes runs the nodes."""
        self._pods, self._orchestrated = pods, orchestrated
        self._me, self._bgp, self._services = me, bgp, services
        self._networks, self._blocks, self._cluster, self._policies, self._publish = (
            networks,
            blocks,
            cluster,
            policies,
            publish,
        )
        self._takers: dict[str, Callable[[Stored, bool], Awaitable[None]]] = {
            Network.plural: self._network,
            Block.plural: self._block,
            Node.plural: self._node,
            Endpoint.plural: self._endpoint,
            **dict.fromkeys((one.plural for one in BGP_KINDS), self._peering),
            **dict.fromkeys((one.plural for one in SERVICE_KINDS), self._service),
        }
        if pods is not None:
            self._takers[Pod.plural] = self._pod
        self._steps: list[tuple[Judged, bool]] = []

    _told = frozenset({Network.plural, Block.plural, Node.plural, *(one.plural for one in BGP_KINDS)})
    """What the speaker's rows come from."""

    @property
    def plurals(self) -> tuple[str, ...]:
        """The kinds that are listened for."""
        return (*self._takers, *self._policies.all)

    async def take(self, events: Iterable[Event]) -> None:
        """Bring events to whom they concern; what policies depend on in one go, after the rest."""
        judged: list[tuple[Judged, bool]] = []
        events = list(events)
        for event in events:
            thing, gone = event.object, event.kind is EventKind.DELETED
            if taker := self._takers.get(thing.plural):
                try:
                    await taker(thing, gone)
                except Problem as problem:
                    log.error("%s %s: %s", thing.plural, thing.name, problem)  # noqa: TRY400  # a person reads this
            if isinstance(thing, Judged) and not self._is_mine(thing) and not self._is_word(thing):
                judged.append((thing, gone))
            judged += self._steps
            self._steps.clear()
        if judged or self._policies.fronts.stale:
            await self._policies.hear(judged)
        if any(event.object.plural in self._told for event in events):
            self._bgp.want()

    def _is_mine(self, thing: Judged) -> bool:
        """Whether it is a container of this node: of these policies are told by who makes them."""
        return isinstance(thing, Endpoint) and thing.spec.node == self._me

    def _is_word(self, thing: Judged) -> bool:
        """Whether it is what a node says of a pod's addresses: whose they are is weighed with what pods say (``_endpoint``)."""
        return self._pods is not None and isinstance(thing, Endpoint) and told_by_pods(thing)

    async def _network(self, thing: Stored, gone: bool) -> None:
        if not isinstance(thing, Network):
            return
        if self._orchestrated is not None:
            await self._orchestrated.network(thing, gone=gone)
        else:
            await self._networks.hear(thing, gone=gone)

    async def _block(self, thing: Stored, gone: bool) -> None:
        if isinstance(thing, Block):
            self._blocks.learn(thing, gone=gone)

    async def _node(self, thing: Stored, gone: bool) -> None:
        if isinstance(thing, Node):
            if thing.name == self._me:
                self._publish.node = None if gone else thing
                self._publish.want()
            await self._cluster.learn(thing.name, None if gone else thing)
            if self._orchestrated is not None:
                await self._orchestrated.node(thing.name, None if gone else thing)

    async def _pod(self, thing: Stored, gone: bool) -> None:
        """A pod of another node is to policies what a container of another node is."""
        if self._pods is None or not isinstance(thing, Pod):
            return
        self._follow(self._pods.take(thing, gone=gone))

    def _follow(self, steps: Iterable[Step]) -> None:
        for endpoint, over in steps:
            self._cluster.remote(endpoint, gone=over)
            self._steps.append((endpoint, over))

    async def _peering(self, thing: Stored, gone: bool) -> None:
        if isinstance(thing, BGP_KINDS):
            self._bgp.peerings.hear(thing, gone=gone)

    async def _service(self, thing: Stored, gone: bool) -> None:
        self._services.hear(thing, gone=gone)

    async def _endpoint(self, thing: Stored, gone: bool) -> None:
        if not isinstance(thing, Endpoint):
            return
        if thing.spec.node == self._me:
            self._publish.hear(thing.key, None if gone else thing)
        elif self._pods is not None and (steps := self._pods.hear(thing, gone=gone)) is not None:
            self._follow(steps)
        else:
            self._cluster.remote(thing, gone=gone)
