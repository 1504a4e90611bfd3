"""Pods: what Kubernetes says of containers. Those of other nodes, which nobody else tells of, and those of this one.

::

    a pod of another node ──► policy.pods ──► policies, and the cluster's containers
    its node's own word ─────┘
    a pod of this node ────► found by the runtime's ADD, which waits for it
                       └───► its labels ──► the endpoint that was made for it, whenever they change

The containers of this node are known from its own record, and better: a pod's object says nothing of them but labels.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from fairlead.api.schema import Attached, Change
from fairlead.cni.pod import BESIDE_LABEL
from fairlead.cni.translate import CONFIG_LABEL
from fairlead.kit.wanted import Wanted
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Missing, Problem, Unavailable
from fairlead.model.pod import UID_LABEL, Pod
from fairlead.policy import pods as policy
from fairlead.store.base import Stored
from fairlead.store.cache import State

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that an ADD waits for its pod's object."""
_OURS = frozenset({CONFIG_LABEL, UID_LABEL, BESIDE_LABEL})
"""Labels of an endpoint that are Fairlead's own, whatever its pod has."""
_FIRST, _MOST = 0.2, 10.0


class Pods:
    """Every pod there is, as far as it matters to this node."""

    def __init__(
        self,
        me: str,
        network: str,
        *,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        change: Callable[[Change], Awaitable[Attached]],
        state: Callable[[], State],
    ) -> None:
        """``network``: that of pods; ``change`` changes an endpoint; ``state``: how far what is heard can be trusted."""
        self._me, self._ask_endpoints, self._change, self._ask_state = me, endpoints, change, state
        self._others = policy.Pods(network, me)
        self._own: dict[tuple[str, str], Pod] = {}
        self._uids: dict[str, Pod] = {}
        self._claims: dict[Address, set[str]] = {}
        """The pods of this node that say of an address that they have it, by their UIDs."""
        self._came = asyncio.Event()
        self._wanted = Wanted(_FIRST, _MOST)
        self.on_claim: Callable[[], None] = lambda: None
        """Called when pods' objects say of other addresses than before that they have them."""

    def load(self, pods: Iterable[Stored], told: Iterable[Stored]) -> list[Stored]:
        """Take what there is at a start, pods and what nodes tell of containers; the containers there are by both."""
        self._others.listing = True
        for one in pods:
            if isinstance(one, Pod):
                self.take(one, gone=False)
        others: list[Stored] = []
        for one in told:
            if isinstance(one, Endpoint) and one.spec.node != self._me and self.hear(one, gone=False) is not None:
                continue  # it is weighed with what the pods say
            others.append(one)
        self._others.listing = False
        return [*others, *self._others.all]

    def take(self, pod: Pod, *, gone: bool) -> list[policy.Step]:
        """A pod is new, another or gone: what that changes of the containers of other nodes."""
        if pod.spec.node_name == self._me:
            self._note(pod, gone=gone)
        steps = self._others.take(pod, gone=gone)
        if steps:
            self.on_claim()
        return steps

    def hear(self, endpoint: Endpoint, *, gone: bool) -> list[policy.Step] | None:
        """What another node tells of a container: what that changes, if it is about the addresses of a pod; else None."""
        return self._others.hear(endpoint, gone=gone) if told_by_pods(endpoint) else None

    def contested(self, endpoint: Endpoint) -> bool:
        """Whether the object of another pod says that it has an address of an endpoint of this node."""
        uid = endpoint.metadata.labels.get(UID_LABEL, "")
        addresses = [one.address for one in endpoint.spec.addresses]
        if any(self._claims.get(one, {uid}) != {uid} for one in addresses):
            return True
        return any(self._others.claimed(one.alone, uid) for one in addresses)

    async def find(self, namespace: str, name: str, uid: str = "", patience: float = PATIENCE) -> Pod:
        """The pod that the runtime asks for, once its object is known; ``Unavailable`` says why it is not."""
        try:
            async with asyncio.timeout(patience):
                while (found := self._found(namespace, name, uid)) is None:
                    await self._came.wait()
                return found
        except TimeoutError:
            raise Unavailable(self._lacking(namespace, name, uid, patience)) from None

    def want(self) -> None:
        """Endpoints, or pods of this node, have changed."""
        self._wanted.want()

    async def run(self) -> None:
        """Keep the labels of this node's endpoints as those of their pods."""
        await self._wanted.serve(self._label)

    def of(self, endpoint: Endpoint) -> Pod | None:
        """The pod of an endpoint of this node."""
        return self._uids.get(endpoint.metadata.labels.get(UID_LABEL, ""))

    async def _label(self) -> bool:
        """Have each endpoint's labels be its pod's; whether all are."""
        done = True
        for endpoint in list(self._ask_endpoints().values()):
            pod = self.of(endpoint)
            changes = _difference(endpoint.metadata.labels, pod.metadata.labels) if pod else {}
            if not changes:
                continue
            try:
                await self._change(Change(container=endpoint.spec.container, interface=endpoint.spec.interface, labels=changes))
            except Missing:
                continue  # it ended meanwhile
            except Problem as problem:
                log.warning("%s has not its pod's labels yet: %s", endpoint.display, problem)
                done = False
        return done

    def _note(self, pod: Pod, *, gone: bool) -> None:
        """A pod of this node. One that is made again under its name is another: the end of the old one does not end it."""
        key, before = pod.key, self._own.get(pod.key)
        if gone:
            if before is not None and before.metadata.uid == pod.metadata.uid:
                del self._own[key]
                self._claim(before, None)
            self._uids.pop(pod.metadata.uid, None)
            return
        if before is not None and before.metadata.uid != pod.metadata.uid:
            self._uids.pop(before.metadata.uid, None)
        self._own[key] = self._uids[pod.metadata.uid] = pod
        if before is None or before.metadata.uid != pod.metadata.uid:
            self._came.set()
            self._came.clear()
        if before is None or before.metadata.labels != pod.metadata.labels:
            self.want()
        if (before.addresses if before else ()) != pod.addresses or (before and before.metadata.uid != pod.metadata.uid):
            self._claim(before, pod)

    def _claim(self, before: Pod | None, after: Pod | None) -> None:
        """A pod of this node says of other addresses than before that it has them."""
        for at in before.addresses if before else ():
            holders = self._claims.get(at.address, set())
            holders.discard(before.metadata.uid if before else "")
            if not holders:
                self._claims.pop(at.address, None)
        for at in after.addresses if after else ():
            self._claims.setdefault(at.address, set()).add(after.metadata.uid if after else "")
        self.on_claim()

    def _found(self, namespace: str, name: str, uid: str) -> Pod | None:
        pod = self._own.get((namespace, name))
        return pod if pod is not None and (not uid or uid in pod.uids) else None

    def _lacking(self, namespace: str, name: str, uid: str, patience: float) -> str:
        """Why a pod is not known, for people."""
        title, known, state = f"pod {namespace}/{name}", self._own.get((namespace, name)), self._ask_state()
        why = f"the API server is away: {state.why}" if state.away is not None else "the API server has not told of it"
        if known is not None:
            return f"{title} has the UID {known.metadata.uid}, and {uid} is asked for; {why} within {patience:g} s"
        return f"{title}{f' (UID {uid})' if uid else ''} is not known on node {self._me}; {why} within {patience:g} s"


def told_by_pods(endpoint: Endpoint) -> bool:
    """Whether it is the first attachment of a pod, of which the pod's object tells."""
    return UID_LABEL in endpoint.metadata.labels and BESIDE_LABEL not in endpoint.metadata.labels


def _difference(have: Mapping[str, str], pod: Mapping[str, str]) -> dict[str, str | None]:
    """The changes that make an endpoint's labels those of its pod."""
    wanted = {key: text for key, text in pod.items() if key not in _OURS}
    theirs = {key: text for key, text in have.items() if key not in _OURS}
    gone: dict[str, str | None] = dict.fromkeys(theirs.keys() - wanted.keys())
    return {**gone, **{key: text for key, text in wanted.items() if theirs.get(key) != text}}
