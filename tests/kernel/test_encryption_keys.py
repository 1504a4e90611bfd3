"""Keys between nodes: replaced without a packet lost, by hand and by age, whoever is away meanwhile."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from msgspec.structs import replace

from fairlead.api.encryption import Encryption
from fairlead.model import errors
from tests import machine
from tests.kernel.agents import Agent
from tests.kernel.tap import Tap
from tests.kernel.test_cluster import Town, attached, farm, known, town  # noqa: F401
from tests.net import Containers, Namespace
from tests.wait import eventually

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump")
MakeTown = Callable[..., Town]
GRACE = ("--key-grace", "1")


def generations(agent: Agent) -> list[int]:
    return [one.generation for one in agent.client.encryption().keys]


def in_use(agent: Agent) -> set[int]:
    return {one.generation for one in agent.client.encryption().peers}


def settled(made: Town, generation: int) -> bool:
    return all(generations(one) == [generation] and in_use(one) == {generation} for one in made.agents)


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


def test_nothing_is_lost_in_a_rotation(
    town: MakeTown,  # noqa: F811
    containers: Containers,
    cleanup: ExitStack,
    record_figures: list[str],
) -> None:
    made = farm(lambda count: town(count, *GRACE), encrypt=True)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    back, at = attached(one, here), attached(two, there)
    eventually(lambda: here.pings(at) and there.pings(back))
    tap = Tap(made.switch)
    cleanup.callback(tap.stop)
    with pinged(here, at) as forth, pinged(there, back) as fro:
        for generation in (2, 3, 4):
            assert one.client.rotate().generation == generation
            eventually(lambda g=generation: settled(made, g), 20, what=f"everybody is at generation {generation}")
        (sent, lost), (sent_back, lost_back) = forth(), fro()
    record_figures.append(f"three rotations: {lost} of {sent} and {lost_back} of {sent_back} packets lost")
    assert sent > 500
    assert (lost, lost_back) == (0, 0)
    assert not tap.leaks()
    assert not one.drift()
    assert not two.drift()


@pytest.mark.needs("iperf3")
def test_a_stream_in_a_rotation(
    town: MakeTown,  # noqa: F811
    containers: Containers,
    record_figures: list[str],
) -> None:
    """A full TCP stream meanwhile never stands still."""
    made = farm(lambda count: town(count, *GRACE), encrypt=True)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    there.start("iperf3", "-s", "-1")
    eventually(lambda: here.pings(at))
    eventually(lambda: "5201" in there.run("ss", "-ltn"))
    stream = here.start("iperf3", "-c", at, "-t", "8", "-i", "0.5", "-J")
    eventually(lambda: "5201" in here.run("ss", "-tn", "state", "established"))
    one.client.rotate()
    eventually(lambda: settled(made, 2), 20)
    said, _ = stream.communicate(timeout=30)
    rates = [each["sum"]["bits_per_second"] / 1e6 for each in json.loads(said)["intervals"]]
    record_figures.append(
        f"a stream in a rotation: median {sorted(rates)[len(rates) // 2]:.0f}, least {min(rates):.0f} Mbit/s in half a second"
    )
    assert min(rates[1:-1]) > 0


def test_who_was_away_follows(town: MakeTown, containers: Containers) -> None:  # noqa: F811
    """A node that is off during two rotations comes back with a key of yesterday, and is met again."""
    made = farm(lambda count: town(count, *GRACE), 3, encrypt=True)
    first, second, third = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(first, here)
    at = attached(third, there)
    eventually(lambda: here.pings(at))
    third.kill()
    third.node.run("ip", "link", "set", "eth0", "down")
    eventually(lambda: "node3" not in {one.node for one in first.client.encryption().peers}, 20, what="the node is missed")
    for generation in (2, 3):
        first.client.rotate()
        eventually(lambda g=generation: generations(first) == [g] and generations(second) == [g], 15)
    third.node.run("ip", "link", "set", "eth0", "up")
    third.start()
    eventually(lambda: here.pings(at), 20, what="the node is back")
    eventually(lambda: settled(made, 3), 15)


def test_who_is_silent_is_waited_for(town: MakeTown, containers: Containers) -> None:  # noqa: F811
    """A node whose agent is away goes on with the old key, and so do the others towards it."""
    made = farm(lambda count: town(count, *GRACE), 3, encrypt=True)
    first, second, third = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(first, here)
    at = attached(third, there)
    eventually(lambda: here.pings(at))
    third.kill()
    first.client.rotate()
    eventually(lambda: generations(second) == [1, 2])
    eventually(lambda: {one.node: one.generation for one in first.client.encryption().peers} == {"node2": 2, "node3": 1})
    assert here.pings(at)
    with pytest.raises(errors.Conflict, match="under way"):
        first.client.rotate()
    third.start()
    eventually(lambda: settled(made, 2), 20)
    assert here.pings(at)


def test_a_key_that_is_old_is_replaced_by_itself(town: MakeTown, containers: Containers) -> None:  # noqa: F811
    made = farm(lambda count: town(count, *GRACE, "--key-age", "5"), encrypt=True)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    eventually(lambda: all(max(generations(each)) > 1 for each in made.agents), 20, what="new keys are there")
    assert here.pings(at)


def test_a_rotation_does_not_overtake_another(town: MakeTown) -> None:  # noqa: F811
    made = farm(town, encrypt=True)
    one, two = made.agents
    eventually(lambda: settled(made, 1))
    one.client.rotate()
    with pytest.raises(errors.Conflict, match="under way"):
        one.client.rotate()
    eventually(lambda: in_use(one) == in_use(two) == {2})
    assert generations(one) == [1, 2], "the old key is still good"


def test_a_rotation_survives_a_restart(town: MakeTown, containers: Containers) -> None:  # noqa: F811
    made = farm(lambda count: town(count, *GRACE), encrypt=True)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    two.kill()
    one.client.rotate()
    one.kill()
    assert here.pings(at)
    one.start()
    two.start()
    eventually(lambda: settled(made, 2), 20)
    assert here.pings(at)


def test_two_with_one_key(town: MakeTown, containers: Containers) -> None:  # noqa: F811
    """A copy of a machine, its key included: neither is believed, and doctor says why."""
    made = farm(town, 3, encrypt=True)
    first, second, third = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(first, here)
    at = attached(second, there)
    eventually(lambda: here.pings(at))
    third.stop()
    (key,) = (second.node.state_dir / "wireguard").iterdir()
    (third.node.state_dir / "wireguard" / key.name).write_text(key.read_text())
    third.start()
    eventually(lambda: "one of them is a copy" in str(first.client.doctor()), 10)
    assert not here.pings(at)
    third.stop()
    (third.node.state_dir / "wireguard" / key.name).unlink()
    third.start()
    eventually(lambda: here.pings(at), 10)


def test_what_status_says(town: MakeTown) -> None:  # noqa: F811
    made = town(2)
    one, two = made.agents
    by = "kernel" if machine.FEATURES["wireguard"]() else "wireguard-go"
    assert replace(one.client.encryption(), peers=()) == Encryption(by=by)
    with pytest.raises(errors.Invalid, match="no network is encrypted"):
        one.client.rotate()
    one.network("farm", "10.60.0.0/16", driver="vxlan", encrypt=True)
    eventually(lambda: settled(made, 1))
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
