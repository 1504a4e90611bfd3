"""The node's thread in the kernel, with hands that only say what they were told."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from fairlead.agent.node import Node
from fairlead.api.schema import Drift
from fairlead.datapath.base import Comparison
from fairlead.desired.state import NodeState

_DRIFT = Drift(table="links", key="one:eth0", kind="missing")


class Told:
    """Whatever it is told, it notes; looking for the first time takes until it is let go on."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.looking, self.go_on = threading.Event(), threading.Event()
        self.looks = (self._first, self._second)

    def _first(self, _: NodeState) -> Comparison:
        self.order.append("first look")
        self.looking.set()
        assert self.go_on.wait(10)
        return lambda _: [_DRIFT]

    def _second(self, _: NodeState) -> Comparison:
        self.order.append("second look")
        return lambda _: []

    def change(self, *_: object) -> None:
        """Once for each of a container's parts."""
        if self.order[-1] != "change":
            self.order.append("change")

    ensure = lead = remove = change


async def _start_amid_a_comparison(told: Told) -> list[Drift]:
    hands: Any = SimpleNamespace(filter=told, links=told, plane=told, looks=told.looks, close=lambda: None)
    node = Node(lambda: hands, linger=0.01)
    try:
        comparing = asyncio.create_task(node.check(inside=False))
        assert await asyncio.to_thread(told.looking.wait, 10)
        starting = asyncio.create_task(node.put("two:eth0", ()))
        await asyncio.sleep(0)
        told.go_on.set()
        await starting
        return await comparing
    finally:
        await node.close()


def test_a_container_waits_for_one_look_of_a_comparison_and_not_for_all() -> None:
    told = Told()
    drift = asyncio.run(_start_amid_a_comparison(told))
    assert told.order[:3] == ["first look", "change", "second look"]
    assert drift == [_DRIFT]
