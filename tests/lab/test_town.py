"""One lab, looked at from inside and outside: who reaches whom, what a command on a node sees, what is said of it."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.lab.conftest import Labs
from tests.lab.town import Town, cli, environment, told
from tests.terminal import Terminal
from tests.wait import eventually


@pytest.fixture
def town(lab: Labs) -> Town:
    return lab(nodes=2, dual=True, pods=2)


def test_pods_reach_each_other_over_nodes_in_both_families(town: Town) -> None:
    one, beside, other = town.pod(1), town.pod(1, 2), town.pod(2)
    assert one.reaches(beside)
    assert one.reaches(other)
    assert other.reaches(one)
    assert {answer.peer for answer in one.asks(other) if answer} == {str(at) for at in one.addresses}  # without source NAT


def test_one_file_is_the_store_of_both(town: Town) -> None:
    assert town.fairlead("node2", "get", "nodes", "-o", "name").split() == ["node/node1", "node/node2"]
    inodes = {town.run(node, "stat", "-c", "%i", "/var/lib/fairlead-shared/store.db") for node in ("node1", "node2")}
    assert len(inodes) == 1


def test_a_policy_is_every_node_s(town: Town) -> None:
    """Written on one node, it holds on another, and what it drops there has the name of who asked."""
    policy = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: beside, namespace: default}
spec: {podSelector: {matchLabels: {node: node2}}, ingress: [{from: [{podSelector: {matchLabels: {node: node2}}}]}]}
"""
    one, other, beside = town.pod(1), town.pod(2), town.pod(2, 2)
    assert one.reaches(other)
    assert cli("exec", "--name", town.name, "node1", "--", "fairlead", "apply", "-f", "-", stdin=policy).returncode == 0
    try:
        assert one.misses(other)
        assert beside.reaches(other)
        dropped = town.fairlead("node2", "flows", "--verdict", "dropped", "--from", one.name, "--to", other.name)
        assert "DROPPED (denied by policy) (ingress default deny)" in dropped
        explained = town.fairlead("node2", "policy", "explain", one.name, f"{other.name}:80")
        said = explained.partition("kernel\n")[2].splitlines()
        assert [line.split()[:3] for line in said[:2]] == [["✓", "egress", "on"], ["✗", "ingress", "on"]]
        assert said[0].endswith("of node node1: passes")
        assert said[1].endswith(": denied by policy")
    finally:
        town.fairlead("node2", "delete", "netpol", "beside")
    assert one.reaches(other)


def test_a_command_sees_its_node_and_no_other(town: Town) -> None:
    assert town.run("node1", "hostname") == "node1\n"
    assert {link["ifname"] for link in town.json("outside", "ip", "-json", "link")} == {"lo", "eth0"}
    assert {"172.16.0.2", "fd00:16::2"} <= {
        at["local"] for link in town.json("node2", "ip", "-json", "address") for at in link["addr_info"]
    }
    listed = json.loads(town.fairlead("node1", "ps", "-o", "json"))
    assert sorted(one["name"] for one in listed) == ["node1-1", "node1-2"]
    processes = town.run("node1", "ps", "-e", "-o", "args").splitlines()
    assert processes[1] == "sleep infinity"  # its first
    assert sum("fairlead.agent" in line for line in processes) == 1
    assert sorted(town.run("node1", "ls", "/sys/class/net").split()) == sorted(
        link["ifname"] for link in town.json("node1", "ip", "-json", "link")
    )
    assert town.run("node2", "getent", "hosts", "node1").split()[-1] == "node1"


def test_exec_is_the_command_s_exit_status_and_finds_pods_too(town: Town) -> None:
    assert cli("exec", "--name", town.name, "node1", "--", "sh", "-c", "exit 7").returncode == 7
    assert cli("exec", "--name", town.name, "node1", "no-such-program").returncode == 127
    inside = told("exec", "--name", town.name, "node2-1", "--", "ip", "-brief", "address", "show", "eth0")
    assert str(town.pod(2).address(6)) in inside
    assert told("exec", "--name", town.name, "node1", "--", "fairlead", "exec", "node1-1", "--", "hostname") == "node1-1\n"
    done = cli("exec", "--name", town.name, "node1", "--", "tr", "a-z", "A-Z", stdin="through\n")
    assert done.stdout == "THROUGH\n"


@pytest.mark.needs("tcpdump", "nft")
def test_tools_show_the_node_they_run_on(town: Town) -> None:
    assert "table inet fairlead" in town.run("node1", "nft", "list", "tables")
    assert town.run("outside", "nft", "list", "tables") == ""
    port = town.lab.machine("switch")
    command = [
        "nsenter",
        f"--net=/proc/{port.process.pid}/ns/net",
        "tcpdump",
        "-n",
        "-l",
        "-c",
        "1",
        "-i",
        "node2",
        "udp port 4789",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        assert watching.stderr
        while "listening on node2" not in watching.stderr.readline():
            assert watching.poll() is None
        assert town.pod(1).reaches(town.pod(2))
        assert "172.16.0." in watching.stdout.readline()


def test_what_a_node_writes_stays_there(town: Town) -> None:
    town.run("node1", "sh", "-c", "echo mine >/etc/fairlead-lab-test && echo mine >/run/fairlead-lab-test")
    assert town.run("node1", "cat", "/etc/fairlead-lab-test") == "mine\n"
    for other in ("node2", "switch"):
        assert town.lab.machine(other).attempt("cat", "/etc/fairlead-lab-test", "/run/fairlead-lab-test").returncode != 0
    assert not Path("/etc/fairlead-lab-test").exists()


def test_status_tells_everything_as_json(town: Town) -> None:
    def told_all() -> bool:
        found = json.loads(told("status", "--name", town.name, "-o", "json"))
        machines = {one["name"]: one for one in found["machines"]}
        assert {name: one["state"] for name, one in machines.items()} == {
            "node1": "ready", "node2": "ready", "outside": "running",
        }  # fmt: skip
        assert machines["node2"]["addresses"] == ["172.16.0.2/24", "fd00:16::2/64"]
        assert [one["name"] for one in machines["node1"]["pods"]] == ["node1-1", "node1-2"]
        assert set(machines["node1"]["pods"][0]["addresses"]) == {str(at) for at in town.pod(1).addresses}
        assert (found["network"], found["driver"], found["store"]) == ("pods", "vxlan", "sqlite")
        assert found["reach"]["node1-1"]["node2-1"] == {"4": True, "6": True}
        assert found["reach"]["outside"]["node2-1"] == {"4": False, "6": False}  # nobody told it the way
        assert found["reach"]["node2-2"]["outside"] == {"4": True, "6": True}
        return True

    eventually(told_all, deadline=15)


def test_status_is_a_table_for_people(town: Town) -> None:
    shown = told("status", "--name", town.name)
    assert f"lab {town.name}: 2 of 2 nodes ready, network pods (vxlan), store sqlite" in shown
    assert "FROM \\ TO" in shown
    assert "FROM \\ TO" not in told("status", "--name", town.name, "--no-reach")
    assert town.name in told("ls")


def test_a_partition_stops_everything_between_two_nodes_and_nothing_else(town: Town) -> None:
    one, beside, other = town.pod(1), town.pod(1, 2), town.pod(2)
    assert one.reaches(other)
    assert "cut off" in told("partition", "--name", town.name, "node1", "node2")
    try:
        assert one.misses(other)
        assert other.misses(one)
        assert town.machine("node1").misses(other)
        assert one.reaches(beside)
        assert one.reaches(town.outside)
        assert other.reaches(town.outside)
    finally:
        assert "reach each other again" in told("heal", "--name", town.name, "node2", "node1")
        town.heal()
    assert one.reaches(other)


def test_from_outside_the_nodes(town: Town) -> None:
    """What leaves a node has the node's address, as with any network that is not routed."""
    one = town.pod(1)
    assert one.reaches(town.outside)
    assert {answer.peer for answer in one.asks(town.outside) if answer} == {"172.16.0.1", "fd00:16::1"}
    assert town.outside.misses(one)


def test_a_shell_has_the_terminal(town: Town) -> None:
    with closing(Terminal({**environment(), "SHELL": "/bin/bash"}, "lab", "shell", "--name", town.name, "node1")) as terminal:
        terminal.type("hostname; tty >/dev/null && echo is-a-$((6*7))-terminal\n")
        terminal.until("is-a-42-terminal\r\n")
        assert "node1\r\n" in terminal.text
        assert "no job control" not in terminal.text
        terminal.type("sh -c 'echo asleep-$((6*7)); sleep 30'\n")
        terminal.until("asleep-42\r\n")

        def ended() -> bool:
            """What runs there, and neither the shell nor us. A shell that is about to start it may miss the first one."""
            terminal.type("\x03")
            terminal.until("^C")
            terminal.until("# ", 1, since="^C")
            return True

        eventually(ended, deadline=15)  # what is typed before that, the terminal forgets
        terminal.type("echo still-$((6*7))-here\n")
        terminal.until("still-42-here\r\n")
        terminal.type("exit 3\n")
        assert terminal.wait() == 3
