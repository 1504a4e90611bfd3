"""The plugin's commands beside ADD, over a fake agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.api.schema import Detach, Drift
from fairlead.model import errors
from tests.contracts.cni_calls import PREVIOUS, VERSIONS, call, conf, refused
from tests.contracts.fake_door import FakeDoor


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))


# DEL


def test_delete_asks_nothing_of_the_configuration() -> None:
    door = FakeDoor()
    call(door, "ADD", conf())
    for stdin in (conf(), b"", b"rubbish", conf("9.9.9"), conf(vlan=1)):
        assert call(door, "DEL", stdin, CNI_NETNS="") == (0, {})
    assert door.asked[-1] == Detach(container="c1", interface="eth0", wait=False)
    assert not door.endpoints


def test_delete_of_what_is_missing_succeeds() -> None:
    door = FakeDoor()
    door.trouble = errors.Missing("no such endpoint")
    assert call(door, "DEL", conf()) == (0, {})
    door.trouble = errors.Failed("the kernel refused")
    refused(door, "DEL", conf(), 104)


def test_delete_needs_its_attachment() -> None:
    refused(FakeDoor(), "DEL", conf(), 4, "CNI_IFNAME", CNI_IFNAME="")


# CHECK


def added(door: FakeDoor, version: str = "1.1.0", **more: object) -> dict:
    status, answer = call(door, "ADD", conf(version, **more))
    assert status == 0
    return answer


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_check_is_silent_when_all_is_well(version: str) -> None:
    door = FakeDoor()
    assert call(door, "CHECK", conf(version, prevResult=added(door, version))) == (0, {})


def test_check_came_with_0_4_0() -> None:
    door = FakeDoor()
    refused(door, "CHECK", conf("0.3.1", prevResult=added(door, "0.3.1")), 1, "CHECK")


def test_check_names_what_differs() -> None:
    door = FakeDoor()
    result = added(door)
    refused(door, "CHECK", conf(), 7, "prevResult")
    wrong = json.loads(json.dumps(result))
    wrong["ips"][0]["address"] = "10.88.0.77/24"
    answer = refused(door, "CHECK", conf(prevResult=wrong), 110, "10.88.0.2/24")
    assert "10.88.0.77/24" in answer["details"]
    wrong = json.loads(json.dumps(result))
    wrong["interfaces"][2]["mac"] = "02:00:00:00:00:99"
    refused(door, "CHECK", conf(prevResult=wrong), 110, "02:00:00:00:00:99", "02:00:00:00:00:02")
    wrong["interfaces"].pop()
    wrong["ips"] = []
    refused(door, "CHECK", conf(prevResult=wrong), 110, "eth0")
    door.drift = (Drift(table="Link", key="c1:eth0", kind="different", want="mtu 1500", have="mtu 1400"),)
    refused(door, "CHECK", conf(prevResult=result), 110, "Link", "mtu 1400", "mtu 1500")


def test_check_leaves_later_plugins_alone() -> None:
    door = FakeDoor()
    result = added(door)
    result["interfaces"].append({"name": "wg0", "sandbox": "/run/netns/c1"})
    result["ips"] += [{"address": "10.200.0.1/24", "interface": 3}, {"address": "10.200.0.2/24", "interface": 2}]
    result["routes"] = []
    assert call(door, "CHECK", conf(prevResult=result)) == (0, {})


def test_check_of_an_unknown_container() -> None:
    refused(FakeDoor(), "CHECK", conf(prevResult=PREVIOUS), 3, "c1")


# GC


def attachments(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"containerID": container, "ifname": interface} for container, interface in pairs]


@pytest.mark.parametrize("nobody", [[], None], ids=["an empty list", "Go's empty list"])
@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_collect_keeps_what_is_valid_and_what_others_made(key: str, nobody: list[object] | None) -> None:
    door = FakeDoor()
    for container in ("c1", "c2", "c3"):
        call(door, "ADD", conf(), CNI_CONTAINERID=container)
    call(door, "ADD", conf(name="othernet"), CNI_CONTAINERID="x1")
    assert call(door, "GC", conf(**{key: attachments(("c2", "eth0"))})) == (0, {})
    assert sorted(door.endpoints) == ["c2:eth0", "x1:eth0"]
    assert call(door, "GC", conf(**{key: nobody})) == (0, {})
    assert sorted(door.endpoints) == ["x1:eth0"]


def test_collect_refuses_to_guess() -> None:
    door = FakeDoor()
    added(door)
    refused(door, "GC", conf(), 7, "cni.dev/valid-attachments")
    refused(door, "GC", conf(**{"cni.dev/valid-attachments": attachments(("../x", "eth0"))}), 7, "containerID")
    refused(door, "GC", conf("1.0.0", **{"cni.dev/valid-attachments": []}), 1, "GC")
    assert door.endpoints
    door.trouble = errors.Failed("the kernel refused")
    refused(door, "GC", conf(**{"cni.dev/valid-attachments": []}), 104)


def test_collect_of_a_network_that_was_never_made() -> None:
    stdin = conf(ipam={"subnet": "10.7.0.0/16"}, **{"cni.dev/valid-attachments": []})
    door = FakeDoor()
    assert call(door, "GC", stdin) == (0, {})
    assert "mynet" not in door.networks


# STATUS, VERSION


def test_status() -> None:
    door = FakeDoor()
    assert call(door, "STATUS", conf()) == (0, {})
    refused(door, "STATUS", conf("1.0.0"), 1, "STATUS")
    refused(door, "STATUS", conf(network="nope"), 50, "nope")
    door.size = 1
    added(door)
    refused(door, "STATUS", conf(), 50, "default", "1 of 1")
    door.ready, door.reason = False, "nft is missing"
    refused(door, "STATUS", conf(), 50, "nft is missing")


@pytest.mark.parametrize(("asked", "told"), [("0.4.0", "0.4.0"), ("1.1.0", "1.1.0"), ("0.1.0", "1.1.0"), ("", "1.1.0")])
def test_version(asked: str, told: str) -> None:
    stdin = json.dumps({"cniVersion": asked}).encode() if asked else b""
    assert call(FakeDoor(), "VERSION", stdin) == (0, {"cniVersion": told, "supportedVersions": list(VERSIONS)})
