"""Cluster: the other nodes, and how this one reaches their containers.

Nodes, networks and blocks come as the store tells of them, in any order. What each change comes to is worked out by
``topology.routes``, for the one node and network that it concerns, and brought to the kernel in one go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec.structs import replace

from fairlead.desired.state import Rows
from fairlead.desired.ways import Fellow
from fairlead.model.address import Address, Prefix
from fairlead.model.block import Block
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid
from fairlead.model.meta import Object
from fairlead.model.network import CLUSTER, Network
from fairlead.model.node import Node as Machine
from fairlead.model.node import NodeCondition
from fairlead.store.base import Delete, Key, Store, Stored
from fairlead.topology import crypt, mtu, routes
from fairlead.topology.station import Station

from .blocks import Blocks
from .encryption import Encryption
from .me import Me
from .node import Node
from .sounding import Sounding
from .vigil import Vigil

log = logging.getLogger(__name__)

_WORD = 3.0
"""Seconds that word of a container's end takes from another node at most, if that node can say it."""
_LOOK = 0.05


class Cluster:
    """Every node that is known, this one among them, and the rows by which the others are reached."""

    def __init__(
        self,
        store: Store,
        me: Me,
        node: Node,
        networks: Callable[[], Mapping[str, Network]],
        blocks: Blocks,
        *,
        crypt: Encryption,
    ) -> None:
        """``me``: this node as others reach it; ``networks``: all there are."""
        self.machines: dict[str, Machine] = {}
        self.on_reroute: Callable[[], None] = lambda: None
        self.remotes: dict[Key, Endpoint] = {}
        """Containers of other nodes."""
        self._holders: dict[str, Endpoint] = {}
        self.alive: frozenset[str] | None = None
        """The nodes that give signs of life; None as long as nobody can tell."""
        self._store = store
        self._touched: dict[str, set[str] | None] = {}
        self._news = asyncio.Event()
        self._vigil = Vigil(self._underlay, self._judged)
        self._stations: dict[str, Station] = {}
        self._me, self._node, self._ask_networks, self._blocks = me, node, networks, blocks
        self.encryption = crypt
        self.sounding = Sounding(lambda: me.station, self._living, self.reroute)

    def adopt(self, machines: Iterable[Stored], endpoints: Iterable[Stored]) -> None:
        """What there is at a start; the kernel follows with ``Node.apply``."""
        for machine in machines:
            if isinstance(machine, Machine):
                self._know(machine)
        for one in endpoints:
            if isinstance(one, Endpoint) and one.spec.node != self._me.name:
                self.remote(one, gone=False)
        self._tell()
        self._node.adopt_all({**self._fellows(self._others()), **self._rows(self._networks(), self._others())})
        self._node.adopt_all(self._own(self._networks()))

    @property
    def stations(self) -> Mapping[str, Station]:
        """Every node as others reach it."""
        return self._stations

    @property
    def uplink(self) -> int:
        """The largest packet that this node's uplink carries."""
        return self._me.station.mtu

    async def reroute(self, names: Iterable[str]) -> None:
        """Packets to some nodes are encrypted with other keys, or may be of another size."""
        self.on_reroute()
        await self._node.follow(self._rows(self._networks(), names))

    async def learn(self, name: str, machine: Machine | None) -> None:
        """A node is new, another or gone."""
        before = self._stations.get(name)
        if machine is None:
            self.machines.pop(name, None)
            self._stations.pop(name, None)
        else:
            self._know(machine)
        if name != self._me.name and self._stations.get(name) != before:
            names = {name, *self._tell()}
            await self._node.follow({**self._fellows((name,)), **self._rows(self._networks(), names)})

    async def present(self, names: Iterable[str]) -> None:
        """Who gives signs of life. Who does not is asked himself."""
        self.alive = frozenset(names)
        await self._vigil.hear(self._others() - self.alive)

    async def _judged(self, name: str) -> None:
        """A node is dead, or lives again."""
        await self._node.follow(self._rows(self._networks(), {name, *self._tell()}))

    def remote(self, endpoint: Endpoint, *, gone: bool) -> None:
        """A container of another node is new, another or gone."""
        before = self.remotes.pop(endpoint.key, None)
        for one in before.spec.addresses if before else ():
            if self._holders.get(one.address) is before:
                del self._holders[one.address]
        if not gone:
            self.remotes[endpoint.key] = endpoint
            self._holders |= {one.address: endpoint for one in endpoint.spec.addresses}

    def holder(self, address: str) -> Endpoint | None:
        """The container of another node that has an address."""
        return self._holders.get(address)

    def users(self, network: str) -> list[str]:
        """The containers that other nodes have on a network, for people."""
        return sorted({f"{one.display} on {one.spec.node}" for one in self.remotes.values() if one.spec.network == network})

    async def let_go(self, network: str) -> None:
        """Wait for word of containers that other nodes have just detached; somebody then removes the network on this one."""
        waited = 0.0
        while waited < _WORD and self.users(network):
            await asyncio.sleep(_LOOK)
            waited += _LOOK

    async def leave_behind(self, name: str) -> None:
        """A node is gone for good: remove the containers that it told of, and free its blocks."""
        if name == self._me.name:
            raise Invalid("this is the node you ask; stop its agent and ask another one", field="name")
        if self.alive is None or name in self.alive or (name in self._vigil.silent and name not in self._vigil.dead):
            raise Conflict(f"node {name} gives signs of life; stop its agent first: fairlead down", field="name")
        theirs = [one for one in self.remotes.values() if one.spec.node == name]
        most = self._store.at_once
        for start in range(0, len(theirs), most):
            await self._store.commit(*(Delete(Endpoint.plural, one.key) for one in theirs[start : start + most]))
        await self._blocks.collect(self.machines.keys() - {name})

    async def moved(self) -> None:
        """This node is reached otherwise: its address or its uplink changed."""
        self.sounding.look()
        await self._node.follow(self._own(self._networks()))
        await self._node.follow(self._rows(self._networks(), self._others()))

    def touch_network(self, name: str) -> None:
        """A network is new, another or gone: so are all ways on it."""
        self._touched[name] = None
        self._news.set()

    def touch_block(self, before: Block | None, block: Block | None) -> None:
        """A block is new, another or gone: so are the ways to those who had it and who have it."""
        known = self._ask_networks()
        for one in (before, block):
            if one is None or ((of := known.get(one.spec.network)) and of.spec.driver not in CLUSTER):
                continue  # packets of a parent's network take no way of ours
            nodes = self._touched.setdefault(one.spec.network, set())
            if nodes is not None:
                nodes |= {one.spec.node, *one.spec.lent.values()}
            self._news.set()

    async def run(self) -> None:
        """Bring what was touched to the kernel, as long as this runs."""
        while True:
            await self._news.wait()
            self._news.clear()
            touched, self._touched = self._touched, {}
            changes: dict[str, Rows] = self._own(())
            self._tell()
            for name, nodes in touched.items():
                changes |= self._ways(name, nodes)
            await self._node.follow(changes)

    def _ways(self, name: str, nodes: set[str] | None) -> dict[str, Rows]:
        """All rows of one network that concern these nodes; of all nodes if None."""
        network = self._ask_networks().get(name)
        if network is None or network.spec.driver not in CLUSTER:
            owners = [one for one in self._node.state.owners() if one.startswith(routes.owner(name, ""))]
            return {**dict.fromkeys((*owners, own_owner(name)), ()), **self._rows((), self._others())}
        own = self._own((network,)) if nodes is None or self._me.name in nodes else {}
        return {**own, **self._rows((network,), self._others() if nodes is None else nodes - {self._me.name})}

    def mtu(self, network: Network) -> int:
        """The MTU of a network's containers on this node."""
        me = self._me.station
        here = me.underlay
        return mtu.inner(network.spec, me.mtu, here.family if here else 4)

    def seen(self, machines: Mapping[str, Object]) -> dict[str, Object]:
        """Nodes with what is known of their lives."""
        return {name: self._seen(one) if isinstance(one, Machine) else one for name, one in machines.items()}

    def _seen(self, machine: Machine) -> Machine:
        if self.alive is None or machine.status.conditions:
            return machine  # it is said of it already
        ready = NodeCondition(type="Ready", status="True" if machine.name in self.alive else "False")
        others = tuple(one for one in machine.status.conditions if one.type != "Ready")
        return replace(machine, status=replace(machine.status, conditions=(*others, ready)))

    def unreached(self) -> Iterator[str]:
        """Who cannot be reached from here, and why, in words."""
        for network in (one for one in self._networks() if not one.spec.encrypt):
            for name in sorted(self._others()):
                if why := routes.unreached(network, self._me.station, self._stations[name]):
                    yield f"network {network.name}: {why}"
        for name in sorted(self._vigil.silent):
            yield f"node {name} gives no sign of life{self._vigil.word(name)}"

    async def close(self) -> None:
        """Ask nobody any more."""
        await self._vigil.close()

    def _underlay(self, name: str) -> Address | None:
        station = self._stations.get(name)
        return station.underlay if station else None

    def _tell(self, networks: Iterable[Network] | None = None) -> set[str]:
        """Encryption follows who is there, and whether there is anything to encrypt; to whom there are other ways now."""
        self.sounding.look()
        return self.encryption.look(
            self._living().values(),
            needed=any(one.spec.encrypt for one in (self._networks() if networks is None else networks)),
        )

    def _living(self) -> dict[str, Station]:
        """The other nodes that are not dead."""
        return {name: one for name, one in self._stations.items() if name != self._me.name and self._lives(name)}

    def _station(self, name: str) -> Station | None:
        """A node with the largest packet that gets there."""
        found = self._stations.get(name)
        return self.sounding.limit(found) if found else None

    def _lives(self, name: str) -> bool:
        return name not in self._vigil.dead

    def _know(self, machine: Machine) -> None:
        self.machines[machine.name] = machine
        self._stations[machine.name] = Station.of(machine)

    def _networks(self) -> list[Network]:
        return [one for one in self._ask_networks().values() if one.spec.driver in CLUSTER]

    def _others(self) -> set[str]:
        return self._stations.keys() - {self._me.name}

    def _fellows(self, names: Iterable[str]) -> dict[str, Rows]:
        """What the packet filter must know of other nodes."""
        found: dict[str, Rows] = {}
        for name in names:
            station = self._stations.get(name)
            addresses = tuple(one.address for one in station.addresses) if station else ()
            found[f"fellow/{name}"] = (Fellow(name=name, addresses=addresses),) if addresses else ()
        return found

    def _own(self, networks: Iterable[Network]) -> dict[str, Rows]:
        me = self._me.station
        found = {own_owner(one.name): routes.own_rows(one, me, self._mine(one, me.name)) for one in networks}
        return {**found, ENCRYPTION: self._devices(self._networks())}

    def _devices(self, networks: Iterable[Network]) -> Rows:
        return crypt.own_rows(self._me.station, (one for one in networks if one.spec.encrypt))

    def _mine(self, network: Network, me: str) -> list[Block]:
        return [one for one in self._blocks.of(network.name) if one.spec.node == me]

    def _rows(self, networks: Iterable[Network], names: Iterable[str]) -> dict[str, Rows]:
        me, names = self._me.station, list(names)
        found: dict[str, Rows] = {}
        for network in networks:
            prefixes = self._prefixes(network)
            for name in names:
                other = self._station(name) if self._lives(name) or network.spec.encrypt else None
                way = self.encryption.way(other) if other and network.spec.encrypt else None
                rows = routes.remote_rows(network, me, other, prefixes.get(name, ()), way) if other else ()
                found[routes.owner(network.name, name)] = rows
        return {**found, **self._sealed(self._networks(), names)}

    def _sealed(self, networks: Iterable[Network], names: Iterable[str]) -> dict[str, Rows]:
        """What is behind the WireGuard devices: of each node its own addresses, and what its containers have of any network."""
        networks = list(networks)
        found: dict[str, Rows] = {f"{ENCRYPTION}/{name}": () for name in names}
        if not any(one.spec.encrypt for one in networks):
            return found
        prefixes = [(one.spec.encrypt, self._prefixes(one)) for one in networks]
        for name in names:
            if other := self._station(name):
                behind = [(encrypted, by.get(name, ())) for encrypted, by in prefixes]
                found[f"{ENCRYPTION}/{name}"] = crypt.peer_rows(
                    self._me.station,
                    self.encryption.trusted(other),
                    self.encryption.way(other),
                    behind=[prefix for _, each in behind for prefix in each],
                    plain=[prefix for encrypted, each in behind for prefix in each if not encrypted],
                )
        return found

    def _prefixes(self, network: Network) -> dict[str, list[Prefix]]:
        """What is reached through each node: its blocks, and what it borrowed of others'."""
        found: dict[str, list[Prefix]] = {}
        for block in self._blocks.of(network.name):
            found.setdefault(block.spec.node, []).append(block.spec.cidr)
            for text, node in block.spec.lent.items():
                found.setdefault(node, []).append(Address(text).host())
        return found


ENCRYPTION = "encryption"
"""The owner of this node's WireGuard devices; with a slash and a name, of what is behind them on that node."""


def own_owner(network: str) -> str:
    """The owner of what this node has of a network for itself."""
    return f"here/{network}"
