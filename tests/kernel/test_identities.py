"""Numbers in the kernel: whose they are, for how long they are there, and what happens when a node loses its key."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest

from fairlead.datapath.ebpf.layout import NUMBER
from fairlead.kernel.bpf import Map
from fairlead.model import codec, errors
from tests.kernel.agents import Agent, address
from tests.kernel.knocking import HOLD, KNOCKS
from tests.net import PYTHON, Containers, Node
from tests.wait import eventually

POLICIES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}
  ingress: [{action: Deny, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: red}}}]}]
"""


@pytest.fixture
def agent(cleanup: ExitStack, node: Node, plane: str) -> Agent:
    """A real agent, on each plane."""
    made = Agent(node, "--plane", plane)
    cleanup.callback(made.remove)
    made.start()
    made.network("town", "10.60.0.0/24")
    for one in codec.from_yaml(POLICIES):
        made.client.apply(one)
    return made


@pytest.fixture
def background(cleanup: ExitStack) -> Callable[..., subprocess.Popen[str]]:
    """A program in a container that runs until the clean-up."""

    def begin(program: str, room: object, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", room.name, *PYTHON, "-c", program, *words],  # type: ignore[attr-defined]
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        cleanup.callback(lambda: (process.kill(), process.communicate()))
        return process

    return begin


def numbers(agent: Agent) -> dict[str, str]:
    """Of each number whose it is."""
    return {one.number: ",".join(one.containers) or one.kind for one in agent.client.identities()}


def in_kernel(node: Node) -> set[str]:
    """The numbers that the programs know addresses by."""
    with closing(Map.pinned(str(node.run_dir / "bpf" / "maps" / "peers"))) as found:
        return {f"{NUMBER.unpack(value)[0]:016x}" for value in found.entries().values()}


@pytest.mark.parametrize("plane", ["ebpf"], indirect=True)
def test_a_number_comes_with_the_first_and_goes_with_the_last(agent: Agent, node: Node, containers: Containers) -> None:
    assert numbers(agent) == {}
    one, two, other = (containers.new(name) for name in ("one", "two", "other"))
    agent.attach(one, "town", namespace="shop", labels={"app": "web", "serial": "1"})
    ((number, whose),) = numbers(agent).items()
    assert whose == "shop/one"
    assert in_kernel(node) == {number}
    at = address(agent.attach(two, "town", namespace="shop", labels={"app": "web", "serial": "2"}))
    (found,) = agent.client.identities()
    assert (found.number, found.addresses, found.containers) == (number, 2, ("shop/one", "shop/two"))
    assert found.labels == {"app": "web"}, "no policy asks for a serial"
    agent.attach(other, "town", namespace="shop", labels={"app": "db"})
    assert len(in_kernel(node)) == 2
    assert agent.client.identities(who="one") == agent.client.identities(who="shop/two") == agent.client.identities(who=at)
    agent.detach(one)
    assert number in numbers(agent)
    agent.detach(two)
    assert number not in numbers(agent)
    eventually(lambda: in_kernel(node) == numbers(agent).keys(), what="its rows are collected")
    with pytest.raises(errors.Missing):
        agent.client.identities(who=at)


def test_a_restart_finds_the_numbers_again(agent: Agent, containers: Containers) -> None:
    for name in ("web", "db"):
        agent.attach(containers.new(name), "town", namespace="shop", labels={"app": name})
    before = agent.client.identities()
    agent.kill()
    agent.start()
    assert agent.client.identities() == before
    assert agent.client.status().repairs == 0


@pytest.mark.parametrize("damage", ["lost", "damaged", "of a build without"])
def test_without_its_key_a_node_goes_on_under_other_numbers(
    agent: Agent, node: Node, containers: Containers, background: Callable[..., subprocess.Popen[str]], damage: str
) -> None:
    """Connections live on, and nobody is let in who may not, neither by the first policy nor by the second."""
    web, db, rogue = (containers.new(name) for name in ("web", "db", "rogue"))
    agent.attach(rogue, "town", namespace="red")
    doors = {}
    for name, room in (("web", web), ("db", db)):
        doors[name] = address(agent.attach(room, "town", namespace="shop", labels={"app": name}))
        room.serve("tcp", 80)
    refused = [background(KNOCKS, rogue, door) for door in doors.values()]
    held = background(HOLD, web, doors["db"], "80")
    assert held.stdin
    assert held.stdout

    def says() -> str:
        held.stdin.write("\n")
        held.stdin.flush()
        return held.stdout.readline()

    assert says() == "answered\n"
    before = numbers(agent)
    agent.stop()
    key = node.run_dir / "numbers.key"
    key.unlink() if damage != "damaged" else key.write_text("nothing")
    if damage == "of a build without":
        (node.run_dir / "edition").write_text("another")
    agent.start()
    assert says() == "answered\n"
    after = numbers(agent)
    assert sorted(after.values()) == sorted(before.values())
    assert not after.keys() & before.keys()
    assert web.connects(doors["db"], 80)
    assert not rogue.connects(doors["db"], 80, deadline=0.5)
    assert agent.client.status().repairs == 0
    assert agent.drift() == []
    for one in refused:
        assert one.poll() is None, "it knocked to the end"
        one.kill()
        assert one.communicate()[0] == "", "nobody was let in"
    agent.stop()
    agent.start()
    assert numbers(agent) == after
    assert (damage == "damaged") == (f"the key in {key} is not used" in agent.log)
