"""The data plane outlives the agent; a start, a restart and an upgrade are the same comparison."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from fairlead.kernel import nft
from fairlead.kernel.netlink import NETFILTER, Netlink
from tests.kernel.agents import Agent, address
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually


def _network(agent: Agent, containers: Containers) -> tuple[Namespace, Namespace]:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue", ports=[{"hostPort": 8080, "containerPort": 80}])
    agent.attach(two, "blue")
    one.serve("tcp", 80)
    return one, two


def test_traffic_goes_on_while_the_agent_is_dead_and_through_its_restart(
    agent: Agent, node: Node, outside: Outside, containers: Containers
) -> None:
    _, two = _network(agent, containers)
    flood = two.start("ping", "-n", "-i", "0.005", "-c", "400", "-q", "10.50.0.2")
    before = node.run("nft", "list", "ruleset")
    agent.kill()
    assert outside.connects(node.v4, 8080)
    agent.start()
    agent.stop()
    agent.start()
    assert outside.connects(node.v4, 8080)
    said, _ = flood.communicate(timeout=20)
    assert re.search(r" 0% packet loss", said), said
    counters = re.compile(r"packets \d+ bytes \d+")
    assert counters.sub("", node.run("nft", "list", "ruleset")) == counters.sub("", before), "the same rules, not put anew"
    assert agent.client.status().repairs == 0


def test_what_is_made_for_the_first_time_is_no_repair(agent: Agent, node: Node) -> None:
    assert agent.client.status().repairs == 0
    agent.stop()
    node.run("nft", "flush", "ruleset")
    agent.start()
    assert agent.client.status().repairs > 0
    assert not agent.drift()


def test_what_another_edition_made_otherwise_is_no_repair(agent: Agent, node: Node, containers: Containers) -> None:
    """Of what it left nobody knows what it meant to be: all of it is brought up to date, and said. By then it is this one's."""
    here = agent.attach(containers.new("one"))
    agent.stop()
    (node.run_dir / "edition").write_text("another")
    node.run("ip", "link", "set", here.host_interface, "mtu", "1400")
    node.run("nft", "flush", "set", "bridge", "fairlead", "own4")
    agent.start()
    assert "updating links" in agent.log
    assert "updating nftables bridge own4" in agent.log
    assert "repairing" not in agent.log
    assert agent.client.status().repairs == 0
    assert not agent.drift()
    agent.stop()
    node.run("nft", "flush", "set", "bridge", "fairlead", "own4")
    agent.start()
    assert agent.client.status().repairs > 0


def test_what_another_version_left_is_updated_and_no_repair(agent: Agent, node: Node) -> None:
    """Its rules stand as it wrote them; what somebody broke besides is a repair all the same."""
    agent.stop()
    _leave_other_rules(node)
    agent.start()
    assert "added by another version" not in node.run("nft", "list", "ruleset")
    assert "updating nftables inet fairlead to this version" in agent.log
    assert agent.client.status().repairs == 0
    agent.stop()
    (node.run_dir / "nftables-inet-fairlead-sealing.fingerprint").unlink()  # of before there was such a table
    node.run("nft", "delete", "table", "inet", "fairlead-sealing")
    agent.start()
    assert "updating nftables inet fairlead-sealing to this version" in agent.log
    assert agent.client.status().repairs == 0
    agent.stop()
    _leave_other_rules(node)
    node.run("nft", "delete", "table", "bridge", "fairlead")
    agent.start()
    assert agent.client.status().repairs == 1
    assert not agent.drift()


def _leave_other_rules(node: Node) -> None:
    """Have the table be another, and remembered as such, with the digest of other rules."""
    node.run("nft", "add", "rule", "inet", "fairlead", "forward", "counter", "comment", '"added by another version"')
    with node.path.open() as namespace, Netlink(NETFILTER, namespace.fileno()) as nl:
        found = nft.fingerprint(nl, "inet", "fairlead")
    (node.run_dir / "nftables-inet-fairlead.fingerprint").write_text(f"0123456789abcdef {found}")


def test_what_changed_while_the_agent_was_away_is_put_right(agent: Agent, node: Node, containers: Containers) -> None:
    one, two = _network(agent, containers)
    gone = containers.new("gone")
    freed = address(agent.attach(gone, "blue"))
    agent.kill()
    one.run("ip", "address", "flush", "dev", "eth0")
    node.run("ip", "link", "add", "stray", "group", "26220", "type", "veth")
    node.run("nft", "flush", "ruleset")
    gone.remove()
    agent.start()
    assert two.pings("10.50.0.2")
    assert not agent.drift()
    assert "stray" not in node.run("ip", "-br", "link")
    assert freed not in str(agent.client.objects("endpoints"))


def test_objects_addresses_and_the_order_of_freed_ones_survive(agent: Agent, containers: Containers) -> None:
    agent.network("tiny", "10.60.0.0/29")
    several = [containers.new(f"c{at}") for at in range(5)]
    given = [address(agent.attach(one, "tiny")) for one in several]
    assert given == [f"10.60.0.{at}" for at in range(2, 7)]
    for one in (several[3], several[0], several[4]):
        agent.detach(one)
    agent.kill()
    agent.start()
    assert [address(agent.attach(one, "tiny")) for one in (several[0], several[3], several[4])] == [
        given[3],
        given[0],
        given[4],
    ]


def test_a_second_agent_is_refused(agent: Agent, node: Node) -> None:
    said = node.attempt(sys.executable, "-m", "fairlead.agent")
    assert said.returncode == 1
    assert "another agent already runs" in said.stderr
    assert agent.client.status().ready


def test_a_reboot_releases_everything_and_keeps_networks(
    agent: Agent, node: Node, containers: Containers, tmp_path: Path
) -> None:
    _network(agent, containers)
    agent.kill()
    node.run("nft", "flush", "ruleset")
    node.run("ip", "link", "delete", "group", "26220")
    other = tmp_path / "boot_id"
    other.write_text("11111111-2222-3333-4444-555555555555\n")
    agent.under = ("unshare", "-m", "sh", "-c", f'mount --bind {other} /proc/sys/kernel/random/boot_id && exec "$0" "$@"')
    agent.start()
    assert not agent.client.objects("endpoints")
    assert agent.client.network("blue")
    eventually(lambda: not agent.drift())
