"""``fairlead-ipam`` as a runtime's plugin calls it, and beside the real host-local on the same files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.cni import ipam
from fairlead.kernel.flock import locked
from fairlead.kit.suspects import Suspects
from tests.contracts import cni_calls
from tests.contracts.cni_calls import VERSIONS, environment, success
from tests.contracts.fake_door import FakeDoor

HOST_LOCAL = "/usr/lib/cni/host-local"
RANGES = [[{"subnet": "10.7.0.0/29"}], [{"subnet": "fd07::/64", "rangeStart": "fd07::10", "gateway": "fd07::fe"}]]


class Plugin:
    """The plugin over one data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.leases = folder / "blue"

    def conf(self, version: str = "1.1.0", ipam: dict[str, Any] | None = None, **more: Any) -> bytes:
        whole = {"type": "fairlead-ipam", "dataDir": str(self.folder), "ranges": RANGES, **(ipam or {})}
        return json.dumps({"cniVersion": version, "name": "blue", "type": "bridge", "ipam": whole, **more}).encode()

    def call(self, command: str, stdin: bytes, **more: str) -> tuple[int, dict[str, Any]]:
        door = FakeDoor()
        answer = cni_calls.call(door, command, stdin, CNI_PLUGIN="fairlead-ipam", **more)
        assert not door.asked
        return answer

    def refused(self, command: str, stdin: bytes, code: int, *words: str, **more: str) -> None:
        cni_calls.refused(FakeDoor(), command, stdin, code, *words, CNI_PLUGIN="fairlead-ipam", **more)

    def held(self) -> list[str]:
        return sorted(path.name for path in self.leases.iterdir() if path.name[0].isdigit() or ":" in path.name)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "state"))
    return Plugin(tmp_path / "networks")


@pytest.mark.parametrize("version", VERSIONS)
def test_add(plugin: Plugin, version: str, tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("# mine\nnameserver 10.0.0.1\nsearch a.example b.example\noptions ndots:2\n")
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "10.1.2.3/8", "gw": "10.7.0.6"}]
    status, answer = plugin.call("ADD", plugin.conf(version, {"routes": routes, "resolvConf": str(resolv)}))
    assert status == 0, answer
    jsonschema.validate(answer, success(version))
    assert "interfaces" not in answer
    assert all("interface" not in one for one in answer["ips"])
    assert [(one["address"], one["gateway"]) for one in answer["ips"]] == [
        ("10.7.0.2/29", "10.7.0.1"),
        ("fd07::10/64", "fd07::fe"),
    ]
    assert answer["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.7.0.6"}]
    assert answer["dns"] == {"nameservers": ["10.0.0.1"], "search": ["a.example", "b.example"], "options": ["ndots:2"]}
    assert plugin.held() == ["10.7.0.2", "fd07::10"]


def test_wishes(plugin: Plugin) -> None:
    assert plugin.call("ADD", plugin.conf(), CNI_ARGS="IP=10.7.0.4")[1]["ips"][0]["address"] == "10.7.0.4/29"
    runtime = {"ips": ["10.7.0.5/29", "fd07::99"]}
    _, answer = plugin.call("ADD", plugin.conf(runtimeConfig=runtime), CNI_CONTAINERID="c2")
    assert [one["address"] for one in answer["ips"]] == ["10.7.0.5/29", "fd07::99/64"]
    plugin.refused("ADD", plugin.conf(runtimeConfig=runtime), 101, "10.7.0.5", "c2", CNI_CONTAINERID="c3")
    plugin.refused("ADD", plugin.conf(), 7, "10.9.9.9", CNI_CONTAINERID="c3", CNI_ARGS="IP=10.9.9.9")


def test_exhausted_until_one_leaves(plugin: Plugin) -> None:
    for number in range(5):
        assert plugin.call("STATUS", plugin.conf()) == (0, {})
        assert plugin.call("ADD", plugin.conf(), CNI_CONTAINERID=f"c{number}")[0] == 0
    plugin.refused("STATUS", plugin.conf(), 50, "blue", "5 of 5")
    plugin.refused("ADD", plugin.conf(), 102, "blue", "c0:eth0", CNI_CONTAINERID="c9")
    assert len(plugin.held()) == 10, "an ADD that fails keeps nothing"
    assert plugin.call("DEL", plugin.conf(), CNI_CONTAINERID="c3") == (0, {})
    assert plugin.call("ADD", plugin.conf(), CNI_CONTAINERID="c9")[1]["ips"][0]["address"] == "10.7.0.5/29"


def test_delete_needs_no_more_than_the_place(plugin: Plugin) -> None:
    plugin.call("ADD", plugin.conf())
    plugin.call("ADD", plugin.conf(), CNI_IFNAME="eth1")
    for stdin in (plugin.conf("9.9.9", {"ranges": "nonsense"}, vlan=5), plugin.conf()):
        assert plugin.call("DEL", stdin, CNI_NETNS="") == (0, {})
        assert plugin.held() == ["10.7.0.3", "fd07::11"]
    plugin.refused("DEL", b"{}", 7, "name")
    plugin.refused("DEL", b"", 6)


def test_check(plugin: Plugin) -> None:
    _, answer = plugin.call("ADD", plugin.conf())
    assert plugin.call("CHECK", plugin.conf(prevResult=answer)) == (0, {})
    plugin.refused("CHECK", plugin.conf(prevResult=answer), 3, "c2:eth0", CNI_CONTAINERID="c2")
    (plugin.leases / "fd07::10").unlink()
    plugin.refused("CHECK", plugin.conf(prevResult=answer), 110, "fd07::10")
    plugin.refused("CHECK", plugin.conf("0.3.1", prevResult=answer), 1, "CHECK")
    other = {"ips": [{"address": "192.0.2.7/24"}]}
    plugin.refused("CHECK", plugin.conf(prevResult=other), 110, "10.7.0.2")


def test_collect(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    for container in ("c1", "c2", "c3"):
        plugin.call("ADD", plugin.conf(), CNI_CONTAINERID=container)
    plugin.refused("GC", plugin.conf(), 7, "cni.dev/valid-attachments")
    valid = {"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
    now = [100.0]
    monkeypatch.setattr(ipam, "suspects", Suspects(10.0, lambda: now[0]))
    for seconds, left in ((0.0, 3), (9.0, 3), (1.0, 1)):
        now[0] += seconds
        assert plugin.call("GC", plugin.conf(**valid)) == (0, {})
        assert len(plugin.held()) == 2 * left
    assert plugin.held() == ["10.7.0.3", "fd07::11"]


def test_collect_spares_who_came_after_the_list_was_written(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(ipam, "suspects", Suspects(10.0, lambda: now[0]))
    plugin.call("ADD", plugin.conf())
    mine = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    nobody: dict[str, list[object]] = {"cni.dev/valid-attachments": []}
    for said in (nobody, mine, nobody):  # an old list, a new one, and the container is gone
        assert plugin.call("GC", plugin.conf(**said)) == (0, {})
        assert len(plugin.held()) == 2
        now[0] += 20
    assert plugin.call("GC", plugin.conf(**nobody)) == (0, {})
    assert plugin.held() == []


@pytest.mark.parametrize(
    ("ipam", "code", "words"),
    [
        ({"ranges": []}, 7, ("ipam.ranges",)),
        ({"ranges": [[{"subnet": "10.7.0.1/29"}]]}, 7, ("ipam.ranges[0][0].subnet", "10.7.0.0/29")),
        ({"dataDir": "relative"}, 7, ("ipam.dataDir", "relative")),
        ({"dataDir": "/proc/none"}, 104, ("/proc/none",)),
        ({"routes": [{"dst": "nowhere"}]}, 7, ("ipam.routes[0].dst",)),
        ({"routes": [{"dst": "0.0.0.0/0", "mtu": "big"}]}, 7, ("ipam.routes[0].mtu",)),
        ({"resolvConf": "/nonexistent/resolv.conf"}, 5, ("ipam.resolvConf", "/nonexistent/resolv.conf")),
        ({"resolvConf": "\0"}, 5, ("ipam.resolvConf",)),
    ],
)
def test_wrong_configuration(plugin: Plugin, ipam: dict[str, Any], code: int, words: tuple[str, ...]) -> None:
    plugin.refused("ADD", plugin.conf(ipam=ipam), code, *words)
    assert not plugin.leases.exists()
    plugin.refused("ADD", json.dumps({"cniVersion": "1.0.0", "name": "blue"}).encode(), 7, "ipam")


def test_lock_that_another_holds(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin.call("ADD", plugin.conf())
    monkeypatch.setattr("fairlead.cni.ipam.locked", lambda path: locked(path, deadline=0.05))
    with locked(str(plugin.leases / "lock")):
        plugin.refused("ADD", plugin.conf(), 11, "lock", CNI_CONTAINERID="c2")


@pytest.mark.needs(HOST_LOCAL)
@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_answers_as_host_local_does(plugin: Plugin, version: str, tmp_path: Path) -> None:
    """The two by turns on one directory, and host-local alone on another: the same answers all the way."""
    alone = Plugin(tmp_path / "alone")
    routes = {"routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.7.0.6"}]}
    for number in range(8):
        command, container = ("DEL", f"c{number - 3}") if number in {3, 6} else ("ADD", f"c{number}")
        wanted = host_local(command, alone.conf(version, routes), container)
        if number % 2:
            assert host_local(command, plugin.conf(version, routes), container) == wanted
        else:
            assert plugin.call(command, plugin.conf(version, routes), CNI_CONTAINERID=container) == (0, wanted)
    assert plugin.held() == alone.held()


def host_local(command: str, stdin: bytes, container: str) -> dict[str, Any]:
    env = environment(command, CNI_CONTAINERID=container)
    ran = subprocess.run([HOST_LOCAL], input=stdin, env=env, check=True, capture_output=True)
    return {key: value for key, value in json.loads(ran.stdout or b"{}").items() if value != {}}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS"]),
    ipam=st.dictionaries(
        st.sampled_from(["subnet", "rangeStart", "rangeEnd", "gateway", "ranges", "routes", "resolvConf", "type"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["10.7.0.0/29", "10.7.0.3", "fd07::/64"]),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["subnet", "dst", "gw"]), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    ),
    previous=st.none() | st.dictionaries(st.sampled_from(["ips", "interfaces"]), st.lists(st.text(max_size=3), max_size=2)),
)
def test_any_configuration(plugin: Plugin, command: str, ipam: dict[str, Any], previous: object) -> None:
    _, answer = plugin.call(command, plugin.conf(ipam=ipam, prevResult=previous))
    assert answer.get("code") != 100, answer
    plugin.call("DEL", plugin.conf())
