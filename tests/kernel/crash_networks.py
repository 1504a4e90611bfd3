"""What else the agent is asked for while it is killed: networks, policies, everything removed, leases in host-local's files."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

from fairlead.model import codec, errors
from fairlead.model.policy import NetworkPolicy
from tests.kernel.crash_containers import Case
from tests.kernel.test_cni import cni

SHUT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut}
spec: {podSelector: {matchExpressions: [{key: bystander, operator: DoesNotExist}]}, policyTypes: [Ingress, Egress]}
"""


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


class RemoveWide(Remove):
    """The same of a network of several nodes."""

    once = True  # how often a way's points are passed depends on when the agent hears from the store that it is gone

    def ready(self) -> None:
        super().ready()
        self.world.wide("red")

    def verb(self) -> None:
        super().verb()
        self.world.wide("red", there=False)

    def _create(self, **spec: object) -> bool:
        return super()._create(driver="vxlan", **spec)


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
