"""From up to down: nothing of a lab is left, whoever ends it and however far it had come, and nothing else was touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec import structs

from fairlead.kernel import process
from fairlead.lab import record
from fairlead.lab.machine import MARK
from tests.lab.conftest import Labs
from tests.lab.town import CLI, cli, environment, refusal, told
from tests.net import Namespace, kept
from tests.wait import eventually

SMALL = ("--nodes", 1, "--pods", 1, "--no-outside")


@pytest.fixture
def name(lab: Labs) -> str:
    return lab.name()


@pytest.fixture
def ground() -> Iterator[Namespace]:
    """A network namespace in place of this machine's, which others use at the same time."""
    with ExitStack() as cleanup:
        yield kept(cleanup, Namespace("ground"))


def processes(name: str, machine: str = "") -> list[int]:
    """Every process of a lab's machines, or of one, by the mark in its environment."""
    mark = f"{MARK}={name}/{machine}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word == mark if machine else word.startswith(mark) for word in words):
            found.append(int(entry.name))
    return found


def nothing_left(name: str) -> bool:
    assert processes(name) == []
    assert not record.directory(name).exists()
    assert name not in Path("/proc/self/mountinfo").read_text()
    return True


def test_up_and_down_leave_nothing_and_touch_nothing(ground: Namespace, name: str) -> None:
    def picture() -> list[str]:
        asked = ("ip -d link", "ip address", "ip route show table all", "ip -6 route show table all", "nft list ruleset")
        switches = "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding"
        return [ground.run(*one.split()) for one in (*asked, switches)]

    def lab(*words: object) -> str:
        command = ["nsenter", f"--net={ground.path}", *CLI, "lab", *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment()).stdout

    before = picture()
    assert f"Lab {name} is ready: 2 nodes, 2 pods" in lab("up", "--name", name, "--pods", 1)
    assert picture() == before
    assert len(processes(name)) > 6
    assert lab("down", "--name", name) == f"{name}\n"
    nothing_left(name)
    assert picture() == before


def test_the_last_lab_takes_the_directories_above_along(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_RUN_DIR", str(tmp_path / "run"))
    told("up", "--name", name, *SMALL)
    assert (tmp_path / "run" / "labs" / name).is_dir()
    told("down")
    assert not (tmp_path / "run").exists()


def test_a_lab_that_fails_half_way_is_taken_down(name: str, file: Path) -> None:
    """The network is refused by the agents, when machines, cables and agents are there."""
    file.write_text(
        "apiVersion: fairlead.dev/v1\nkind: Lab\nspec: {nodes: [{name: one}]}\n---\n"
        "apiVersion: fairlead.dev/v1\nkind: Network\nmetadata: {name: bad}\n"
        "spec: {driver: bridge, subnets: [{cidr: 172.16.0.0/16}]}\n"
    )
    said = refusal("up", "--name", name, "-f", file)
    assert "Network bad" in said[0]
    assert "172.16.0.0" in said[0]
    nothing_left(name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_interrupted_is_taken_down(name: str, number: int) -> None:
    with subprocess.Popen(
        [*CLI, "lab", "up", "--name", name], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()
    ) as making:
        assert making.stderr
        assert "machines on underlay" in making.stderr.readline()
        making.send_signal(number)
        assert making.wait(60) == (130 if number == signal.SIGINT else 143)
    nothing_left(name)


def test_one_whose_maker_is_killed_is_seen_and_can_be_taken_down(name: str) -> None:
    with subprocess.Popen(
        [*CLI, "lab", "up", "--name", name], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()
    ) as making:
        assert making.stderr
        assert "machines on underlay" in making.stderr.readline()
        making.kill()
    assert "not whole" in told("ls")
    assert f"lab {name} is being made" in refusal("status", "--name", name)[0]
    told("down", "--name", name)
    eventually(lambda: nothing_left(name))  # what the maker had started on a machine ends with it


def test_down_ends_only_what_is_the_lab_s(name: str) -> None:
    """A process number that was taken again by somebody else is not killed."""
    told("up", "--name", name, *SMALL)
    of = record.need(name)
    with subprocess.Popen(["sleep", "60"]) as other:
        stolen = process.Process(pid=other.pid, started=process.started(other.pid) - 1)
        record.save(structs.replace(of, processes={**of.processes, "node9": stolen}))
        told("down", "--name", name)
        assert other.poll() is None
        other.kill()
    nothing_left(name)


def test_what_a_reboot_leaves_can_be_taken_down(name: str) -> None:
    """Nothing runs any more, and a file tells of it."""
    told("up", "--name", name, *SMALL)
    for machine in record.need(name).running.values():
        machine.kill()
        assert machine.process.ended(10)
    assert "not whole" in told("ls")
    for words in (("status",), ("start", "node1"), ("exec", "node1", "true")):
        assert f"lab {name} has lost its switch" in refusal(words[0], "--name", name, *words[1:])[0]
    told("down", "--name", name)
    nothing_left(name)


def test_two_labs_at_once_know_nothing_of_each_other(lab: Labs) -> None:
    with lab.own(nodes=1) as one, lab.own(nodes=1) as other:
        assert one.machine("node1").addresses == other.machine("node1").addresses
        assert one.pod(1).reaches(one.outside)
        assert refusal("status")[0].startswith("Error: name: there are several labs: ")
        one.down()
        assert other.pod(1).reaches(other.outside)


def test_a_name_that_is_taken(name: str) -> None:
    told("up", "--name", name, *SMALL)
    said = refusal("up", "--name", name)
    assert said == [f"Error: name: there is a lab '{name}' already", f"Try: fairlead lab down --name {name}, or another --name"]
    assert f"{name}  running" in told("ls")
    told("down", "--name", name)
    assert "there is no lab" in refusal("down", "--name", name)[0]


def test_everybody_but_root_is_told(name: str) -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", *CLI, "lab", "up", "--name", name]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    assert "Error: a lab is made of namespaces, which root makes\nTry: sudo fairlead lab ...\n" in done.stderr


def test_what_is_asked_for_is_checked_before_anything_is_made(name: str) -> None:
    for words, field in (
        (("--nodes", 0), "nodes: 0 of them; from 1 to 64"),
        (("--mtu", 500), "mtu: 500 is not between 576 and"),
        (("--mtu", 1200, "--dual"), "mtu: 1200 is not between 1280 and"),
        (("--pods", -1), "pods: -1 is not between 0 and 64"),
        (("--store", "postgres"), "store: 'postgres' is not a store; write own, sqlite, etcd or etcd:3"),
        (("--store", "etcd:2"), "store.members: 2 is not one of 1, 3, 5"),
        (("--encrypt", "--network", "bridge"), "encrypt: only what reaches over nodes is encrypted between them"),
        (("--store", "own"), "store: a network with driver vxlan needs one that all nodes share: sqlite, etcd"),
    ):
        said = refusal("up", "--name", name, *words)
        assert field in said[0], said
    assert "invalid value for '--network'" in cli("up", "--network", "macvlan").stderr
    nothing_left(name)
