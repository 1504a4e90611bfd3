"""Every way to other nodes in every address family, several at once in one lab: who reaches whom, and by which way."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab.conftest import Labs
from tests.lab.town import Party, Town

CIDRS = {4: "10.{}.0.0/16", 6: "fd00:{}::/64"}


def network(at: int, name: str, families: tuple[int, ...], **spec: str) -> str:
    subnets = ", ".join(f'{{cidr: "{CIDRS[family].format(at)}"}}' for family in families)
    more = "".join(f", {key}: {value}" for key, value in spec.items())
    return (
        f"---\napiVersion: fairlead.dev/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {{subnets: [{subnets}]{more}}}\n"
    )


def pods(node: str, *networks: str) -> str:
    return "[" + ", ".join(f"{{name: {one}-{node}, networks: [{one}]}}" for one in networks) + "]"


def beside(*families: int) -> str:
    """Two nodes on one switch; containers of network ``other`` have the family that the nodes have not."""
    ways = ("vxlan", "host-gw", "bgp")
    more = tuple({4, 6} - {*families})
    return f"""
apiVersion: fairlead.dev/v1
kind: Lab
spec:
  families: {list(families)}
  hosts: [{{name: world}}]
  nodes:
    - {{name: a, pods: {pods("a", *ways, "other")}}}
    - {{name: b, pods: {pods("b", *ways, "other")}}}
""" + "".join(
        (
            *(network(60 + at, one, families, driver=one) for at, one in enumerate(ways)),
            network(64, "other", more, driver="vxlan"),
        )
    )


def mixed() -> str:
    """Two nodes on one subnet, the third behind a router."""
    ways, families = ("vxlan", "direct", "bgp", "near"), (4, 6)
    networks = (
        network(60, "vxlan", families, driver="vxlan"),
        network(61, "direct", families, driver="vxlan", direct="true"),
        network(62, "bgp", families, driver="bgp"),
        network(63, "near", families, driver="host-gw"),
    )
    return f"""
apiVersion: fairlead.dev/v1
kind: Lab
spec:
  families: [4, 6]
  subnets: [{{name: east}}, {{name: west}}]
  routers: [{{name: r1, subnets: [east, west], asNumber: 65000}}]
  nodes:
    - {{name: a, subnets: [east], pods: {pods("a", *ways)}}}
    - {{name: b, subnets: [east], pods: {pods("b", *ways[1:])}}}
    - {{name: c, subnets: [west], pods: {pods("c", *ways)}}}
""" + "".join(networks)


def way(town: Town, node: str, pod: str, family: int) -> str:
    """What the node's kernel says of the way to a pod."""
    return town.run(node, "ip", "route", "get", "fibmatch", town.pod(pod).address(family))  # type: ignore[arg-type]


def within(pod: Party, *words: str) -> subprocess.CompletedProcess[str]:
    """A command inside a pod."""
    return subprocess.run(["nsenter", f"--net={pod.path}", *words], capture_output=True, text=True, check=False, timeout=30)


def refused(pod: Party, target: object, size: int) -> str:
    """What ping inside a pod says of one packet that may not be cut; empty if it was answered."""
    done = within(pod, "ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(size), str(target))
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.needs("bird")
@pytest.mark.parametrize("families", [(4,), (6,)], ids=["IPv4 alone", "IPv6 alone"])
class TestBeside:
    @pytest.fixture
    def town(self, lab: Labs, families: tuple[int, ...]) -> Town:
        return lab(file=beside(*families))

    @pytest.mark.parametrize("driver", ["vxlan", "host-gw", "bgp"])
    def test_pods_reach_each_other(self, town: Town, families: tuple[int, ...], driver: str) -> None:
        one, other = town.pod(f"{driver}-a"), town.pod(f"{driver}-b")
        assert {at.family for at in (*one.addresses, *town.machine("a").addresses)} == {*families}, "and no other family"
        assert one.reaches(other)
        assert other.reaches(one)
        assert {answer.peer for answer in one.asks(other) if answer} == {str(at) for at in one.addresses}, "without source NAT"
        for family in families:
            found = way(town, "a", other.name, family)
            if driver == "vxlan":
                assert "dev flx-vxlan" in found
            else:
                assert f"via {town.machine('b').address(family)} dev eth0" in found  # type: ignore[arg-type]
                assert ("proto bird" in found) is (driver == "bgp")

    def test_a_tunnel_carries_the_other_family_too(self, town: Town, families: tuple[int, ...]) -> None:
        one, other = town.pod("other-a"), town.pod("other-b")
        assert {at.family for at in one.addresses} == {4, 6} - {*families}
        assert one.reaches(other)
        assert other.reaches(one)

    def test_a_partition_parts_them_all_and_heals(self, town: Town) -> None:
        pairs = [(town.pod(f"{one}-a"), town.pod(f"{one}-b")) for one in ("vxlan", "host-gw", "bgp")]
        assert all(one.reaches(other) for one, other in pairs)
        town.partition("a", "b")
        try:
            assert all(one.misses(other) for one, other in pairs)
            assert all(each.reaches(town.machine("world")) for pair in pairs for each in pair), "each side goes on"
        finally:
            town.heal()
        assert all(one.reaches(other) and other.reaches(one) for one, other in pairs)


@pytest.mark.needs("bird")
class TestMixed:
    @pytest.fixture
    def town(self, lab: Labs) -> Town:
        return lab(file=mixed())

    @pytest.mark.parametrize("name", ["vxlan", "direct", "bgp"])
    def test_pods_reach_each_other_across_subnets(self, town: Town, name: str) -> None:
        one, other = town.pod(f"{name}-a"), town.pod(f"{name}-c")
        assert one.reaches(other)
        assert other.reaches(one)
        for family in (4, 6):
            assert ("dev flx-" in way(town, "a", other.name, family)) is (name != "bgp")

    def test_direct_is_plain_within_a_subnet_and_a_tunnel_across(self, town: Town) -> None:
        one, near, far = (town.pod(f"direct-{node}") for node in "abc")
        for family in (4, 6):
            assert f"via {town.machine('b').address(family)} dev eth0" in way(town, "a", near.name, family)  # type: ignore[arg-type]
            assert "dev flx-direct" in way(town, "a", far.name, family)
        assert one.reaches(near)
        assert near.reaches(one)
        assert near.reaches(far)
        assert far.reaches(near)

    @pytest.mark.parametrize("other", ["b", "c"], ids=["within a subnet", "across"])
    def test_direct_carries_the_same_wherever_the_other_is(self, town: Town, other: str) -> None:
        """To the byte; who sends more all the same is told by its node, or by the other's."""
        pod, there = town.pod("direct-a"), town.pod(f"direct-{other}")
        for family, heads in ((4, 28), (6, 48)):
            target = there.address(family)  # type: ignore[arg-type]
            assert pod.reaches(there)
            assert not refused(pod, target, 1450 - heads)
            assert "message too long" in refused(pod, target, 1451 - heads).lower()
        device = town.run("a", "ip", "route", "get", pod.address(4)).split(" dev ")[1].split()[0]
        town.run("a", "sh", "-c", "kill -STOP $(cat /run/fairlead/agent.pid)")  # which would put it right
        try:
            town.run("a", "ip", "link", "set", device, "mtu", 1500)
            within(pod, "ip", "link", "set", "eth0", "mtu", "1500")
            for family, heads in ((4, 28), (6, 48)):
                said = refused(pod, there.address(family), 1451 - heads)  # type: ignore[arg-type]
                assert "mtu = 1450" in said.replace("mtu=", "mtu = "), said
                assert not refused(pod, there.address(family), 1450 - heads)  # type: ignore[arg-type]
        finally:
            within(pod, "ip", "link", "set", "eth0", "mtu", "1450")
            town.run("a", "ip", "link", "set", device, "mtu", 1450)
            town.run("a", "sh", "-c", "kill -CONT $(cat /run/fairlead/agent.pid)")

    def test_host_gw_says_whom_it_cannot_reach(self, town: Town) -> None:
        assert town.pod("near-a").reaches(town.pod("near-b"))
        assert town.pod("near-a").misses(town.pod("near-c"))
        done = town.lab.machine("a").attempt("fairlead", "doctor")
        assert "network near: c is on no subnet of this node" in done.stdout
        assert "use driver vxlan with direct: true" in done.stdout
