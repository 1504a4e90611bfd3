"""Killed at every step: each thing that the agent can be asked for, ended at each fault point on its way, then started again.

A scenario is run once with the points traced. Each point on its way, each time it is passed, is a cell: everything is made
ready, the agent is armed and asked, it kills itself there, it is started again, and what happens next happens (the runtime
repeats the call, undoes it, forgets it, or the container is gone). Then kernel, store, pools and agent must tell of the same
containers, exactly those that should be there; two containers that have nothing to do with it have lost no packet and no
byte meanwhile. A point that no scenario passes fails: a new one is tested or there is a scenario too few.
"""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fairlead.desired import names
from fairlead.model import codec, errors
from fairlead.model.policy import NetworkPolicy
from tests.kernel.crash import World, points
from tests.kernel.crash_keys import Keyed
from tests.kernel.test_cni import cni, conf
from tests.kernel.traffic import Traffic
from tests.net import Containers, Namespace, Node, Outside

RUNTIME = {
    "portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
    ],
    "bandwidth": {"ingressRate": 80_000_000, "ingressBurst": 8_000_000, "egressRate": 80_000_000, "egressBurst": 8_000_000},
}
BLUE = conf("1.1.0", network="blue", runtimeConfig=RUNTIME)
INLINE = {
    "cniVersion": "1.1.0",
    "name": "inline",
    "type": "fairlead",
    "ipam": {"ranges": [[{"subnet": "10.51.0.0/24"}]]},
}
SHUT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut}
spec: {podSelector: {matchExpressions: [{key: bystander, operator: DoesNotExist}]}, policyTypes: [Ingress, Egress]}
"""


@dataclass
class Case:
    """One container of one cell. ``verb`` is what the agent is killed in, ``then`` what happens after it was started again."""

    world: World
    one: Namespace

    def add(self, used: dict[str, Any] = BLUE, one: Namespace | None = None) -> tuple[int, dict[str, Any]]:
        return cni(self.world.node, "ADD", one or self.one, used)

    def delete(self, used: dict[str, Any] = BLUE) -> tuple[int, dict[str, Any]]:
        return cni(self.world.node, "DEL", self.one, used)

    def added(self, used: dict[str, Any] = BLUE) -> dict[str, Any]:
        status, result = self.add(used)
        assert status == 0, result
        self.world.alive(self.one)
        return result

    def deleted(self, used: dict[str, Any] = BLUE) -> None:
        assert self.delete(used) == (0, {})
        self.world.dead(self.one)

    def reaches(self) -> None:
        for at in ("10.50.0.2", "fd50::2"):
            assert self.one.pings(at)

    def nothing(self) -> None:
        """For what needs no preparation, or is followed by nothing."""


class Add(Case):
    """ADD, and the runtime asks again."""

    def ready(self) -> None:
        """A namespace without an interface."""

    def verb(self) -> None:
        self.add()

    def then(self) -> None:
        self.added()
        self.reaches()

    def clear(self) -> None:
        self.deleted()


class AddUndone(Add):
    """ADD, and the runtime gives up: it undoes what may be there."""

    def then(self) -> None:
        self.deleted()


class AddVanished(Add):
    """ADD, and the container is gone before the agent is back; nobody says so."""

    def away(self) -> None:
        self.one.remove()

    def then(self) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing is left to clear."""


class Refused(Add):
    """ADD that the kernel refuses when half of it is made; the runtime undoes it."""

    def ready(self) -> None:
        self.one.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")

    def recovered(self) -> None:
        """Until the runtime undoes it, the agent goes on trying: the row says that the container was attached."""

    def then(self) -> None:
        self.one.run("ip", "link", "delete", "eth0")
        self.deleted()

    def clear(self) -> None:
        """Nothing is left to clear."""


class Again(Add):
    """ADD for a container that is attached already, in another namespace now: it was restarted under its old name."""

    def ready(self) -> None:
        self.added()
        self.second = self.world.container()

    def verb(self) -> None:
        self._moved()

    def then(self) -> None:
        status, result = self._moved()
        assert status == 0, result
        assert self.second.pings("10.50.0.2")

    def _moved(self) -> tuple[int, dict[str, Any]]:
        words = {"CNI_CONTAINERID": self.one.name, "CNI_NETNS": str(self.second.path), "CNI_IFNAME": "eth0"}
        return cni(self.world.node, "ADD", None, BLUE, **words)


class Inline(Add):
    """ADD with a network that its configuration defines."""

    def verb(self) -> None:
        self.add(INLINE)

    def then(self) -> None:
        self.added(INLINE)
        self.world.networks.add("inline")

    def clear(self) -> None:
        self.deleted(INLINE)
        self.world.exactly()
        self.world.agent.client.delete("networks", "inline")
        self.world.networks.discard("inline")


class Chained(Add):
    """ADD behind another plugin, for ports and limits."""

    def ready(self) -> None:
        self.world.node.run("ip", "link", "add", "other1", "type", "veth", "peer", "name", "eth0", "netns", self.one.name)
        self.world.node.run("ip", "link", "set", "other1", "up")
        self.one.run("ip", "address", "add", "10.66.0.2/24", "dev", "eth0")
        self.one.run("ip", "link", "set", "eth0", "up")
        previous = {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "other1"}, {"name": "eth0", "sandbox": str(self.one.path)}],
            "ips": [{"address": "10.66.0.2/24", "interface": 1}],
        }
        self.used = {**BLUE, "prevResult": previous}

    def verb(self) -> None:
        self.add(self.used)

    def then(self) -> None:
        self.added(self.used)

    def clear(self) -> None:
        self.deleted(self.used)
        self.world.exactly()
        self.world.node.run("ip", "link", "delete", "other1")


class ChainedDel(Chained):
    """DEL behind another plugin."""

    def ready(self) -> None:
        super().ready()
        self.added(self.used)

    def verb(self) -> None:
        self.delete(self.used)

    def then(self) -> None:
        self.deleted(self.used)


class Del(Add):
    """DEL, and the runtime asks again."""

    def ready(self) -> None:
        self.added()

    def verb(self) -> None:
        self.delete()

    def then(self) -> None:
        self.deleted()

    def clear(self) -> None:
        """Nothing is left to clear."""


class DelOnce(Del):
    """DEL, and the runtime never asks again: it was told that it is done, and the client remembers."""

    def then(self) -> None:
        self.world.dead(self.one)


class DelVanished(DelOnce):
    """DEL, and the container's namespace is removed at once."""

    def away(self) -> None:
        self.one.remove()


class Detach(Del):
    """The same by the API, where no client remembers: either it was done, or it was not, and never half of it."""

    def verb(self) -> None:
        try:
            self.world.agent.detach(self.one)
        except errors.Unavailable:
            return

    def recovered(self) -> None:
        name = f"{self.one.name}:eth0"
        if name not in self.world.stored("endpoints"):
            self.world.dead(self.one)
        self.world.exactly()

    def then(self) -> None:
        self.world.agent.detach(self.one)
        self.world.dead(self.one)


class Collect(Del):
    """GC of a container that its runtime does not list."""

    def ready(self) -> None:
        self.added()
        self._collect()
        self.world.exactly()

    def verb(self) -> None:
        self._collect()

    def then(self) -> None:
        self._collect()
        assert self._collect() == (0, {})
        self.world.dead(self.one)

    def _collect(self) -> tuple[int, dict[str, Any]]:
        return cni(self.world.node, "GC", None, {**BLUE, "cni.dev/valid-attachments": []})


class Vanished(Del):
    """A container ends without a word, and the agent notices. It may see a piece gone before it sees that all are."""

    incidental = ("repair.",)

    def verb(self) -> None:
        self.one.remove()
        self.world.noticed(self.one)

    def then(self) -> None:
        self.world.dead(self.one)


class Remembered(Del):
    """A DEL that came while the agent was away is finished by its start."""

    def ready(self) -> None:
        self.added()
        self.world.agent.kill()
        assert self.delete() == (0, {})

    def verb(self) -> None:
        self.world.start()
        self.world.made_up_for()

    def then(self) -> None:
        self.world.dead(self.one)


class Start(Add):
    """The start itself, onto what an earlier one left."""

    def ready(self) -> None:
        self.added()
        self.world.agent.kill()

    def verb(self) -> None:
        self.world.start()

    def then(self) -> None:
        self.reaches()


class StartBroken(Start):
    """The start onto what others have broken meanwhile: it makes everything again."""

    harmless = False

    def ready(self) -> None:
        super().ready()
        self.world.node.run("nft", "flush", "ruleset")
        self.world.node.run("ip", "link", "delete", "fl-blue")
        for link in self.world.node.json("ip", "-j", "link"):
            if link["ifname"].startswith("flv"):
                self.world.node.run("ip", "link", "delete", link["ifname"])
        self.world.node.run(
            "ip", "link", "add", names.veth(f"{self.one.name}:eth0"), "type", "veth", "peer", "name", "stranger"
        )
        self.world.node.run("ip", "link", "add", "stray", "group", "26220", "type", "veth")
        self.world.node.run("ip", "link", "set", "stray", "group", "26221")


class Create(Case):
    """A network is created, and asked for again."""

    def ready(self) -> None:
        """Nothing."""

    def verb(self) -> None:
        self._create()

    def then(self) -> None:
        assert self._create()
        self.world.networks.add("red")

    def clear(self) -> None:
        self._delete()

    def _create(self, **spec: object) -> bool:
        try:
            self.world.agent.network("red", "10.52.0.0/24", "fd52::/64", **spec)
        except (errors.Unavailable, http.client.HTTPException):
            return False
        return True

    def _delete(self) -> bool:
        try:
            self.world.agent.client.delete("networks", "red")
        except errors.Unavailable:
            return False
        except errors.Missing:
            pass
        self.world.networks.discard("red")
        return True


class CreateWide(Create):
    """A network of several nodes is created: its tunnel, and what stands for all of it, are made by a task of their own."""

    def ready(self) -> None:
        """Nothing."""

    def verb(self) -> None:
        self._create()
        self.world.wide("red")

    def _create(self, **spec: object) -> bool:
        return super()._create(driver="vxlan", **spec)


class RemoveWide(CreateWide):
    """A network of several nodes is deleted, and asked to be again."""

    def ready(self) -> None:
        assert self._create()
        self.world.wide("red")
        self.world.networks.add("red")

    def verb(self) -> None:
        self._delete()
        self.world.wide("red", there=False)
        self.world.networks.add("red")

    def recovered(self) -> None:
        if "red" not in self.world.stored("networks"):
            self.world.networks.discard("red")
        self.world.exactly()

    def then(self) -> None:
        assert self._delete()

    def clear(self) -> None:
        """Nothing is left to clear."""


class Change(Create):
    """A network is changed."""

    def ready(self) -> None:
        assert self._create()

    def verb(self) -> None:
        self._create(mtu=1400, interContainer=False)

    def then(self) -> None:
        assert self._create(mtu=1400, interContainer=False)
        self.world.networks.add("red")


class CreateRefused(Create):
    """A network whose bridge somebody else has: made, and taken back."""

    def ready(self) -> None:
        self.world.node.run("ip", "link", "add", "fl-red", "type", "bridge")

    def verb(self) -> None:
        try:
            self._create()
        except errors.Conflict:
            return

    def recovered(self) -> None:
        """Until somebody removes one of the two, the agent goes on trying."""

    def then(self) -> None:
        self.world.node.run("ip", "link", "delete", "fl-red")
        assert self._delete()

    def clear(self) -> None:
        """Nothing is left to clear."""


class Remove(Create):
    """A network is deleted, and asked to be again."""

    def ready(self) -> None:
        assert self._create()
        self.world.networks.add("red")

    def verb(self) -> None:
        self._delete()
        self.world.networks.add("red")

    def recovered(self) -> None:
        if "red" not in self.world.stored("networks"):
            self.world.networks.discard("red")
        self.world.exactly()

    def then(self) -> None:
        assert self._delete()

    def clear(self) -> None:
        """Nothing is left to clear."""


class Purge(Case):
    """Everything is removed from the node; its networks come back with the next start."""

    harmless = False

    def ready(self) -> None:
        for one in self.world.bystanders:  # several would leave in one batch or in two, as it happens
            self.world.agent.detach(one)
            self.world.dead(one)
        self.world.agent.attach(self.one, "blue", bandwidth={"egressRate": 80_000_000})
        self.world.alive(self.one)

    def verb(self) -> None:
        try:
            self.world.agent.client.purge()
        except errors.Unavailable:
            return

    def then(self) -> None:
        self.verb()
        assert not self.world.agent.client.status().ready
        assert "fairlead" not in self.world.node.run("nft", "list", "tables") + self.world.node.run("ip", "link")
        self.world.live.clear()
        self.world.agent.kill()
        self.world.agent.start()

    def clear(self) -> None:
        """Nothing is left to clear."""


class Ruled(Case):
    """A policy is applied that lets nobody in, and applied again."""

    def ready(self) -> None:
        self.added()

    def verb(self) -> None:
        self._rule()

    def then(self) -> None:
        assert self._rule()
        self.closed()

    def clear(self) -> None:
        assert self.free()
        self.deleted()

    def closed(self) -> None:
        """Nobody gets in, and nothing gets out: what it is asked for by name is in the kernel."""
        bystander = self.world.bystanders[0]
        assert not self.one.pings("10.50.0.2")
        assert not bystander.pings(self._address())

    def free(self) -> bool:
        return self._ask(lambda: self.world.agent.client.delete(NetworkPolicy.plural, "default/shut"))

    def _rule(self) -> bool:
        return self._ask(lambda: self.world.agent.client.apply(codec.from_yaml(SHUT)[0]))

    def _ask(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except (errors.Unavailable, http.client.HTTPException):
            return False
        except errors.Missing:
            pass
        return True

    def _address(self) -> str:
        (inside,) = self.one.json("ip", "-json", "-4", "address", "show", "dev", "eth0")
        return str(inside["addr_info"][0]["local"])


class Freed(Ruled):
    """A policy is deleted, and asked to be again."""

    def ready(self) -> None:
        super().ready()
        assert self._rule()

    def verb(self) -> None:
        self.free()

    def then(self) -> None:
        assert self.free()
        self.reaches()

    def clear(self) -> None:
        self.deleted()


class RuledAdd(Ruled):
    """ADD of a container that a policy waits for."""

    def ready(self) -> None:
        assert self._rule()

    def verb(self) -> None:
        self.add()

    def then(self) -> None:
        self.added()
        self.closed()


class Lease(Case):
    """ADD by fairlead-ipam, in host-local's files."""

    def ready(self) -> None:
        self.used = {
            "cniVersion": "1.1.0",
            "name": "lan",
            "type": "macvlan",
            "ipam": {"type": "fairlead-ipam", "ranges": [[{"subnet": "10.67.0.0/24"}]], "dataDir": str(self.world.leases)},
        }
        self.folder = self.world.leases / "lan"

    def ipam(self, command: str) -> tuple[int, dict[str, Any]]:
        return cni(self.world.node, command, self.one, self.used, plugin=self.world.ipam)

    def verb(self) -> None:
        self.ipam("ADD")

    def then(self) -> None:
        """host-local's rule: what an interrupted ADD left is taken back by DEL before the next."""
        assert self.ipam("DEL")[0] == 0
        assert not self.held()
        status, result = self.ipam("ADD")
        assert status == 0, result
        assert list(self.held()) == [result["ips"][0]["address"].partition("/")[0]]

    def clear(self) -> None:
        assert self.ipam("DEL")[0] == 0
        assert not self.held()

    def held(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.glob("[0-9]*")}


class LeaseDel(Lease):
    """DEL by fairlead-ipam."""

    def ready(self) -> None:
        super().ready()
        assert self.ipam("ADD")[0] == 0

    def verb(self) -> None:
        self.ipam("DEL")

    def then(self) -> None:
        assert self.ipam("DEL")[0] == 0
        assert not self.held()


SCENARIOS: dict[str, Callable[[World, Namespace], Any]] = {
    "ADD, asked again": Add,
    "ADD, then DEL": AddUndone,
    "ADD, container gone": AddVanished,
    "ADD refused by the kernel": Refused,
    "ADD of a restarted container": Again,
    "ADD with an inline network": Inline,
    "ADD in a chain": Chained,
    "DEL in a chain": ChainedDel,
    "DEL, asked again": Del,
    "DEL, never again": DelOnce,
    "DEL, container gone": DelVanished,
    "detach by the API": Detach,
    "GC": Collect,
    "container vanishes": Vanished,
    "start, remembered DEL": Remembered,
    "start": Start,
    "start onto ruins": StartBroken,
    "network created": Create,
    "network changed": Change,
    "network refused": CreateRefused,
    "network deleted": Remove,
    "network of many nodes created": CreateWide,
    "network of many nodes deleted": RemoveWide,
    "purge": Purge,
    "policy applied": Ruled,
    "policy deleted": Freed,
    "ADD under a policy": RuledAdd,
    "ipam ADD": Lease,
    "ipam DEL": LeaseDel,
}

KEYS = "keys replaced"
PASSED: dict[str, list[str]] = {}
"""The points that each scenario passed."""


@pytest.fixture
def world(cleanup: ExitStack, node: Node, outside: Outside, containers: Containers) -> Iterator[World]:
    made = World(node, outside, containers)
    cleanup.callback(made.agent.remove)
    made.begin()
    return made


@pytest.mark.parametrize("what", SCENARIOS)
def test_killed_at_every_step(world: World, what: str, record_matrix: dict[str, tuple[int, str]]) -> None:
    make = SCENARIOS[what]
    traffic = Traffic(world.bystanders[1], world.bystanders[0], "10.50.0.2") if getattr(make, "harmless", True) else None
    PASSED[what] = _traced(world, make)
    seen: Counter[str] = Counter()
    for point in PASSED[what]:
        seen[point] += 1
        try:
            _cell(world, make(world, world.container()), f"{point}:{seen[point]}")
        except BaseException as problem:
            problem.add_note(f"killed at {point}:{seen[point]}; on the way: {PASSED[what]}")
            problem.add_note(world.agent.log[-3000:])
            raise
    world.exactly()
    record_matrix[what] = len(PASSED[what]), ""
    if traffic:
        lost = traffic.stop()
        record_matrix[what] = (
            len(PASSED[what]),
            f"{lost.sent} pings and {lost.bytes_taken >> 10} KiB beside it, {lost.lost} lost",
        )
        assert lost.nothing, lost


@pytest.mark.needs("wireguard-go", "tcpdump")
def test_killed_while_keys_are_replaced(
    cleanup: ExitStack, tmp_path: Path, containers: Containers, record_matrix: dict[str, tuple[int, str]]
) -> None:
    """Packets to another node stay encrypted, and pass, whatever half of a new key is there."""
    keyed = Keyed(cleanup, tmp_path, containers)
    PASSED[KEYS] = list(dict.fromkeys(keyed.traced(2)))  # how often one is passed depends on when others are heard
    seen: Counter[str] = Counter()
    for generation, point in enumerate(PASSED[KEYS], 3):
        seen[point] += 1
        try:
            keyed.killed(f"{point}:{seen[point]}", generation)
        except BaseException as problem:
            problem.add_note(f"killed at {point}:{seen[point]}; on the way: {PASSED[KEYS]}")
            problem.add_note(keyed.agent.log[-3000:])
            raise
    record_matrix[KEYS] = len(PASSED[KEYS]), ""


def test_every_point_is_passed() -> None:
    """Those above have run all of them, or this says nothing."""
    if set(PASSED) != {*SCENARIOS, KEYS}:
        pytest.skip("not every scenario ran")
    there = points()
    assert not [name for name, times in Counter(there).items() if times > 1], "a name stands for one place"
    passed = {point for each in PASSED.values() for point in each}
    assert set(there) - passed == set()


def _traced(world: World, make: Callable[[World, Namespace], Any]) -> list[str]:
    """Everything once, without a fault."""
    case = make(world, world.container())
    case.ready()
    world.settled()
    before = len(world.passed)
    world.arm("trace")
    case.verb()
    returned = len(world.passed)
    world.settled()  # by requests of its own, which are not on the way
    world.disarm()
    passed = world.passed[before:returned] + [one for one in world.passed[returned:] if not one.startswith("request.")]
    passed = [one for one in passed if not one.startswith(getattr(case, "incidental", ()))]
    getattr(case, "away", case.nothing)()
    case.then()
    world.exactly()
    case.clear()
    world.exactly()
    assert passed
    return passed


def _cell(world: World, case: Any, fault: str) -> None:
    case.ready()
    world.settled()
    world.arm(fault)
    case.verb()
    world.died()
    world.disarm()
    getattr(case, "away", case.nothing)()
    world.agent.start()
    getattr(case, "recovered", world.consistent)()
    case.then()
    world.exactly()
    case.clear()
