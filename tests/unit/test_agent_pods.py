"""The pods of this node: found by an ADD that comes before their objects, and the labels of what was made for them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from msgspec.structs import replace

from fairlead.agent.pods import Pods
from fairlead.api.schema import Attached, Change
from fairlead.cni.translate import CONFIG_LABEL
from fairlead.model.address import ContainerID, Interface, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox, endpoint_name
from fairlead.model.errors import Failed, Unavailable
from fairlead.model.meta import Meta
from fairlead.model.pod import CONFIG_HASH, UID_LABEL, Pod, PodIP, PodSpec, PodStatus
from fairlead.store.cache import State


def pod(name: str = "web", uid: str = "u1", node: str = "here", **labels: str) -> Pod:
    return Pod(metadata=Meta(name=name, namespace="shop", uid=uid, labels=labels), spec=PodSpec(node_name=node))


class World:
    """Endpoints, and whoever changes them; ``refusals``: how often he will not."""

    def __init__(self) -> None:
        self.all: dict[str, Endpoint] = {}
        self.state = State(synced=True, away=None, why="")
        self.refusals = 0
        self.pods = Pods("here", "default", endpoints=lambda: self.all, change=self.change, state=lambda: self.state)

    def attached(self, uid: str = "u1", **labels: str) -> Endpoint:
        spec = EndpointSpec(
            container=ContainerID("c1"), interface=InterfaceName("eth0"), network=Name("default"), sandbox=Sandbox(path="")
        )
        known = {**labels, UID_LABEL: uid, CONFIG_LABEL: "fairlead"}
        made = Endpoint(metadata=Meta(name=endpoint_name("c1", "eth0"), labels=known), spec=spec)
        self.all[made.name] = made
        self.pods.want()
        return made

    async def change(self, request: Change) -> Attached:
        if self.refusals:
            self.refusals -= 1
            raise Failed("not now")
        (one,) = self.all.values()
        labels = {key: text for key, text in {**one.metadata.labels, **request.labels}.items() if text is not None}
        self.all[one.name] = replace(one, metadata=replace(one.metadata, labels=labels))
        return Attached(endpoint=self.all[one.name])

    async def until(self, **labels: str) -> None:
        """Wait until the endpoint has these labels, besides our own."""
        running = asyncio.create_task(self.pods.run())
        try:
            async with asyncio.timeout(5):
                while {key: text for key, text in self.labels.items() if not key.startswith("fairlead.dev/")} != labels:
                    await asyncio.sleep(0)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    @property
    def labels(self) -> dict[str, str]:
        (one,) = self.all.values()
        return one.metadata.labels


def test_an_add_waits_for_its_pod() -> None:
    async def run() -> None:
        world = World()
        waiting = asyncio.create_task(world.pods.find("shop", "web", "u1"))
        await asyncio.sleep(0)
        world.pods.take(pod(uid="old"), gone=False)
        world.pods.take(pod(node="there"), gone=False)
        await asyncio.sleep(0)
        assert not waiting.done()
        world.pods.take(pod(), gone=False)
        assert (await waiting).metadata.uid == "u1"
        world.pods.take(pod(uid="old"), gone=True)  # the end of the old one, heard late
        assert (await world.pods.find("shop", "web", "")).metadata.uid == "u1"

    asyncio.run(run())


def test_an_address_that_another_pods_object_says_it_has_is_contested() -> None:
    world = World()
    world.attached()
    (one,) = world.all.values()
    mine = replace(one, spec=replace(one.spec, addresses=(Interface("10.0.0.1/24"), Interface("fd00::1/64"))))
    status = PodStatus(pod_ips=(PodIP(ip="10.0.0.1"),))
    claims: list[bool] = []
    world.pods.on_claim = lambda: claims.append(world.pods.contested(mine))
    for old in (pod("old", "u0"), pod("old", "u0", node="there")):
        world.pods.take(replace(pod(), status=status), gone=False)
        assert not world.pods.contested(mine), "by its own"
        world.pods.take(replace(old, status=status), gone=False)
        assert world.pods.contested(mine)
        world.pods.take(replace(old, status=replace(status, phase="Failed")), gone=False)
        assert not world.pods.contested(mine)
        world.pods.take(replace(old, status=status), gone=False)
        world.pods.take(replace(old, status=status), gone=True)
        assert not world.pods.contested(mine)
    assert claims == [False, True, False, True, False, True, False, True, False], "whoever tells it is told of each change"


def test_a_static_pod_is_found_by_what_kubelet_calls_it() -> None:
    async def run() -> None:
        world, mirror = World(), pod(uid="mirror")
        world.pods.take(replace(mirror, metadata=replace(mirror.metadata, annotations={CONFIG_HASH: "hash"})), gone=False)
        assert (await world.pods.find("shop", "web", "hash")).metadata.uid == "mirror"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("known", "away", "said"),
    [
        (False, None, r"pod shop/web \(UID u1\) is not known on node here; the API server has not told of it within 0 s"),
        (True, None, "pod shop/web has the UID old, and u1 is asked for"),
        (False, 1.0, "the API server is away: refused"),
    ],
)
def test_an_add_of_an_unknown_pod_is_told_why(known: bool, away: float | None, said: str) -> None:
    async def run() -> None:
        world = World()
        world.state = State(synced=True, away=away, why="refused")
        if known:
            world.pods.take(pod(uid="old"), gone=False)
        with pytest.raises(Unavailable, match=said):
            await world.pods.find("shop", "web", "u1", patience=0)

    asyncio.run(run())


def test_labels_of_an_endpoint_are_those_of_its_pod() -> None:
    async def run() -> None:
        world = World()
        world.pods.take(pod(app="web", tier="one"), gone=False)
        world.attached(app="web", old="yes")  # what the pod had when it was added
        await world.until(app="web", tier="one")
        world.refusals = 1
        world.pods.take(pod(app="other"), gone=False)
        await world.until(app="other")
        assert world.labels[UID_LABEL] == "u1"
        assert world.labels[CONFIG_LABEL] == "fairlead"

    asyncio.run(run())
