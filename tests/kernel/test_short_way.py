"""Between containers of a network packets skip the bridge, or the host's routes: what that changes, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from fairlead.desired.names import veth
from tests.kernel.agents import Agent, address
from tests.net import Containers, Namespace, Node
from tests.wait import eventually

pytestmark = pytest.mark.kernel("ebpf")
V4, V6 = "10.50.0.0/24", "fd50::/64"


@pytest.fixture
def start(cleanup: ExitStack, node: Node) -> Callable[..., Agent]:
    """Starts an agent with more options."""

    def begin(*more: str) -> Agent:
        made = Agent(node, "--interval", "1", *more)
        cleanup.callback(made.remove)
        made.start()
        return made

    return begin


class Pair:
    """Two neighbours; ``long``: how many packets the second one's link has sent it the long way."""

    def __init__(self, agent: Agent, containers: Containers, *, one: object = None, two: object = None, **spec: object) -> None:
        self.agent = agent
        agent.network("blue", V4, V6, **spec)
        self.one, self.two = containers.new("one"), containers.new("two")
        self.made = agent.attach(self.one, "blue", **(one or {})), agent.attach(self.two, "blue", **(two or {}))
        self.addresses = {family: address(self.made[1], family) for family in (4, 6)}
        for family in (4, 6):
            eventually(lambda: self.one.pings(self.addresses[family]))  # noqa: B023  # called at once; who is where is known then

    def long(self) -> int:
        port = self.made[1].host_interface
        return int(self.agent.node.json("ip", "-j", "-s", "link", "show", port)[0]["stats64"]["tx"]["packets"])

    def went(self, family: int) -> int:
        """How many packets of twenty and their answers went the long way, or did not arrive."""
        before = self.long()
        done = self.one.attempt("ping", "-n", "-q", "-i", "0.002", "-c", 20, "-W", 1, self.addresses[family])
        assert ", 0% packet loss" in done.stdout, done.stdout
        return self.long() - before


@pytest.mark.parametrize("driver", ["bridge", "routed"])
@pytest.mark.parametrize("family", [4, 6])
def test_packets_skip_what_lies_between(start: Callable[..., Agent], containers: Containers, driver: str, family: int) -> None:
    pair = Pair(start(), containers, driver=driver)
    assert pair.went(family) <= 3, "the first echo request, perhaps a question of neighbours"
    pair.two.serve("tcp", 80)
    before = pair.long()
    assert pair.one.connects(pair.addresses[family], 80)
    assert pair.long() - before <= 2
    pair.agent.stop()
    pair.agent.options = (*pair.agent.options, "--no-short-way")
    pair.agent.start()
    assert pair.went(family) >= 20
    assert not pair.agent.drift()


LIMITED = {"bandwidth": {"egressRate": 10**9, "ingressRate": 10**9}}


@pytest.mark.parametrize(
    ("more", "spec"),
    [
        pytest.param({"one": LIMITED}, {}, id="a limit on who sends"),
        pytest.param({"two": LIMITED}, {}, id="a limit on who receives"),
        pytest.param({}, {"antiSpoofing": False}, id="who may speak for others"),
    ],
)
def test_where_others_have_a_say_they_take_the_long_way(
    start: Callable[..., Agent], containers: Containers, more: dict[str, object], spec: dict[str, object]
) -> None:
    pair = Pair(start(), containers, **more, **spec)
    assert pair.went(4) >= 20
    assert pair.went(6) >= 20


@pytest.mark.parametrize("driver", ["bridge", "routed"])
def test_containers_that_are_kept_apart_stay_apart(start: Callable[..., Agent], containers: Containers, driver: str) -> None:
    agent = start()
    agent.network("blue", V4, interContainer=False, driver=driver)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    target = address(agent.attach(two, "blue"))
    assert not one.pings(target)


def test_a_network_that_is_changed_takes_the_other_way_at_once(start: Callable[..., Agent], containers: Containers) -> None:
    pair = Pair(start(), containers)
    assert pair.went(4) <= 3
    pair.agent.network("blue", V4, V6, antiSpoofing=False)
    assert pair.went(4) >= 20
    pair.agent.network("blue", V4, V6)
    assert pair.went(4) <= 3
    assert not pair.agent.drift()


def test_who_is_gone_is_not_reached_and_its_address_is_another_s(start: Callable[..., Agent], containers: Containers) -> None:
    """Gone without a word; and one whose link was made anew is reached again."""
    pair = Pair(start(), containers)
    target = pair.addresses[4]
    pair.agent.detach(pair.two)
    assert not pair.one.pings(target)
    heir = containers.new("heir")
    pair.agent.attach(heir, "blue", addresses=[target], **LIMITED)
    assert eventually(lambda: pair.one.pings(target)), "the long way"
    pair.agent.detach(heir)
    pair.agent.attach(pair.two, "blue", addresses=[target])
    assert eventually(lambda: pair.one.pings(target))
    port = veth(f"{pair.two.name}:eth0")
    pair.agent.node.run("ip", "link", "delete", port)
    assert eventually(lambda: pair.one.pings(target), deadline=10)
    assert not pair.agent.drift()


def test_a_far_end_that_is_down_gets_nothing(start: Callable[..., Agent], containers: Containers) -> None:
    pair = Pair(start(), containers)
    pair.agent.stop()
    pair.two.run("ip", "link", "set", "eth0", "down")
    assert not pair.one.pings(pair.addresses[4])
    pair.two.run("ip", "link", "set", "eth0", "up")
    assert eventually(lambda: pair.one.pings(pair.addresses[4]))


def test_what_is_too_far_is_told_by_the_host(start: Callable[..., Agent], containers: Containers) -> None:
    """On a routed network the host is a hop between containers, whichever way packets go."""
    pair = Pair(start(), containers, driver="routed")
    for family, ping in ((4, "-4"), (6, "-6")):
        said = pair.one.attempt("ping", ping, "-n", "-c", 1, "-W", 1, "-t", 1, pair.addresses[family]).stdout
        assert "exceeded" in said
        assert f"ttl={63}" in pair.one.attempt("ping", ping, "-n", "-c", 2, "-i", "0.1", pair.addresses[family]).stdout


def test_what_is_too_large_is_told_by_the_host(start: Callable[..., Agent], containers: Containers) -> None:
    """A container whose link takes less than its neighbour's."""
    pair = Pair(start(), containers, driver="routed")
    pair.agent.network("blue", V4, V6, driver="routed", mtu=1400)
    small = containers.new("small")
    target = address(pair.agent.attach(small, "blue"))
    said = pair.one.attempt("ping", "-n", "-M", "do", "-c", 2, "-W", 1, "-s", 1450, target)
    assert "needed" in said.stdout + said.stderr or "too long" in said.stdout + said.stderr


def test_a_link_that_is_handed_over_is_reached_the_long_way(
    start: Callable[..., Agent], containers: Containers, node: Node
) -> None:
    """Until it is said where to: its far end may lie on the host, where the short way does not lead."""
    agent = start()
    agent.network("blue", V4)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    made = agent.attach(two, "blue", handover=True, path="", addresses=["10.50.0.9"])
    waiting = next(name for name, *_ in node.links() if name.startswith("flh"))
    assert not one.pings("10.50.0.9")
    _hand_over(node, two, waiting, str(made.endpoint.spec.mac))
    assert eventually(lambda: one.pings("10.50.0.9"))


def _hand_over(node: Node, to: Namespace, interface: str, mac: str) -> None:
    node.run("ip", "link", "set", interface, "netns", to.name)
    to.run("ip", "link", "set", interface, "name", "eth0", "address", mac)
    to.run("ip", "address", "add", "10.50.0.9/24", "dev", "eth0")
    to.run("ip", "link", "set", "eth0", "up")
