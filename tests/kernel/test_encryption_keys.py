"""Keys between nodes: replaced without a packet lost, by hand and by age, whoever is away meanwhile."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.api.encryption import Encryption
from fairlead.model import errors
from tests import machine
from tests.kernel.agents import Agent
from tests.kernel.tap import Tap
from tests.kernel.test_cluster import Town, attached, known, town  # noqa: F401
from tests.net import Containers, Namespace
from tests.wait import eventually

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump")
MakeTown = Callable[..., Town]


def generations(agent: Agent) -> list[int]:
    return [one.generation for one in agent.client.encryption().keys]


def in_use(agent: Agent) -> set[int]:
    return {one.generation for one in agent.client.encryption().peers}


class Ring:
    """Three nodes with an encrypted network, a container on the first and one on the last. Old keys are good for a second."""

    def __init__(self, cleanup: ExitStack, folder: Path) -> None:
        self.town = Town(cleanup, folder, 3, "--key-grace", "1")
        self.first, self.second, self.third = self.town.agents
        self.first.network("farm", "10.60.0.0/16", driver="vxlan", encrypt=True)
        for agent in self.town.agents:
            eventually(lambda agent=agent: known(agent, "farm"), what="every node knows the network")
        containers = Containers(cleanup)
        self.here, self.there = containers.new("here"), containers.new("there")
        self.back, self.at = attached(self.first, self.here), attached(self.third, self.there)
        self.tap = Tap(self.town.switch)
        cleanup.callback(self.tap.stop)

    @property
    def generation(self) -> int:
        """The newest there is anywhere."""
        return max(max(generations(one), default=0) for one in self.town.agents)

    def settle(self, generation: int = 0) -> None:
        """Wait until everybody has keys of a generation, the newest if it is 0, and of no other, and packets pass."""
        wanted = generation or self.generation

        def settled() -> bool:
            return all(generations(one) == [wanted] and in_use(one) == {wanted} for one in self.town.agents)

        eventually(settled, 20, what=f"everybody is at generation {wanted}")
        eventually(lambda: self.here.pings(self.at) and self.there.pings(self.back), 20, what="packets pass")


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    with ExitStack() as cleanup:
        yield Ring(cleanup, tmp_path_factory.mktemp("ring"))


@pytest.fixture
def ring(rings: Ring) -> Ring:
    """The one there is, settled; a test may leave it under way, but with every agent running."""
    rings.settle()
    return rings


@contextmanager
def pinged(source: Namespace, target: str) -> Iterator[Callable[[], tuple[int, int]]]:
    """Two hundred echo requests a second, as long as the block lasts; then how many were answered, and how many not."""
    pinging = source.start("ping", "-n", "-i", "0.005", "-W", "2", target)

    def count() -> tuple[int, int]:
        pinging.send_signal(2)
        said, _ = pinging.communicate(timeout=10)
        answered = {int(one) for one in re.findall(r"icmp_seq=(\d+) ttl", said)}
        return len(answered), max(answered) - len(answered)  # what was on its way at the end does not count

    yield count


@pytest.mark.needs("iperf3")
def test_nothing_is_lost_in_a_rotation(ring: Ring, record_figures: list[str]) -> None:
    """Neither an echo request nor a moment of a full TCP stream; and nothing is in the clear."""
    ring.tap.forget()
    with pinged(ring.here, ring.at) as forth, pinged(ring.there, ring.back) as fro:
        for _ in range(2):
            generation = ring.first.client.rotate().generation
            ring.settle(generation)
        (sent, lost), (sent_back, lost_back) = forth(), fro()
    record_figures.append(f"two rotations: {lost} of {sent} and {lost_back} of {sent_back} packets lost")
    assert sent > 300
    assert (lost, lost_back) == (0, 0)
    assert not ring.tap.leaks()
    assert not ring.first.drift()
    assert not ring.third.drift()
    ring.there.start("iperf3", "-s", "-1")
    eventually(lambda: "5201" in ring.there.run("ss", "-ltn"))
    stream = ring.here.start("iperf3", "-c", ring.at, "-t", "4", "-i", "0.5", "-J")
    eventually(lambda: "5201" in ring.here.run("ss", "-tn", "state", "established"))
    ring.settle(ring.first.client.rotate().generation)
    said, _ = stream.communicate(timeout=30)
    rates = [each["sum"]["bits_per_second"] / 1e6 for each in json.loads(said)["intervals"]]
    record_figures.append(
        f"a stream in a rotation: median {sorted(rates)[len(rates) // 2]:.0f}, least {min(rates):.0f} Mbit/s in half a second"
    )
    assert min(rates[1:-1]) > 0


def test_who_was_away_follows(ring: Ring) -> None:
    """A node that is off during two rotations comes back with a key of yesterday, and is met again."""
    ring.third.kill()
    ring.third.node.run("ip", "link", "set", "eth0", "down")
    eventually(lambda: in_peers(ring.first) == {"node2"}, 20, what="the node is missed")
    for _ in range(2):
        generation = ring.first.client.rotate().generation
        eventually(lambda g=generation: generations(ring.first) == [g] and generations(ring.second) == [g], 15)
    ring.third.node.run("ip", "link", "set", "eth0", "up")
    ring.third.start()
    ring.settle(generation)


def test_who_is_silent_is_waited_for(ring: Ring) -> None:
    """A node whose agent is away goes on with the old key, and so do the others towards it; no other rotation begins."""
    ring.third.kill()
    new = ring.first.client.rotate().generation
    eventually(lambda: generations(ring.second) == [new - 1, new])
    wanted = {"node2": new, "node3": new - 1}
    eventually(lambda: {one.node: one.generation for one in ring.first.client.encryption().peers} == wanted)
    assert ring.here.pings(ring.at)
    with pytest.raises(errors.Conflict, match="under way"):
        ring.first.client.rotate()
    ring.first.kill()
    assert ring.here.pings(ring.at)
    ring.first.start()
    ring.third.start()
    ring.settle(new)


def test_a_key_that_is_old_is_replaced_by_itself(town: MakeTown) -> None:  # noqa: F811
    made = town(2, "--key-grace", "1", "--key-age", "2")
    made.agents[0].network("farm", "10.60.0.0/16", driver="vxlan", encrypt=True)
    eventually(lambda: all(max(generations(each), default=0) > 1 for each in made.agents), 20, what="new keys are there")


def test_two_with_one_key(ring: Ring) -> None:
    """A copy of a machine, its key included: neither is believed, and doctor says why."""
    ring.second.stop()
    (key,) = (ring.third.node.state_dir / "wireguard").iterdir()
    path = ring.second.node.state_dir / "wireguard" / key.name
    before = path.read_text()
    path.write_text(key.read_text())
    ring.second.start()
    eventually(lambda: "one of them is a copy" in str(ring.first.client.doctor()), 10)
    assert not ring.here.pings(ring.at)
    ring.second.stop()
    path.write_text(before)
    ring.second.start()
    ring.settle()


def in_peers(agent: Agent) -> set[str]:
    return {one.node for one in agent.client.encryption().peers}


def test_what_status_says(town: MakeTown) -> None:  # noqa: F811
    made = town(2)
    one, two = made.agents
    by = "kernel" if machine.FEATURES["wireguard"]() else "wireguard-go"
    assert replace(one.client.encryption(), peers=()) == Encryption(by=by)
    with pytest.raises(errors.Invalid, match="no network is encrypted"):
        one.client.rotate()
    one.network("farm", "10.60.0.0/16", driver="vxlan", encrypt=True)
    eventually(lambda: in_use(one) == in_use(two) == {1})
    eventually(lambda: all(peer.handshake is not None for peer in one.client.encryption().peers))
    now = one.client.encryption()
    assert now.networks == ("farm",)
    (key,) = now.keys
    assert (key.generation, key.device, key.port, key.up) == (1, "flw1", 51872, True)
    (peer,) = now.peers
    assert (peer.node, peer.endpoint, peer.problem) == ("node2", "192.0.2.2:51872", "")
    assert peer.public == two.client.encryption().keys[0].public
    assert f"packets to 1 other nodes on farm are encrypted by {by}" in str(one.client.doctor())
    shown = made.nodes[0].run(sys.executable, "-m", "fairlead.cli", "wireguard", "status")
    assert "node2" in shown
    assert key.public in shown


def test_a_firewall_between_nodes(town: MakeTown, containers: Containers) -> None:  # noqa: F811
    made = town(2)
    for node in made.nodes:
        node.run("nft", "add", "table", "inet", "wall")
        node.run("nft", "add chain inet wall in { type filter hook input priority 0; }")
        node.run("nft", "add rule inet wall in udp dport 51872 drop")
    one, two = made.agents
    one.network("farm", "10.60.0.0/16", driver="vxlan", encrypt=True)
    eventually(lambda: known(two, "farm"))
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    assert not here.pings(at)
    eventually(lambda: "let UDP port 51872 pass" in str(one.client.doctor()))
    for node in made.nodes:
        node.run("nft", "delete", "table", "inet", "wall")
    eventually(lambda: here.pings(at), 15)
    eventually(lambda: "let UDP port" not in str(one.client.doctor()))
