"""The real plugin binary, executed as a runtime executes it, against a real agent; and beside other plugins."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead.cni.install import available
from tests.kernel.agents import Agent
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
PEERS = Path("/usr/lib/cni")


def cni(
    node: Node,
    command: str,
    one: Namespace | None,
    conf: dict[str, Any],
    *,
    plugin: Path | None = None,
    ifname: str = "eth0",
    **env: str,
) -> tuple[int, dict[str, Any]]:
    """One execution of a plugin on ``node``: exit status, and what it printed."""
    words = {"CNI_COMMAND": command, "CNI_PATH": f"{node.run_dir.parent}/bin:{PEERS}"}
    if one:
        words |= {"CNI_CONTAINERID": one.name, "CNI_NETNS": str(one.path), "CNI_IFNAME": ifname}
    words |= env
    assigned = [f"{key}={value}" for key, value in words.items()]
    done = node.attempt("env", *assigned, plugin or available(), stdin=json.dumps(conf))
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def conf(version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    return {"cniVersion": version, "name": "test", "type": "fairlead", "network": "default", **more}


@pytest.mark.parametrize("version", VERSIONS)
def test_add_check_del_in_every_version(agent: Agent, node: Node, containers: Containers, version: str) -> None:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one, two = containers.new("one"), containers.new("two")
    used = conf(version, network="blue")
    status, result = cni(node, "ADD", one, used)
    assert status == 0, result
    assert result["cniVersion"] == version
    assert [ip["address"] for ip in result["ips"]] == ["10.50.0.2/24", "fd50::2/64"]
    assert ("version" in result["ips"][0]) == (version in {"0.3.1", "0.4.0"})
    inside = result["interfaces"][result["ips"][0]["interface"]]
    shown = one.json("ip", "-j", "link", "show", "eth0")[0]
    assert (inside["name"], inside["mac"], inside["sandbox"]) == ("eth0", shown["address"], str(one.path))
    for interface in result["interfaces"][:2]:
        assert node.json("ip", "-j", "link", "show", interface["name"])[0]["address"] == interface["mac"]

    assert cni(node, "ADD", two, used)[0] == 0
    assert two.pings("10.50.0.2")
    assert two.pings("fd50::2")

    if version != "0.3.1":
        assert cni(node, "CHECK", one, {**used, "prevResult": result}) == (0, {})
    assert cni(node, "DEL", one, {**used, "prevResult": result}) == (0, {})
    assert cni(node, "DEL", one, used) == (0, {}), "again is no error"
    eventually(lambda: "eth0" not in one.run("ip", "-br", "link"))


def test_check_really_checks(agent: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    _, result = cni(node, "ADD", one, conf())
    agent.stop()
    agent.options = ("--debounce", "60")
    agent.start()
    one.run("ip", "route", "delete", "default")
    status, said = cni(node, "CHECK", one, conf(prevResult=result))
    assert status == 1
    assert "0.0.0.0/0" in said["msg"] + said.get("details", "")
    status, said = cni(node, "CHECK", containers.new("stranger"), conf(prevResult=result))
    assert (status, said["code"]) == (1, 3)


def test_loopback_needs_no_agent(node: Node, containers: Containers, tmp_path: Path) -> None:
    """As containerd executes it, before any network's plugin and in a version of its own."""
    plugin = tmp_path / "loopback"
    plugin.symlink_to(available())
    one, used = containers.new("one"), {"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}

    def call(command: str, **more: Any) -> tuple[int, dict[str, Any]]:
        return cni(node, command, one, {**used, **more}, plugin=plugin, ifname="lo")

    one.run("ip", "link", "set", "lo", "down")
    status, said = call("CHECK")
    assert (status, said["code"], said["msg"]) == (1, 110, "lo is down")
    status, result = call("ADD")
    assert (status, result["cniVersion"]) == (0, "0.3.1")
    assert result["interfaces"] == [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": str(one.path)}]
    assert one.pings("127.0.0.1")
    for command in ("ADD", "CHECK", "DEL", "DEL"):
        assert call(command)[0] == 0
    status, said = call("ADD", prevResult={})
    assert (status, said["code"]) == (1, 7)
    assert "prevResult" in said["msg"]
    for wrong in ("/", "/no/such", "relative", '/run/"'):
        status, said = cni(node, "ADD", one, used, plugin=plugin, ifname="lo", CNI_NETNS=wrong)
        assert (status, said["code"]) == (1, 4), wrong
        assert "CNI_NETNS" in said["msg"]


def test_del_while_the_agent_is_down_is_finished_when_it_starts(agent: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    assert cni(node, "ADD", one, conf())[0] == 0
    agent.kill()
    began = time.monotonic()
    assert cni(node, "DEL", one, conf()) == (0, {})
    status, said = cni(node, "ADD", containers.new("two"), conf())
    assert (status, said["code"]) == (1, 11)
    assert "fairlead up" in said["details"]
    assert time.monotonic() - began < 2
    agent.start()
    eventually(lambda: not agent.client.objects("endpoints"))
    eventually(lambda: "eth0" not in one.run("ip", "-br", "link"))
    assert not list((node.state_dir / "pending-del").iterdir())


def test_del_when_the_namespace_is_gone(agent: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    assert cni(node, "ADD", one, conf())[0] == 0
    one.remove()
    assert cni(node, "DEL", one, conf()) == (0, {})
    eventually(lambda: not agent.client.objects("endpoints"))


def test_a_failed_add_leaves_nothing(agent: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    one.run("ip", "link", "add", "eth0", "type", "veth")
    before = node.links()
    status, said = cni(node, "ADD", one, conf())
    assert status == 1
    assert "already has an interface eth0" in said["msg"]
    assert node.links() == before
    assert not agent.client.objects("endpoints")


def test_capabilities(agent: Agent, node: Node, outside: Outside, containers: Containers) -> None:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one = containers.new("one")
    runtime = {
        "portMappings": [{"hostPort": 8080 + at, "containerPort": 80 + at, "protocol": "tcp"} for at in range(2)],
        "ips": ["10.50.0.77/24"],
        "mac": "02:11:22:33:44:55",
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
        "dns": {"servers": ["9.9.9.9"], "searches": ["example.org"]},
    }
    status, result = cni(node, "ADD", one, conf(network="blue", runtimeConfig=runtime))
    assert status == 0, result
    assert result["ips"][0]["address"] == "10.50.0.77/24"
    assert result["dns"]["nameservers"] == ["9.9.9.9"]
    assert one.json("ip", "-j", "link", "show", "eth0")[0]["address"] == "02:11:22:33:44:55"
    one.serve("tcp", 80, 2)
    assert outside.connects(node.v4, 8081)
    assert outside.connects(node.v6, 8080)
    assert node.run("tc", "qdisc").count("tbf") == 2


def test_ip_ranges_and_an_inline_network(agent: Agent, node: Node, containers: Containers) -> None:
    ranges = [[{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.100", "rangeEnd": "10.77.0.110", "gateway": "10.77.0.254"}]]
    used = {"cniVersion": "1.0.0", "name": "inline", "type": "fairlead", "ipam": {"type": "fairlead-ipam", "ranges": ranges}}
    one = containers.new("one")
    status, result = cni(node, "ADD", one, used)
    assert status == 0, result
    assert result["ips"][0]["address"] == "10.77.0.100/24"
    assert result["ips"][0]["gateway"] == "10.77.0.254"
    assert agent.client.network("inline")
    narrowed = {**used, "runtimeConfig": {"ipRanges": [[{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.105"}]]}}
    assert cni(node, "ADD", containers.new("two"), narrowed)[1]["ips"][0]["address"] == "10.77.0.105/24"


def test_gc_removes_what_the_runtime_does_not_list(agent: Agent, node: Node, containers: Containers) -> None:
    alive, dead = containers.new("alive"), containers.new("dead")
    used = conf("1.1.0")
    for one in (alive, dead):
        assert cni(node, "ADD", one, used)[0] == 0
    dead.remove()
    valid = [{"containerID": alive.name, "ifname": "eth0"}]
    assert cni(node, "GC", None, {**used, "cni.dev/valid-attachments": valid}) == (0, {})
    eventually(lambda: [one.name for one in agent.client.objects("endpoints")] == [f"{alive.name}:eth0"])
    assert cni(node, "STATUS", None, used) == (0, {})


@pytest.mark.needs(str(PEERS / "bridge"))
def test_behind_another_plugin_it_adds_ports_and_limits(
    agent: Agent, node: Node, outside: Outside, containers: Containers
) -> None:
    one = containers.new("one")
    first = {
        "cniVersion": "1.0.0",
        "name": "chain",
        "type": "bridge",
        "bridge": "cni7",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.66.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(node.state_dir / "host-local"),
        },
    }
    status, result = cni(node, "ADD", one, first, plugin=PEERS / "bridge")
    assert status == 0, result
    ports = {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000},
    }
    behind = {"cniVersion": "1.0.0", "name": "chain", "type": "fairlead", "runtimeConfig": ports, "prevResult": result}
    status, passed = cni(node, "ADD", one, behind)
    assert status == 0, passed
    assert passed["ips"] == result["ips"]
    one.serve("tcp", 80)
    assert outside.connects(node.v4, 8080)
    assert node.connects("127.0.0.1", 8080)
    assert one.connects(node.v4, 8080), "itself, through its own published port"
    assert "tbf" in node.run("tc", "qdisc")
    assert not agent.drift()
    assert cni(node, "DEL", one, behind) == (0, {})
    assert cni(node, "DEL", one, first, plugin=PEERS / "bridge")[0] == 0
    eventually(lambda: not outside.connects(node.v4, 8080, deadline=0.2))


@pytest.mark.needs(str(PEERS / "bridge"))
@pytest.mark.usefixtures("agent")
def test_other_plugins_can_use_our_ipam_and_move_from_host_local(node: Node, containers: Containers) -> None:
    folder = node.run_dir.parent / "bin"
    folder.mkdir()
    (folder / "fairlead-ipam").symlink_to(available())
    ipam = {
        "ranges": [[{"subnet": "10.67.0.0/24"}]],
        "dataDir": str(node.state_dir / "leases"),
        "routes": [{"dst": "0.0.0.0/0"}],
    }

    def bridge(kind: str) -> dict[str, Any]:
        return {
            "cniVersion": "1.0.0",
            "name": "moved",
            "type": "bridge",
            "bridge": "cni8",
            "isGateway": True,
            "ipam": {"type": kind, **ipam},
        }

    several = [containers.new(f"c{at}") for at in range(4)]
    given = []
    for one, kind in zip(several, ("host-local", "fairlead-ipam", "host-local", "fairlead-ipam"), strict=True):
        status, result = cni(node, "ADD", one, bridge(kind), plugin=PEERS / "bridge")
        assert status == 0, result
        given.append(result["ips"][0]["address"])
    assert len(set(given)) == 4
    assert several[0].pings(given[3].partition("/")[0])
    for one in several:
        assert cni(node, "DEL", one, bridge("fairlead-ipam"), plugin=PEERS / "bridge")[0] == 0
    leases = [path.name for path in (node.state_dir / "leases" / "moved").iterdir() if path.name[0].isdigit()]
    assert not leases
