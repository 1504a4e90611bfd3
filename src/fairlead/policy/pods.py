"""Pods: those of other nodes as endpoints, each address with one of them.

Kubernetes tells of a pod's end later than its address is free: a pod that is being deleted still says that it runs, and has the
address, while another has got it. Judged by the old one's labels the new one would be somebody else. So an address is that of
the pod that is not on its way out, and of several such of the one that was seen with it last. Of several that were all there
when this began to look nobody can tell: then it is nobody's, and no rule that means a pod matches it.

And Kubernetes tells of a new pod's address later than the pod has it. Where somebody else is said to have it, the node that
gives it out says so itself (``hear``), before the pod has a link: that counts before what any pod's object says, as long as
there is such a pod.

Most of what Kubernetes tells of pods (a probe, a restart, a condition) changes nothing here and comes to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.model.address import Interface
from fairlead.model.endpoint import Endpoint
from fairlead.model.pod import UID_LABEL, Pod, peer

Step = tuple[Endpoint, bool]
"""An endpoint as it is now, and whether it is gone."""


class _Claim(NamedTuple):
    """A pod's claim to its addresses. ``given``: its node says that it gave it these.

    ``staying``: it is not on its way out; ``turn``: when it was first seen with them, 0 if that was before this began to look.
    ``shown``: as it was last told, with the addresses that are its own; None if it was not told.
    """

    given: bool
    staying: bool
    turn: int
    endpoint: Endpoint
    shown: Endpoint | None = None


class Pods:
    """The pods of all nodes but one."""

    def __init__(self, network: str, me: str) -> None:
        """``network``: the one that pods are on; ``me``: the node whose pods are known better elsewhere."""
        self._network, self._me = network, me
        self._claims: dict[str, _Claim] = {}
        self._claimants: dict[Interface, tuple[str, ...]] = {}
        self._turn = 0
        self._alive: set[str] = set()
        self._words: dict[str, Endpoint] = {}
        """What nodes say themselves, by the UID of the pod."""
        self.listing = False
        """While what there was before is listed: nobody knows in which order it came to be."""

    @property
    def all(self) -> Iterator[Endpoint]:
        """Every endpoint as it was last told."""
        return (one.shown for one in self._claims.values() if one.shown)

    def take(self, pod: Pod, *, gone: bool) -> list[Step]:
        """A pod is new, another or gone: what that changes, first who loses an address, then who has it."""
        uid = pod.metadata.uid
        elsewhere = not gone and pod.spec.node_name not in {"", self._me}
        if elsewhere and not pod.over:
            self._alive.add(uid)
        else:
            self._alive.discard(uid)
        now = peer(pod, self._network) if elsewhere else None
        steps = self._turn_to(uid, now, staying=not pod.metadata.deletion_timestamp)
        return steps + self._weigh(self._words[uid]) if uid in self._words else steps

    def hear(self, endpoint: Endpoint, *, gone: bool) -> list[Step]:
        """The node of a pod says, or says no more, that it gave it these addresses."""
        if gone:
            self._words.pop(_uid(endpoint), None)
        else:
            self._words[_uid(endpoint)] = endpoint
        return self._weigh(endpoint)

    def _weigh(self, endpoint: Endpoint) -> list[Step]:
        """What a node says counts, or counts no more."""
        uid = _uid(endpoint)
        counts = self._words.get(uid) is endpoint and uid in self._alive
        return self._turn_to(endpoint.name, endpoint if counts else None, given=True)

    def claimed(self, address: Interface, uid: str) -> bool:
        """Whether the object of another pod than ``uid`` says that it has an address."""
        return any(one != uid and not self._claims[one].given for one in self._claimants.get(address, ()))

    def _turn_to(self, uid: str, endpoint: Endpoint | None, *, given: bool = False, staying: bool = True) -> list[Step]:
        """``uid`` claims what ``endpoint`` has from now on."""
        before = self._claims.get(uid)
        now = None if endpoint is None else _Claim(given, staying, self._since(endpoint, before), endpoint)
        if now is not None and before is not None and now.staying == before.staying and _alike(now.endpoint, before.endpoint):
            return []
        touched = {uid}
        for claim in (before, now):
            for one in claim.endpoint.spec.addresses if claim else ():
                touched.update(self._claimants.get(one, ()))
        self._replace(uid, before, now)
        wanted = {name: self._wanted(name) for name in sorted(touched)}
        told = {uid: before.shown} if before else {}
        told |= {name: self._claims[name].shown for name in wanted if name != uid}
        freed = [(name, _less(told.get(name), one)) for name, one in wanted.items()]
        return [step for name, one in (*freed, *wanted.items()) if (step := self._show(told, name, one))]

    def _since(self, endpoint: Endpoint, before: _Claim | None) -> int:
        """The turn of a claim."""
        if before is not None and before.endpoint.spec.addresses == endpoint.spec.addresses:
            return before.turn
        self._turn += not self.listing
        return 0 if self.listing else self._turn

    def _replace(self, uid: str, before: _Claim | None, now: _Claim | None) -> None:
        for one in before.endpoint.spec.addresses if before else ():
            if left := tuple(name for name in self._claimants[one] if name != uid):
                self._claimants[one] = left
            else:
                del self._claimants[one]
        self._claims.pop(uid, None)
        if now is not None:
            self._claims[uid] = now._replace(shown=before.shown if before else None)
            for one in now.endpoint.spec.addresses:
                self._claimants[one] = (*self._claimants.get(one, ()), uid)

    def _wanted(self, uid: str) -> Endpoint | None:
        """A pod with the addresses that are its own; None without any."""
        claim = self._claims.get(uid)
        if claim is None:
            return None
        wanted = claim.endpoint
        return _with(wanted, tuple(one for one in wanted.spec.addresses if self._holder(one) == uid))

    def _show(self, told: dict[str, Endpoint | None], uid: str, wanted: Endpoint | None) -> Step | None:
        """Remember what is told of a pod; None if that is nothing new. ``told``: what was told of each before."""
        shown = told.get(uid)
        if wanted is None and shown is None:
            return None
        if wanted is not None and shown is not None and _alike(shown, wanted):
            return None
        told[uid] = wanted
        if uid in self._claims:
            self._claims[uid] = self._claims[uid]._replace(shown=wanted)
        return (wanted, False) if wanted is not None else (shown, True) if shown is not None else None

    def _holder(self, address: Interface) -> str | None:
        """Whose an address is; None if nobody can tell."""
        ranks = {uid: self._claims[uid][:3] for uid in self._claimants[address]}
        best = max(ranks.values())
        first, *others = [uid for uid, rank in ranks.items() if rank == best]
        return None if others else first


def _uid(endpoint: Endpoint) -> str:
    """The UID of the pod that an endpoint is of."""
    return endpoint.metadata.labels.get(UID_LABEL, "")


def _with(endpoint: Endpoint, addresses: tuple[Interface, ...]) -> Endpoint | None:
    """An endpoint with these addresses; None without any."""
    if not addresses or addresses == endpoint.spec.addresses:
        return endpoint if addresses else None
    return replace(endpoint, spec=replace(endpoint.spec, addresses=addresses))


def _less(shown: Endpoint | None, wanted: Endpoint | None) -> Endpoint | None:
    """What is shown without the addresses that it loses."""
    if shown is None:
        return None
    kept = wanted.spec.addresses if wanted else ()
    return _with(shown, tuple(one for one in shown.spec.addresses if one in kept))


def _alike(one: Endpoint, other: Endpoint) -> bool:
    """Whether two endpoints are the same to whoever looks at labels, addresses and ports."""
    return one.spec == other.spec and one.metadata.labels == other.metadata.labels
