"""Containers that come and go while the agent is killed: the scenarios of the crash matrix about calls for one container.

``ready`` makes everything ready, ``verb`` is what the agent is killed in, ``away`` happens while it is away, ``recovered`` is
what holds once it is back, ``then`` is what follows, and ``clear`` takes away what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairlead.desired import names
from fairlead.model import errors
from tests.kernel.crash import World
from tests.kernel.test_cni import cni, conf
from tests.net import Namespace, Outside

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


class Single(Add):
    """ADD on a network whose one address is another's too: it is claimed in the store before the container has it."""

    used = conf("1.1.0", network="lan")

    def ready(self) -> None:
        for name in ("lan", "cam"):
            run = {"start": "203.0.113.50", "end": "203.0.113.50"}
            subnet = {"cidr": "203.0.113.0/24", "gateway": Outside.v4, "ranges": [run], "blockSize": 32}
            self.world.agent.network(name, driver="macvlan", parent="eth0", subnets=[subnet])
            self.world.networks.add(name)

    def verb(self) -> None:
        self.add(self.used)

    def then(self) -> None:
        self.added(self.used)
        status, refusal = self.add(conf("1.1.0", network="cam"), self.world.container())
        assert status
        assert "every address of 203.0.113.0/24 is taken; by node: none; for network lan" in str(refusal)

    def clear(self) -> None:
        self.deleted(self.used)
        self.world.given_back()


class SingleVanished(Single):
    """The same, and the container is gone before the agent is back: the address is free again, for whichever network."""

    def away(self) -> None:
        self.one.remove()

    def then(self) -> None:
        self.world.agent.kill()
        self.world.agent.start()  # what is on no link of ours is missed at a start, or by the timer
        self.world.given_back()

    def clear(self) -> None:
        """Nothing is left to clear."""


class SingleDel(Single):
    """DEL of such a container, after which the other network may have its address."""

    def ready(self) -> None:
        super().ready()
        self.added(self.used)

    def verb(self) -> None:
        self.delete(self.used)
        self.world.given_back()

    def then(self) -> None:
        self.deleted(self.used)
        self.world.given_back()
        self.used = conf("1.1.0", network="cam")
        self.added(self.used)
