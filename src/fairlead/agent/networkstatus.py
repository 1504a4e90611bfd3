"""What a pod that asked for further networks was given, written on it for whoever looks there (``network-status``).

The kernel says nothing of it and nobody waits for it: one task writes, after the pod's ADD was answered, and tries again while
the API server is away. A pod that asked for nothing is not written to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from fairlead.cni.pod import STATUS, beside, status
from fairlead.kit.wanted import Wanted
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Missing, Problem
from fairlead.model.pod import Pod

from .pods import Pods

log = logging.getLogger(__name__)

_FIRST, _MOST = 0.2, 60.0


class Annotator(Protocol):
    """A store whose pods can be annotated."""

    async def annotate(self, pod: Pod, annotations: Mapping[str, str]) -> None:
        """Write annotations of a pod that is there; ``Missing`` if it is not."""


class NetworkStatus:
    """Runs beside the agent."""

    def __init__(self, store: Annotator, pods: Pods, endpoints: Callable[[], Mapping[str, Endpoint]]) -> None:
        self._store, self._pods, self._ask_endpoints = store, pods, endpoints
        self._written: dict[str, str] = {}
        self._wanted = Wanted(_FIRST, _MOST)

    def want(self) -> None:
        """Endpoints have changed."""
        self._wanted.want()

    async def run(self) -> None:
        """Write what is not written yet."""
        await self._wanted.serve(self._write)

    async def _write(self) -> bool:
        """Write to each pod that lacks it; whether none does."""
        owed = self._owed()
        self._written = {uid: text for uid, text in self._written.items() if uid in owed}
        done = True
        for uid, (pod, text) in owed.items():
            if text in {pod.metadata.annotations.get(STATUS, ""), self._written.get(uid)}:
                continue
            try:
                await self._store.annotate(pod, {STATUS: text})
            except Missing:
                continue  # it ended meanwhile
            except Problem as problem:
                log.warning("pod %s is not told of its networks yet: %s", "/".join(pod.key), problem)
                done = False
            else:
                self._written[uid] = text
        return done

    def _owed(self) -> dict[str, tuple[Pod, str]]:
        """Each pod of this node that asked for further networks, by UID, and what it was given."""
        pods: dict[str, Pod] = {}
        given: dict[str, list[Endpoint]] = {}
        for endpoint in self._ask_endpoints().values():
            pod = self._pods.of(endpoint)
            if pod is not None and _asks(pod):
                pods[pod.metadata.uid] = pod
                given.setdefault(pod.metadata.uid, []).append(endpoint)
        return {uid: (pod, status(pod, given[uid])) for uid, pod in pods.items()}


def _asks(pod: Pod) -> bool:
    try:
        return bool(beside(pod))
    except Problem:
        return False  # its ADD was refused for it
