"""A node of a Kubernetes cluster: podCIDRs as blocks, the network that pods are on, nodes that leave, Networks of others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fairlead.agent.blocks import Blocks
from fairlead.agent.config import Settings
from fairlead.agent.orchestrated import Orchestrated
from fairlead.agent.reports import Reports
from fairlead.ipam.ledger import Lacking, Ledger
from fairlead.ipam.pool import Holder
from fairlead.model.address import Address, Name, Prefix
from fairlead.model.block import Block, BlockSpec, block_name
from fairlead.model.errors import Conflict, Exhausted
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet
from fairlead.model.node import Node, NodeCondition, NodeSpec, NodeStatus
from fairlead.store.base import Delete, Put
from fairlead.store.kubernetes.status import Condition
from fairlead.store.memory import Memory


def network(name: str = "default", *cidrs: str, **spec: Any) -> Network:
    subnets = tuple(Subnet(cidr=Prefix(cidr)) for cidr in cidrs)
    return Network(metadata=Meta(name=name), spec=NetworkSpec(driver=Driver.VXLAN, subnets=subnets, **spec))


def node(name: str, *cidrs: str, ready: str = "True") -> Node:
    said = (NodeCondition(type="Ready", status=ready),)  # type: ignore[arg-type]  # one of the three words
    spec, status = NodeSpec(pod_cidrs=tuple(Prefix(one) for one in cidrs)), NodeStatus(conditions=said)
    return Node(metadata=Meta(name=name), spec=spec, status=status)


class World:
    """The node n1, with everything real but the kernel: what is told to other parts is written down."""

    def __init__(self, store: Memory, **settings: Any) -> None:
        self.store, self.ledger, self.now = store, Ledger(), 0.0
        self.blocks = Blocks(store, self.ledger, "n1", dict, clustered=True)
        self.machines: dict[str, Node] = {}
        self.all: dict[str, Network] = {}
        self.refused: dict[str, Conflict] = {}
        self.heard: list[frozenset[str]] = []
        self.completed: list[str] = []
        self.reported: list[tuple[str, str, Condition]] = []
        self.facts: dict[tuple[str, str], dict[str, str]] = {}
        self.refusal: Conflict | None = None
        self.name = "n1"
        self.it = Orchestrated(
            Settings(run_dir="", state_dir="", node="n1", store="kubernetes://", **settings),
            store,
            Reports(self),
            me=self,  # type: ignore[arg-type]  # as much of each as is asked for
            cluster=self,  # type: ignore[arg-type]
            blocks=self.blocks,
            networks=self,  # type: ignore[arg-type]
            moved=self.moved,
            clock=lambda: self.now,
        )

    # me
    def told(self, _addresses: object) -> bool:
        return False

    async def moved(self) -> None:
        raise AssertionError

    # cluster
    async def present(self, names: set[str]) -> None:
        self.heard.append(frozenset(names))

    # networks
    def judge(self, _network: Network) -> None:
        if self.refusal:
            raise self.refusal

    async def hear(self, network: Network, *, gone: bool) -> None:
        if gone:
            self.all.pop(network.name, None)
        else:
            self.all[network.name] = network
            self.blocks.define(network)

    async def complete(self, network: Network) -> None:
        self.completed.append(network.name)

    async def ensure(self, name: str, spec: NetworkSpec) -> None:
        await self.hear(Network(metadata=Meta(name=name), spec=spec), gone=False)

    # the store's conditions
    async def report(self, plural: str, key: tuple[str, str], *conditions: Condition, **facts: str) -> None:
        self.reported += [(plural, key[1], one) for one in conditions]
        self.facts[plural, key[1]] = facts

    async def joined(self, *nodes: Node) -> None:
        for one in nodes:
            self.machines[one.name] = one
            await self.it.node(one.name, one)

    async def left(self, name: str) -> None:
        del self.machines[name]
        await self.it.node(name, None)

    def address(self, holder: str) -> str:
        return str(self.ledger.allocate("default", Holder(holder, holder))[0])


def world(act: Callable[[World], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        await act(World(Memory(), **settings))

    asyncio.run(run())


def test_podcidrs_are_blocks_that_nobody_stores() -> None:
    async def act(it: World) -> None:
        await it.joined(node("n1", "10.244.1.0/30"), node("n2", "10.244.2.0/24"))
        assert [one.cidr for one in it.all["default"].spec.subnets] == ["10.244.0.0/16"]
        assert {one.spec.cidr: one.spec.node for one in it.blocks.all.values()} == {
            "10.244.1.0/30": "n1",
            "10.244.2.0/24": "n2",
        }
        addresses = {it.address(f"e{at}").partition("/")[0] for at in range(2)}
        assert addresses == {"10.244.1.1", "10.244.1.2"}, "not its own address, nor its broadcast address"
        with pytest.raises(Lacking) as lacking:
            it.address("more")
        with pytest.raises(Exhausted, match=r"no address is left in this node's podCIDR 10.244.1.0/30"):
            await it.blocks.more(it.all["default"], lacking.value, lambda _: True)
        await it.blocks.tidy()
        await it.blocks.tidy()
        assert not (await it.store.list(Block.plural)).objects
        await it.left("n2")
        assert [one.spec.node for one in it.blocks.all.values()] == ["n1"]

    world(act)


@pytest.mark.parametrize("asked", [{"ranges": [Subnet(cidr=Prefix("10.9.0.0/16"))]}, {"wishes": [Address("10.9.3.7")]}])
def test_a_subnet_without_podcidrs_is_there_for_whoever_asks_for_it(asked: dict[str, Any]) -> None:
    """As the annotation pool does, or a static address: of that subnet the node claims blocks, whatever it has of others."""

    async def act(it: World) -> None:
        await it.hear(network("default", "10.244.0.0/16", "10.9.0.0/16"), gone=False)
        await it.joined(node("n1", "10.244.1.0/24"))
        with pytest.raises(Lacking) as lacking:
            it.ledger.allocate("default", Holder("a", "a"), **asked)
        await it.blocks.more(it.all["default"], lacking.value, lambda _: True)
        (address,) = it.ledger.allocate("default", Holder("a", "a"), **asked)
        assert Prefix("10.9.0.0/16").holds(Address(str(address).partition("/")[0]))
        (claimed,) = (await it.store.list(Block.plural)).objects
        assert isinstance(claimed, Block)
        assert claimed.spec.node == "n1"
        assert it.address("b").startswith("10.244.1."), "who does not ask is of what the cluster gave"
        with pytest.raises(Lacking) as lacking:
            it.ledger.allocate("default", Holder("c", "c"), wishes=[Address("10.244.2.9")])
        with pytest.raises(Exhausted, match=r"10\.244\.2\.9.* is not in this node's podCIDR 10\.244\.1\.0/24"):
            await it.blocks.more(it.all["default"], lacking.value, lambda _: True)

    world(act)


def test_without_podcidrs_the_network_is_ours_after_a_while() -> None:
    async def act(it: World) -> None:
        await it.joined(node("n1"))
        assert not it.all
        await it.it.tidy()
        assert not it.all
        it.now += 60
        await it.it.tidy()
        assert it.all["default"].spec.driver is Driver.VXLAN

    world(act)


def test_what_is_said_on_the_command_line_counts() -> None:
    async def act(it: World) -> None:
        await it.joined(node("n1", "10.244.1.0/24", "fd44:0:0:1::/64"))
        spec = it.all["default"].spec
        assert (spec.driver, [one.cidr for one in spec.subnets]) == (Driver.HOST_GW, ["10.9.0.0/16"])
        assert not it.blocks.all, "what is in no subnet of the network is nobody's block"

    world(act, pod_cidr="10.9.0.0/16", pod_driver="host-gw")


def test_both_families_around_the_podcidrs() -> None:
    async def act(it: World) -> None:
        await it.joined(node("n1", "10.244.1.0/24", "fd44:0:0:1::/64"))
        assert [one.cidr for one in it.all["default"].spec.subnets] == ["10.244.0.0/16", "fd44::/56"]

    world(act)


def test_blocks_of_a_node_that_left_are_free_after_a_while_and_a_last_look() -> None:
    async def act(it: World) -> None:
        await it.hear(network("default", "10.9.0.0/16"), gone=False)
        cidr = Prefix("10.9.4.0/26")
        spec = BlockSpec(network=Name("default"), cidr=cidr, node="n2")
        (made,) = await it.store.commit(Put(Block(metadata=Meta(name=block_name(cidr)), spec=spec), ""))
        assert isinstance(made, Block)
        it.blocks.learn(made, gone=False)
        await it.store.commit(Put(node("n2"), ""))
        await it.joined(node("n1"), node("n2"))
        await it.left("n2")
        for _ in range(2):
            await it.it.tidy()
            it.now += 60
        await it.it.tidy()
        assert it.blocks.all, "the store still has the node: it is not heard of yet"
        await it.store.commit(Delete(Node.plural, ("", "n2")))
        await it.it.tidy()
        assert not it.blocks.all
        assert not (await it.store.list(Block.plural)).objects

    world(act)


def test_the_first_is_the_least_that_is_ready() -> None:
    async def act(it: World) -> None:
        await it.joined(node("n1"), node("n0", ready="False"))
        assert it.it.first
        await it.joined(node("n0"))
        assert not it.it.first
        await it.joined(node("n0", ready="Unknown"))
        assert it.it.first
        assert it.heard[-1] == {"n1"}

    world(act)


def test_networks_of_others_are_completed_accepted_or_refused() -> None:
    async def act(it: World) -> None:
        await it.joined(node("n1"))
        writing = asyncio.create_task(it.it.reports.run())
        await it.it.network(network("bare"), gone=False)
        assert (it.completed, it.all) == (["bare"], {})
        it.it.load((), [network("old")])
        await it.it.tidy()
        assert it.completed == ["bare", "old"]
        await it.it.network(network("old"), gone=True)
        await it.it.network(network("good", "10.7.0.0/16", "fd07::/64"), gone=False)
        it.refusal = Conflict("10.7.0.0/17 overlaps 10.7.0.0/16 of network good", field="spec.subnets[0].cidr")
        with pytest.raises(Conflict):
            await it.it.network(network("bad", "10.7.0.0/17"), gone=False)
        while len(it.reported) < 2:
            await asyncio.sleep(0)
        writing.cancel()
        said = {name: one for plural, name, one in it.reported if plural == Network.plural}
        assert set(said) == {"good", "bad"}, "of what is not whole nothing is said yet"
        assert said["good"].status
        assert it.facts[Network.plural, "good"] == {"subnets": "10.7.0.0/16,fd07::/64"}, "which a table of kubectl shows whole"
        assert not said["bad"].status
        assert "overlaps" in said["bad"].message
        it.refusal = None
        await it.it.network(it.all["good"], gone=True)
        assert "good" not in it.all

    world(act)
