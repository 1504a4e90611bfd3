"""Two nodes with an encrypted network; the agent of the first is killed while keys are replaced, and started again."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from fairlead.model import errors
from tests.kernel.agents import Agent
from tests.kernel.crash import PATIENCE, Nursed
from tests.kernel.tap import Tap
from tests.kernel.test_cluster import Town, attached, known
from tests.net import Containers
from tests.wait import eventually

KINDS = ("key.", "crypt.", "encryption.")
"""What the points of encryption begin with."""


class Keyed:
    """The nodes, a container on each, and a tap between them."""

    def __init__(self, cleanup: ExitStack, folder: Path, containers: Containers) -> None:
        made = Town(cleanup, folder, 2, "--key-grace", "0.2")
        plain, self.other = made.agents
        plain.stop()
        self._fault = folder / "fault"
        self.agent: Agent = Nursed(plain.node, *plain.options, fault=self._fault)
        cleanup.callback(self.agent.remove)
        self.agent.start()
        self.agent.network("farm", "10.60.0.0/16", driver="vxlan", encrypt=True)
        eventually(lambda: known(self.other, "farm"))
        self.here, there = containers.new("here"), containers.new("there")
        attached(self.agent, self.here)
        self.at = attached(self.other, there)
        self.tap = Tap(made.switch)
        cleanup.callback(self.tap.stop)
        self.settle(1)

    def rotate(self) -> None:
        with suppress(errors.Problem):  # it may be killed before it has answered
            self.agent.client.rotate()

    def settle(self, generation: int) -> None:
        """Wait until both nodes have keys of this generation alone, and use them."""
        eventually(lambda: self._settled(generation), PATIENCE, what=f"everybody is at generation {generation}")
        eventually(lambda: self.here.pings(self.at), PATIENCE, what="packets pass")
        assert not self.tap.leaks()
        assert not self.agent.drift()
        (file,) = (self.agent.node.state_dir / "wireguard").iterdir()
        assert file.name == f"{generation}.key"

    def _settled(self, generation: int) -> bool:
        asked = [one.client.encryption() for one in (self.agent, self.other)]
        return all(
            [key.generation for key in one.keys] == [generation] and [peer.generation for peer in one.peers] == [generation]
            for one in asked
        )

    def traced(self, generation: int) -> list[str]:
        """The points on the way to a generation, nobody being killed."""
        self._arm("trace")
        self.rotate()
        self.settle(generation)
        self._fault.unlink()
        passed = (line.rpartition(" ")[2] for line in self.agent.log.splitlines() if line.startswith("fault point "))
        return [one for one in passed if one.startswith(KINDS)]

    def killed(self, fault: str, generation: int) -> None:
        """On the way to a generation; when the agent is back, whoever wanted it wants it still."""
        self._arm(fault)
        self.rotate()
        assert self.agent._process
        self.agent._process.wait(PATIENCE)
        self._fault.unlink()
        assert self.here.pings(self.at), "packets pass meanwhile"
        self.agent.start()
        if max(one.generation for one in self.agent.client.encryption().keys) < generation:
            self.rotate()
        self.settle(generation)

    def _arm(self, what: str) -> None:
        fresh = self._fault.with_suffix(".new")
        fresh.write_text(what)
        fresh.rename(self._fault)
