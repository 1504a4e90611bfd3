"""An address that was freed lies idle for a while where other nodes have to hear of it, and nobody waits who need not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fairlead.agent.addresses import Addresses
from fairlead.agent.rest import Rest
from fairlead.api.schema import Attach
from fairlead.ipam.ledger import Ledger
from fairlead.model import codec
from fairlead.model.address import Address, Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet

SECONDS = 0.2
BLUE = Network(metadata=Meta(name="blue"), spec=NetworkSpec(driver=Driver.VXLAN, subnets=(Subnet(cidr=Prefix("10.1.0.0/24")),)))


class Node:
    """As much of an agent as gives addresses out: a block of four, of which a routed network gives out three."""

    def __init__(self, *, shared: bool = True, seconds: float = SECONDS) -> None:
        self.ledger, self.is_shared = Ledger(), shared
        self.ledger.define(BLUE, [Prefix("10.1.0.0/30")])
        self.given_back: list[tuple[float, list[Address]]] = []
        self.rest = Rest(seconds)
        none: Any = None
        blocks: Any = self
        self.it = Addresses(self.ledger, none, blocks, lambda _: lambda _: True, self.rest)

    def shared(self, _: Network) -> bool:
        return self.is_shared

    def returned(self, _: str, addresses: list[Address]) -> None:
        self.given_back.append((time.monotonic(), addresses))

    async def add(self, name: str, *wishes: str) -> str:
        tree = {"container": name, "path": "/x", "network": "blue", "interface": "eth0", "addresses": list(wishes)}
        (given,) = await self.it.claim(codec.from_tree(tree, Attach), BLUE, f"{name}:eth0", ())
        return str(given.address)

    def delete(self, name: str) -> None:
        (held,) = self.ledger.held(f"{name}:eth0")
        self.it.returned(endpoint(name, str(held)))


def endpoint(name: str, address: str) -> Endpoint:
    spec = {"container": name, "interface": "eth0", "network": "blue", "sandbox": {"path": "/x"}, "addresses": [address]}
    thing = codec.from_item(
        {"kind": "Endpoint", "apiVersion": "fairlead.dev/v1", "metadata": {"name": f"{name}:eth0"}, "spec": spec}
    )
    assert isinstance(thing, Endpoint)
    return thing


@contextmanager
def takes(least: float, most: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert least <= time.monotonic() - begun < most


def test_nobody_waits_while_others_are_free() -> None:
    """What was never used comes first, then what was freed longest ago."""

    async def act() -> None:
        it = Node()
        first = await it.add("a")
        it.delete("a")
        with takes(0, SECONDS / 2):
            assert first not in {await it.add("b"), await it.add("c")}

    asyncio.run(act())


def test_the_last_that_is_free_is_waited_for() -> None:
    """No longer than it rests; meanwhile it is nobody else's, and a start that is given up gives it back."""

    async def act() -> None:
        it = Node()
        several = [await it.add(name) for name in "abc"]
        it.delete("b")
        given_up = asyncio.create_task(it.add("x"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        with takes(SECONDS * 0.9, SECONDS * 5):
            assert await it.add("d") == several[1]
        it.delete("a")
        it.delete("c")
        with takes(SECONDS * 0.9, SECONDS * 5):
            assert [await it.add("e"), await it.add("f")] == [several[0], several[2]], "the one freed first comes first"

    asyncio.run(act())


def test_who_wishes_for_an_address_waits_for_it() -> None:
    async def act() -> None:
        it = Node()
        first = await it.add("a")
        it.delete("a")
        with takes(SECONDS * 0.9, SECONDS * 5):
            assert await it.add("b", first) == first

    asyncio.run(act())


def test_what_was_freed_before_a_restart_was_perhaps_freed_just_now() -> None:
    async def act() -> None:
        it = Node()
        reservations: Any = it
        it.without = list  # type: ignore[attr-defined]
        it.it._reservations = reservations
        assert not it.it.restore((), [endpoint("a", "10.1.0.2/32")])
        with takes(SECONDS * 0.9, SECONDS * 5):
            assert await it.add("b", "10.1.0.2") == "10.1.0.2"

    asyncio.run(act())


def test_other_nodes_have_it_back_after_the_rest() -> None:
    async def act() -> None:
        it, begun = Node(), time.monotonic()
        await it.add("a")
        it.delete("a")
        while not it.given_back:
            await asyncio.sleep(0.01)
        assert it.given_back[0][0] - begun >= SECONDS * 0.9

    asyncio.run(act())


@pytest.mark.parametrize("how", [{"shared": False}, {"seconds": 0.0}])
def test_where_nobody_else_judges_nobody_waits(how: dict[str, Any]) -> None:
    async def act() -> None:
        it = Node(**how)
        first = await it.add("a")
        it.delete("a")
        with takes(0, SECONDS / 2):
            assert await it.add("b", first) == first

    asyncio.run(act())


def test_what_has_rested_is_forgotten() -> None:
    now = 0.0
    it = Rest(5, lambda: now)
    it.begin("blue", [Address("10.1.0.1")])
    now = 3.0
    it.begin("blue", [Address("10.1.0.2")])
    assert (it.left("blue", [Address("10.1.0.1")]), it.left("blue", [Address("10.1.0.1"), Address("10.1.0.2")])) == (2, 5)
    assert it.left("red", [Address("10.1.0.1")]) == 0
    now = 6.0
    it.begin("blue", [Address("10.1.0.3")])
    assert len(it._freed) == 2
