"""What ADD refuses, and how: the code of the specification and the name of the field or variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.model import errors
from tests.contracts.cni_calls import call, conf, refused
from tests.contracts.fake_door import FakeDoor


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))


# What ADD refuses


@pytest.mark.parametrize(
    ("stdin", "code", "words"),
    [
        (b"", 6, ("not JSON",)),
        (b"\xff", 6, ("not JSON",)),
        (b"[]", 6, ("object",)),
        (b"[" * 100_000, 6, ("not JSON",)),
        (b'{"name":"n"}', 1, ("cniVersion", "0.1.0")),
        (conf("0.2.0"), 1, ("cniVersion", "0.2.0", "1.1.0")),
        (conf(cniVersion=["1.1.0"]), 1, ("cniVersion",)),
        (conf(vlan=100), 2, ("vlan", "100")),
        (conf(internl=True), 2, ("internl", "true")),
        (conf(ipam={"subnett": "10.0.0.0/8"}), 2, ("ipam.subnett", "10.0.0.0/8")),
        (conf(ipam={"type": "dhcp"}), 2, ("ipam.type", "dhcp")),
        (conf(runtimeConfig={"deviceID": "0000:04:00.5"}), 2, ("runtimeConfig.deviceID", "0000:04:00.5")),
        (
            conf(ipam={"ranges": [[{"subnet": "10.5.0.0/16"}], [{"subnet": "10.6.0.0/16"}]]}),
            2,
            ("ipam.ranges[1]", "10.6.0.0/16"),
        ),
        (conf(name=""), 7, ("name",)),
        (conf(name="../x"), 7, ("name", "../x")),
        (conf(name=7), 7, ("name",)),
        (conf(mtu="1500"), 7, ("mtu",)),
        (conf(mtu=-1), 7, ("mtu",)),
        (conf(bridge="much-too-long-for-a-bridge"), 7, ("bridge",)),
        (conf(runtimeConfig={"portMappings": [{"hostPort": 0, "containerPort": 80}]}), 7, ("portMappings[0].hostPort",)),
        (
            conf(runtimeConfig={"portMappings": [{"hostPort": 1, "containerPort": 70000}]}),
            7,
            ("portMappings[0].containerPort",),
        ),
        (
            conf(runtimeConfig={"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}),
            7,
            ("protocol", "icmp"),
        ),
        (conf(runtimeConfig={"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "x"}]}), 7, ("hostIP", "x")),
        (conf(runtimeConfig={"ips": ["10.88.0.300"]}), 7, ("runtimeConfig.ips", "10.88.0.300")),
        (conf(runtimeConfig={"ips": ["10.88.0.3", "10.88.0.4"]}), 7, ("runtimeConfig.ips", "10.88.0.3", "10.88.0.4")),
        (conf(runtimeConfig={"mac": "ff:ff:ff:ff:ff:ff"}), 7, ("runtimeConfig.mac",)),
        (conf(runtimeConfig={"bandwidth": {"ingressBurst": 5}}), 7, ("bandwidth", "ingressBurst")),
        (conf(runtimeConfig={"bandwidth": {"ingressRate": 1e99}}), 7, ("ingressRate",)),
        (conf(runtimeConfig={"dns": {"searches": ["a\nnameserver 6.6.6.6"]}}), 7, ("dns.search",)),
        (
            conf(runtimeConfig={"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "224.0.0.1"}]}),
            7,
            ("[0]", "multicast"),
        ),
        (conf(ipam={"routes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}), 7, ("ipam.routes[0].gw",)),
        (conf(runtimeConfig={"dns": {"servers": ["eight"]}}), 7, ("runtimeConfig.dns.nameservers[0]", "eight")),
        (conf(runtimeConfig={"aliases": ["a b"]}), 7, ("aliases", "a b")),
        (conf(dns={"nameservers": ["eight.eight"]}), 7, ("dns.nameservers",)),
        (conf(args={"cni": {"labels": [{"key": "a b", "value": "c"}]}}), 7, ("args.cni.labels[0]", "a b")),
        (conf(args={"cni": {"namedPorts": {"Http": "80"}}}), 7, ("args.cni.namedPorts", "Http")),
        (conf(args={"cni": {"namedPorts": {"http": "80/icmp"}}}), 7, ("args.cni.namedPorts", "80/icmp")),
        (conf(ipam={"subnet": "10.5.0.1/16"}), 7, ("ipam.subnet", "10.5.0.0/16")),
        (conf(ipam={"subnet": "10.5.0.0/31"}), 7, ("10.5.0.0/31", "/30")),
        (conf(ipam={"subnet": "10.5.0.0/16", "rangeStart": "10.6.0.1"}), 7, ("10.6.0.1",)),
        (conf(ipam={"ranges": [[]]}), 7, ("ipam.ranges[0]",)),
        (conf(ipam={"routes": [{"dst": "10.0.0.1/8"}]}), 7, ("ipam.routes[0].dst",)),
        (conf(name="My_Net", ipam={"subnet": "10.5.0.0/16"}), 7, ("name", "My_Net")),
    ],
)
def test_wrong_configuration_names_the_field(stdin: bytes, code: int, words: tuple[str, ...]) -> None:
    door = FakeDoor()
    refused(door, "ADD", stdin, code, *words)
    assert not door.asked


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"CNI_COMMAND": ""}, ("CNI_COMMAND",)),
        ({"CNI_COMMAND": "add"}, ("CNI_COMMAND", "add", "ADD")),
        ({"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""}, ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME")),
        ({"CNI_CONTAINERID": "../etc"}, ("CNI_CONTAINERID", "../etc")),
        ({"CNI_CONTAINERID": "a", "CNI_IFNAME": "much-too-long-a-name"}, ("CNI_IFNAME",)),
        ({"CNI_IFNAME": "a/b", "CNI_NETNS": "x"}, ("CNI_IFNAME", "CNI_NETNS")),
        ({"CNI_NETNS": "/proc/\udcff"}, ("CNI_NETNS",)),
        ({"CNI_NETNS": "/proc/self/ns/net"}, ("CNI_NETNS", "host")),
        ({"CNI_ARGS": "A"}, ("CNI_ARGS", "'A'")),
        ({"CNI_ARGS": "A=b"}, ("CNI_ARGS", "A")),
        ({"CNI_ARGS": "IgnoreUnknown=maybe"}, ("CNI_ARGS", "IgnoreUnknown")),
        ({"CNI_ARGS": "IP=1.2.3"}, ("CNI_ARGS", "IP", "1.2.3")),
        ({"CNI_ARGS": "MAC=1"}, ("CNI_ARGS", "MAC")),
        ({"CNI_ARGS": "K8S_POD_NAMESPACE=A B"}, ("CNI_ARGS", "K8S_POD_NAMESPACE")),
        ({"CNI_ARGS": "K8S_POD_NAME=a\tb"}, ("CNI_ARGS", "K8S_POD_NAME")),
        ({"CNI_ARGS": "K8S_POD_NAME=\udcff"}, ("CNI_ARGS",)),
        ({"CNI_ARGS": "K8S_POD_UID=a b"}, ("CNI_ARGS", "K8S_POD_UID")),
    ],
)
def test_wrong_environment_names_the_variable(more: dict[str, str], words: tuple[str, ...]) -> None:
    door = FakeDoor()
    refused(door, more.pop("CNI_COMMAND", "ADD"), conf(), 4, *words, **more)
    assert not door.asked


def test_own_namespace_is_taken_if_the_runtime_insists() -> None:
    assert call(FakeDoor(), "ADD", conf(), CNI_NETNS="/proc/self/ns/net", CNI_NETNS_OVERRIDE="1")[0] == 0


@pytest.mark.parametrize(
    ("problem", "code", "word"),
    [
        (errors.Invalid("no namespace", field="path"), 4, "CNI_NETNS"),
        (errors.Invalid("bad", field="ports[0]"), 7, "ports[0]"),
        (errors.Unavailable("later"), 11, "later"),
        (errors.Conflict("taken by web", field="ports"), 101, "web"),
        (errors.Exhausted("none left"), 102, "none left"),
        (errors.Unsupported("needs 5.10"), 103, "5.10"),
        (errors.Failed("refused"), 104, "refused"),
        (errors.Missing("gone"), 105, "gone"),
        (errors.Forbidden("no"), 106, "no"),
        (RuntimeError("a defect"), 100, "internal"),
    ],
)
def test_problems_of_the_agent_have_codes(problem: Exception, code: int, word: str, caplog: pytest.LogCaptureFixture) -> None:
    door = FakeDoor()
    door.trouble = problem
    refused(door, "ADD", conf("0.4.0"), code, word)
    assert bool(caplog.records) is (code == 100)
