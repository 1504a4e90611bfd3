"""macvlan networks: a container is a station on the network of a host interface. ipvlan, where the kernel has it not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.model import codec, errors
from tests.kernel.agents import Agent, address
from tests.net import Containers, Node, Outside
from tests.wait import eventually

LAN4, LAN6 = "203.0.113.0/24", "2001:db8:113::/64"


def _lan(agent: Agent, **spec: object) -> None:
    """A network on the node's uplink, beside the node and the outside host, whose address is the router's."""
    agent.network(
        "lan",
        driver="macvlan",
        parent="eth0",
        subnets=[
            {
                "cidr": LAN4,
                "gateway": Outside.v4,
                "exclude": [Node.v4],
                "ranges": [{"start": "203.0.113.50", "end": "203.0.113.60"}],
            },
            {"cidr": LAN6, "gateway": Outside.v6, "exclude": [Node.v6]},
        ],
        **spec,
    )


def test_a_policy_that_selects_a_container_without_a_link_of_ours_is_warned_of(agent: Agent, containers: Containers) -> None:
    _lan(agent)
    agent.network("town", "10.1.0.0/24")
    agent.attach(containers.new("one"), "lan", namespace="shop", labels={"app": "web"})
    agent.attach(containers.new("two"), "town", namespace="shop", labels={"app": "db"})
    (everybody,) = codec.from_yaml("{kind: NetworkPolicy, metadata: {name: a, namespace: shop}, spec: {podSelector: {}}}")
    told = agent.client.apply(everybody)
    assert told.warnings == ("one on network lan has no link of ours: nothing is enforced on it",)


@pytest.mark.parametrize("family", [4, 6])
def test_a_container_is_on_the_parents_network(agent: Agent, outside: Outside, containers: Containers, family: int) -> None:
    _lan(agent)
    one, two = containers.new("one"), containers.new("two")
    here = address(agent.attach(one, "lan"), family)
    there = address(agent.attach(two, "lan"), family)
    two.serve("tcp", 80)
    outside.serve("tcp", 80)

    assert outside.connects(there, 80)
    assert one.connects(there, 80)
    answer = one.ask(outside.v4 if family == 4 else outside.v6, 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == here, "no NAT: it is a station of its own"
    assert not agent.drift()


def test_it_heals_survives_restarts_and_goes(agent: Agent, outside: Outside, containers: Containers) -> None:
    _lan(agent)
    one = containers.new("one")
    agent.attach(one, "lan", mac="02:11:22:33:44:55")
    outside.serve("tcp", 80)
    assert one.json("ip", "-j", "link", "show", "eth0")[0]["address"] == "02:11:22:33:44:55"
    for broken in (("address", "flush", "dev", "eth0"), ("link", "delete", "eth0"), ("link", "set", "eth0", "down")):
        one.run("ip", *broken)
        eventually(lambda: one.connects(outside.v4, 80, deadline=0.3), what=f"after ip {' '.join(broken)}")
    agent.kill()
    agent.start()
    assert agent.client.status().repairs == 0
    agent.detach(one)
    eventually(lambda: "eth0" not in one.run("ip", "-br", "link"))


def test_what_it_cannot_give_is_said(agent: Agent, containers: Containers) -> None:
    _lan(agent)
    one = containers.new("one")
    with pytest.raises(errors.Invalid, match=r"ports: .*reached at their own addresses"):
        agent.attach(one, "lan", ports=[{"hostPort": 8080, "containerPort": 80}])
    with pytest.raises(errors.Invalid, match=r"spec.parent: this host has no interface nic7"):
        agent.network("no", "10.1.0.0/24", driver="macvlan", parent="nic7")
    with pytest.raises(errors.Invalid, match=r"spec.parent: a network with driver macvlan needs it"):
        agent.network("no", "10.1.0.0/24", driver="macvlan")
    with pytest.raises(errors.Invalid, match=r"mode: 'l2' is none of macvlan; there are: bridge, private, vepa, passthru"):
        agent.network("no", "10.1.0.0/24", driver="macvlan", parent="eth0", mode="l2")


def _shares(agent: Agent, name: str, first: int, last: int, gateway: str = Outside.v4, **subnet: object) -> None:
    """A network whose addresses are agreed on one by one, so that others may have them in their ranges too."""
    run = {"start": f"203.0.113.{first}", "end": f"203.0.113.{last}"}
    given = {"cidr": LAN4, "gateway": gateway, "ranges": [run], "blockSize": 32, **subnet}
    agent.network(name, driver="macvlan", parent="eth0", subnets=[given])


def test_networks_share_a_range_and_no_address_is_held_twice(agent: Agent, containers: Containers) -> None:
    _shares(agent, "lan", 50, 53)
    _shares(agent, "cam", 52, 55)
    on = {containers.new(f"{of}{at}"): of for of, count in (("lan", 4), ("cam", 2)) for at in range(count)}
    at = {one: address(agent.attach(one, of)) for one, of in on.items()}
    assert sorted(at.values()) == [f"203.0.113.{last}" for last in range(50, 56)]
    first, *_, last = at
    last.serve("tcp", 80)
    assert first.connects(at[last], 80), "they are neighbours"

    more = containers.new("more")
    with pytest.raises(
        errors.Exhausted, match=r"network cam: every address .* is taken; by node: (\S+) 2; for network lan, .* 4"
    ):
        agent.attach(more, "cam")
    with pytest.raises(errors.Conflict, match=rf"{at[first]} is the address of lan0 .* on network lan, whose range has it too"):
        agent.attach(more, "cam", addresses=[at[first]])
    pools = {one.network: one for one in agent.client.status().pools}
    assert [(pools[of].used, pools[of].elsewhere, pools[of].size, pools[of].left) for of in ("lan", "cam")] == [
        (4, 0, 4, 0),
        (2, 2, 4, 0),
    ]
    told = next(one for one in agent.client.doctor().findings if "of network cam is exhausted" in one.message)
    assert "2 of 4 in use, 2 elsewhere (fairlead get blocks)" in told.message

    agent.kill()
    agent.start()
    agent.detach(first)
    assert address(agent.attach(more, "cam", addresses=[at[first]])) == at[first], "it is free for both"
    assert not agent.drift()


def test_what_cannot_share_a_range_is_told_why(agent: Agent, containers: Containers) -> None:
    _shares(agent, "lan", 50, 53)
    for spec, why in (
        ({"driver": "vxlan"}, r"203.0.113.0/24 of network lan; hosts tell containers of network red \(driver vxlan\) by"),
        (
            {"driver": "macvlan", "parent": "eth0"},
            r"of network lan; to share its range, set spec.subnets\[0\].blockSize: 32, or",
        ),
    ):
        with pytest.raises(errors.Conflict, match=why):
            agent.network("red", LAN4, **spec)
    one = containers.new("one")
    held = address(agent.attach(one, "lan"))
    with pytest.raises(errors.Conflict, match=rf"gateway: {held} is an address of network lan on node .* choose another"):
        _shares(agent, "red", 50, 53, gateway=held)
    _shares(agent, "red", 50, 53, gateway="203.0.113.52")
    with pytest.raises(errors.Invalid, match=r"203.0.113.52 is the gateway of network red; choose another address"):
        agent.attach(containers.new("two"), "lan", addresses=["203.0.113.52"])
    given = {address(agent.attach(containers.new(f"more{at}"), "lan")) for at in range(2)}
    assert {held, *given} == {"203.0.113.50", "203.0.113.51", "203.0.113.53"}


def test_ipvlan_or_what_the_kernel_lacks(agent: Agent, outside: Outside, containers: Containers) -> None:
    spec = {"driver": "ipvlan", "parent": "eth0", "subnets": [{"cidr": LAN4, "gateway": Outside.v4, "exclude": [Node.v4]}]}
    one = containers.new("one")
    if not Path("/sys/module/ipvlan").exists():
        with pytest.raises(errors.Unsupported, match=r"spec.driver: this kernel has no ipvlan; it needs CONFIG_IPVLAN"):
            agent.network("lan", **spec)  # type: ignore[arg-type]
        assert "lan" not in [network.name for network in agent.client.objects("networks")]
        return
    agent.network("lan", **spec)  # type: ignore[arg-type]
    outside.serve("tcp", 80)
    agent.attach(one, "lan")
    assert one.connects(outside.v4, 80)
