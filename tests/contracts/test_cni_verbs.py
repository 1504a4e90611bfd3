"""The plugin's commands as a runtime sees them, over a fake agent; shapes are asserted from the specification's text."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from fake_door import FakeDoor, network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.api.schema import Detach, Detached, Drift
from fairlead.cni import config, result, verbs
from fairlead.cni.call import HEADERS
from fairlead.cni.spec import Code
from fairlead.model import errors
from fairlead.model.address import Address, Interface, Mac

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")

ERROR = {
    "type": "object",
    "required": ["cniVersion", "code", "msg"],
    "additionalProperties": False,
    "properties": {
        "cniVersion": {"enum": list(VERSIONS)},
        "code": {"type": "integer", "minimum": 1},
        "msg": {"type": "string", "minLength": 1, "maxLength": 2100},
        "details": {"type": "string", "maxLength": 2100},
    },
}


def success(version: str) -> dict[str, object]:
    """The specification's section 5 as a schema, per version."""
    interface = {"name": {"type": "string"}, "mac": {"type": "string"}, "sandbox": {"type": "string"}}
    if version == "1.1.0":
        interface |= {"mtu": {"type": "integer"}, "socketPath": {"type": "string"}, "pciID": {"type": "string"}}
    ip = {"address": {"type": "string"}, "gateway": {"type": "string"}, "interface": {"type": "integer", "minimum": 0}}
    needed = ["address"]
    if version in {"0.3.1", "0.4.0"}:
        ip["version"] = {"enum": ["4", "6"]}
        needed = ["address", "version"]
    strings = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "required": ["cniVersion"],
        "additionalProperties": False,
        "properties": {
            "cniVersion": {"const": version},
            "interfaces": {
                "type": "array",
                "items": {"type": "object", "required": ["name"], "properties": interface, "additionalProperties": False},
            },
            "ips": {
                "type": "array",
                "items": {"type": "object", "required": needed, "properties": ip, "additionalProperties": False},
            },
            "routes": {"type": "array", "items": {"type": "object", "required": ["dst"]}},
            "dns": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"nameservers": strings, "domain": {"type": "string"}, "search": strings, "options": strings},
            },
        },
    }


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))


def environment(command: str, **more: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        **more,
    }


def conf(version: str = "1.1.0", **more: object) -> bytes:
    return json.dumps({"cniVersion": version, "name": "mynet", "type": "fairlead", **more}).encode()


def call(door: FakeDoor, command: str, stdin: bytes, **more: str) -> tuple[int, dict]:
    status, out = asyncio.run(verbs.serve(door, environment(command, **more), stdin))
    answer = json.loads(out) if out else {}
    if status:
        jsonschema.validate(answer, ERROR)
    return status, answer


def refused(door: FakeDoor, command: str, stdin: bytes, code: int, *words: str, **more: str) -> dict:
    status, answer = call(door, command, stdin, **more)
    assert (status, answer["code"]) == (1, code), answer
    for word in words:
        assert word in answer["msg"], answer
    return answer


# ADD: the result


@pytest.mark.parametrize("version", VERSIONS)
def test_result_of_each_version(version: str) -> None:
    status, answer = call(FakeDoor(), "ADD", conf(version))
    assert status == 0
    jsonschema.validate(answer, success(version))
    assert [one["name"] for one in answer["interfaces"]] == ["br-default", "fl00000002", "eth0"]
    assert [one.get("sandbox") for one in answer["interfaces"]] == [None, None, "/run/netns/c1"]
    assert all(one["mac"] for one in answer["interfaces"])
    assert [one["address"] for one in answer["ips"]] == ["10.88.0.2/24", "fd00:88::2/64"]
    assert [one["gateway"] for one in answer["ips"]] == ["10.88.0.1", "fd00:88::1"]
    assert {one["interface"] for one in answer["ips"]} == {2}
    assert answer["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.88.0.1"}, {"dst": "::/0", "gw": "fd00:88::1"}]
    assert [one.get("version") for one in answer["ips"]] == (["4", "6"] if version < "1" else [None, None])
    assert [one.get("mtu") for one in answer["interfaces"]] == ([None, 1500, 1500] if version == "1.1.0" else [None] * 3)


def test_result_is_the_same_when_asked_twice() -> None:
    door = FakeDoor()
    assert call(door, "ADD", conf()) == call(door, "ADD", conf())
    assert len(door.endpoints) == 1


def test_internal_network_has_no_default_route() -> None:
    _, answer = call(FakeDoor(network("mynet", "10.1.0.0/24", internal=True)), "ADD", conf())
    assert "routes" not in answer


def test_routes_of_ipam_replace_the_default_route() -> None:
    _, answer = call(
        FakeDoor(), "ADD", conf(ipam={"routes": [{"dst": "10.9.0.0/16", "gw": "10.88.0.7"}, {"dst": "0.0.0.0/0"}]})
    )
    assert answer["routes"] == [{"dst": "10.9.0.0/16", "gw": "10.88.0.7"}, {"dst": "0.0.0.0/0"}]


def test_dns_of_the_runtime_goes_before_the_configuration() -> None:
    static = {"nameservers": ["10.0.0.1"], "domain": "a.example", "search": ["a.example"], "options": ["ndots:1"]}
    _, answer = call(FakeDoor(), "ADD", conf(dns=static))
    assert answer["dns"] == static
    dynamic = {"servers": ["10.0.0.2"], "searches": ["b.example"], "options": ["ndots:5"]}
    _, answer = call(FakeDoor(), "ADD", conf(dns=static, runtimeConfig={"dns": dynamic}))
    assert answer["dns"] == {
        "nameservers": ["10.0.0.2"],
        "domain": "a.example",
        "search": ["b.example"],
        "options": ["ndots:5"],
    }


# ADD: which network


def test_network_by_key_by_name_and_by_default() -> None:
    door = FakeDoor(network("default", "10.88.0.0/24"), network("mynet", "10.1.0.0/24"), network("other", "10.2.0.0/24"))
    for number, (more, wanted) in enumerate((({"network": "other"}, "other"), ({}, "mynet"), ({"name": "foreign"}, "default"))):
        call(door, "ADD", conf(**more), CNI_CONTAINERID=f"c{number}")
        assert door.asked[-1].network == wanted


def test_network_that_does_not_exist() -> None:
    refused(FakeDoor(), "ADD", conf(network="nope"), 7, "network:", "nope")
    refused(FakeDoor(network("other", "10.2.0.0/24")), "ADD", conf(), 7, "network:", "default")


def test_inline_network_is_made_once() -> None:
    door = FakeDoor()
    stdin = conf(
        bridge="cni7",
        mtu=1400,
        ipMasq=False,
        isGateway=True,
        isolated=False,
        interContainer=False,
        ipam={
            "type": "host-local",
            "ranges": [
                [
                    {"subnet": "10.5.0.0/16", "rangeStart": "10.5.1.0", "rangeEnd": "10.5.1.9"},
                    {"subnet": "10.5.0.0/16", "rangeStart": "10.5.2.0"},
                ],
                [{"subnet": "fd05::/64", "gateway": "fd05::9"}],
            ],
        },
    )
    status, answer = call(door, "ADD", stdin)
    assert status == 0, answer
    made = door.networks["mynet"].spec
    assert (made.bridge, made.mtu, made.masquerade, made.internal, made.isolated, made.inter_container) == (
        "cni7",
        1400,
        False,
        False,
        False,
        False,
    )
    assert [(s.cidr, s.gateway, [(r.start, r.end) for r in s.ranges]) for s in made.subnets] == [
        ("10.5.0.0/16", None, [("10.5.1.0", "10.5.1.9"), ("10.5.2.0", "10.5.255.254")]),
        ("fd05::/64", "fd05::9", []),
    ]
    call(door, "ADD", stdin, CNI_CONTAINERID="c2")
    assert sum(not hasattr(one, "container") for one in door.asked) == 1


def test_inline_without_gateway_is_internal() -> None:
    door = FakeDoor()
    call(door, "ADD", conf(isGateway=False, ipam={"subnet": "10.5.0.0/16"}))
    assert door.networks["mynet"].spec.internal


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"internal": True}, ("internal", "true", "false")),
        ({"isolated": False}, ("isolated", "false", "true")),
        ({"mtu": 1400}, ("mtu", "1400", "none")),
        ({"bridge": "br9"}, ("bridge", "br9")),
        ({"ipMasq": False}, ("ipMasq",)),
        ({"ipam": {"subnet": "10.6.0.0/16"}}, ("ipam", "10.6.0.0/16", "10.88.0.0/24")),
    ],
)
def test_configuration_must_agree_with_the_network(more: dict, words: tuple[str, ...]) -> None:
    door = FakeDoor()
    refused(door, "ADD", conf(name="default", **more), 7, *words)
    assert not door.endpoints


# ADD: what the runtime asks for


def test_every_capability_reaches_the_agent() -> None:
    door = FakeDoor()
    runtime = {
        "portMappings": [
            {"hostPort": 8081, "containerPort": 81, "protocol": "TCP"},
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
            {"hostPort": 8082, "containerPort": 90, "protocol": "tcp"},
        ],
        "ips": ["10.88.0.9/24", "fd00:88::9"],
        "mac": "02:11:22:33:44:55",
        "bandwidth": {"ingressRate": 8000, "ingressBurst": 16000, "egressRate": 0, "egressBurst": 0},
        "ipRanges": [[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.8", "rangeEnd": "10.88.0.15"}]],
        "aliases": {"mynet": ["db", "primary"], "other": ["nobody"]},
        "cgroupPath": "/kubelet",
    }
    args = (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0;K8S_POD_UID=a-b;K8S_POD_INFRA_CONTAINER_ID=c1;IP=1.2.3.4;X=y"
    )
    labels = {"cni": {"labels": [{"key": "app", "value": "db"}]}, "other": {"deep": [1]}}
    status, answer = call(door, "ADD", conf(runtimeConfig=runtime, args=labels), CNI_ARGS=args)
    assert status == 0, answer
    asked = door.asked[-1]
    assert [str(one) for one in asked.ports] == ["8080-8081->80-81/tcp", "8082->90/tcp", "192.0.2.1:53->53/udp"]
    assert asked.addresses == ("10.88.0.9/24", "fd00:88::9")
    assert asked.mac == "02:11:22:33:44:55"
    assert (asked.bandwidth.ingress_rate, asked.bandwidth.egress_rate) == (8000, 0)
    assert [(s.cidr, s.ranges[0].start, s.ranges[0].end) for s in asked.ranges] == [("10.88.0.0/24", "10.88.0.8", "10.88.0.15")]
    assert asked.aliases == ("db", "primary")
    assert (asked.namespace, asked.display, asked.owner) == ("shop", "db-0", "cni")
    assert asked.labels == {"app": "db", "fairlead.dev/pod-uid": "a-b", "fairlead.dev/cni-network": "mynet"}


def test_older_places_count_when_newer_are_silent() -> None:
    door = FakeDoor()
    old = "IP=10.88.0.5;MAC=02:00:00:00:00:05"
    call(door, "ADD", conf(), CNI_ARGS=old)
    assert (door.asked[-1].addresses, door.asked[-1].mac) == (("10.88.0.5",), "02:00:00:00:00:05")
    newer = {"cni": {"ips": ["10.88.0.6"], "mac": "02:00:00:00:00:06"}}
    call(door, "ADD", conf(args=newer), CNI_ARGS=old, CNI_CONTAINERID="c2")
    assert (door.asked[-1].addresses, door.asked[-1].mac) == (("10.88.0.6",), "02:00:00:00:00:06")


def test_nulls_of_go_are_absent_fields() -> None:
    stdin = conf(
        runtimeConfig={"portMappings": None, "dns": {"servers": None}, "bandwidth": None}, dns=None, ipam=None, prevResult=None
    )
    assert call(FakeDoor(), "ADD", stdin)[0] == 0


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
        (conf(runtimeConfig={"aliases": ["a b"]}), 7, ("aliases", "a b")),
        (conf(dns={"nameservers": ["eight.eight"]}), 7, ("dns.nameservers",)),
        (conf(args={"cni": {"labels": [{"key": "a b", "value": "c"}]}}), 7, ("args.cni.labels[0]", "a b")),
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


# chained


PREVIOUS = {
    "interfaces": [
        {"name": "cni0", "mac": "00:11:22:33:44:55"},
        {"name": "veth3243", "mac": "54:44:33:22:11:11"},
        {"name": "eth0", "mac": "98:88:77:66:55:44", "sandbox": "/run/netns/c1"},
    ],
    "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["10.1.0.1"]},
    "extension": {"kept": [1, None]},
}


def test_chained_passes_the_result_through(monkeypatch: pytest.MonkeyPatch) -> None:
    door = FakeDoor()
    monkeypatch.setattr(verbs, "_bridges", lambda _: frozenset({"cni0"}))
    ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    status, answer = call(door, "ADD", conf(prevResult=PREVIOUS, runtimeConfig=ports))
    assert status == 0, answer
    assert answer == {**PREVIOUS, "cniVersion": "1.1.0"}
    chained = door.asked[-1].chained
    assert (chained.host, chained.mac) == ("veth3243", "98:88:77:66:55:44")
    assert chained.addresses == (Interface("10.1.0.5/16"),)
    assert str(door.asked[-1].ports[0]) == "8080->80/tcp"


def test_host_side_of_a_chain_is_unknown_if_several_may_be_it() -> None:
    door = FakeDoor()
    call(door, "ADD", conf(prevResult=PREVIOUS))
    assert door.asked[-1].chained.host is None


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_chained_converts_another_version(version: str) -> None:
    status, answer = call(FakeDoor(), "ADD", conf(version, prevResult={**PREVIOUS, "cniVersion": "1.1.0"}))
    assert status == 0
    jsonschema.validate(answer, success(version))
    assert answer["ips"][0]["address"] == "10.1.0.5/16"


def test_empty_previous_result_is_no_chain() -> None:
    door = FakeDoor()
    assert call(door, "ADD", conf(prevResult={"cniVersion": "1.1.0"}))[1]["ips"]
    assert door.asked[-1].chained is None


@pytest.mark.parametrize(
    ("previous", "words"),
    [
        ({"interfaces": [{"name": "lo", "sandbox": "/x"}]}, ("prevResult.interfaces", "eth0", "lo")),
        ({"ips": [{"address": "10.0.0.1"}]}, ("prevResult.ips[0].address",)),
        ({"ips": [{"address": "10.0.0.1/8", "interface": 3}]}, ("prevResult.ips[0].interface", "3")),
        ({"ips": [{"address": "10.0.0.1/8", "interface": -1}]}, ("prevResult.ips[0].interface", "-1")),
        ("nothing", ("prevResult",)),
    ],
)
def test_wrong_previous_result(previous: object, words: tuple[str, ...]) -> None:
    refused(FakeDoor(), "ADD", conf(prevResult=previous), 7, *words)


def test_wishes_that_come_too_late_in_a_chain() -> None:
    refused(FakeDoor(), "ADD", conf(prevResult=PREVIOUS, runtimeConfig={"ips": ["10.1.0.9"]}), 2, "ips", "10.1.0.9")
    refused(
        FakeDoor(), "ADD", conf(prevResult=PREVIOUS, runtimeConfig={"mac": "02:00:00:00:00:01"}), 2, "mac", "02:00:00:00:00:01"
    )
    fulfilled = {"ips": ["10.1.0.5"], "mac": "98:88:77:66:55:44"}
    assert call(FakeDoor(), "ADD", conf(prevResult=PREVIOUS, runtimeConfig=fulfilled))[0] == 0


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


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_collect_keeps_what_is_valid_and_what_others_made(key: str) -> None:
    door = FakeDoor()
    for container in ("c1", "c2", "c3"):
        call(door, "ADD", conf(), CNI_CONTAINERID=container)
    call(door, "ADD", conf(name="othernet"), CNI_CONTAINERID="x1")
    assert call(door, "GC", conf(**{key: attachments(("c2", "eth0"))})) == (0, {})
    assert sorted(door.endpoints) == ["c2:eth0", "x1:eth0"]
    assert call(door, "GC", conf(**{key: []})) == (0, {})
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


# remembered DELs


def spool(folder: Path, container: str, interface: str = "eth0", number: int = 1, body: bytes = b"{}", **more: str) -> Path:
    folder.mkdir(exist_ok=True)
    values = environment("DEL", CNI_CONTAINERID=container, CNI_IFNAME=interface, **more)
    head = "".join(f"{HEADERS[key]}: {value}\r\n" for key, value in values.items())
    path = folder / f"{container}.{interface}.{number}"
    path.write_bytes(f"POST /cni HTTP/1.1\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body)
    return path


def test_pending_are_finished_and_rubbish_is_survived(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    door = FakeDoor()
    assert asyncio.run(verbs.finish_pending(door, folder)) == 0
    added(door)
    spool(folder, "c1")
    spool(folder, "never-seen")
    spool(folder, "cut", number=2).write_bytes(b"POST /cni HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
    (folder / "rubbish").write_bytes(b"\x00\xff" * 100)
    (folder / "empty").touch()
    (folder / "huge").write_bytes(b"x" * (3 << 20))
    (folder / ".being-written").write_bytes(b"POST")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    assert asyncio.run(verbs.finish_pending(door, folder)) == 2
    assert not door.endpoints
    assert sorted(one.name for one in folder.iterdir()) == [".being-written", "folder", "link"]


def test_pending_that_fails_for_now_stays(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    door = FakeDoor()
    door.trouble = errors.Unavailable("not yet")
    path = spool(folder, "c1")
    assert asyncio.run(verbs.finish_pending(door, folder)) == 0
    assert path.exists()
    door.trouble = None
    assert asyncio.run(verbs.finish_pending(door, folder)) == 1
    assert not path.exists()


def test_pending_that_never_can_is_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    path = spool(folder, "c1", CNI_ARGS="x")
    path.write_bytes(path.read_bytes().replace(b": c1\r", b": /\r"))
    assert asyncio.run(verbs.finish_pending(FakeDoor(), folder)) == 1
    assert not path.exists()


def test_old_delete_never_meets_a_new_add(tmp_path: Path) -> None:
    """The same container id comes back (podman start): the remembered DEL is finished before, not after."""
    folder = tmp_path / "pending-del"
    door = FakeDoor()
    spool(folder, "c1")
    other = spool(folder, "c10")
    assert call(door, "ADD", conf())[0] == 0
    assert [type(one).__name__ for one in door.asked] == ["Detach", "Attach"]
    assert list(folder.iterdir()) == [other]
    spool(folder, "c1")
    door.trouble = errors.Unavailable("busy")
    refused(door, "ADD", conf(), 11, "c1")


def test_pending_and_add_at_the_same_moment(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    spool(folder, "c1")

    class Slow(FakeDoor):
        async def detach(self, request: Detach) -> Detached:
            begun.set()
            await go_on.wait()
            return await super().detach(request)

    async def both() -> list[str]:
        door = Slow()
        finishing = asyncio.create_task(verbs.finish_pending(door, folder))
        await begun.wait()
        adding = asyncio.create_task(verbs.serve(door, environment("ADD"), conf()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not door.asked
        go_on.set()
        await asyncio.gather(finishing, adding)
        assert list(door.endpoints) == ["c1:eth0"]
        return [type(one).__name__ for one in door.asked]

    begun, go_on = asyncio.Event(), asyncio.Event()
    assert asyncio.run(both()) == ["Detach", "Attach"]


# hostile input

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(sorted(field.encode_name for field in msgspec.structs.fields(config.Config)))
PARTS = (config.Ipam, config.Pool, config.StaticRoute, config.Runtime, config.PortMapping, config.RuntimeDns, config.NetworkDns)
PARTS += (config.CniArgs, config.Label, config.Attachment, result.Result, result.Device, result.Given, result.Way, config.Args)
INNER = st.sampled_from(sorted({field.encode_name for part in PARTS for field in msgspec.structs.fields(part)}))
VALUES = st.recursive(
    TREES
    | st.sampled_from(
        ["10.0.0.0/8", "10.0.0.1", "fd00::/64", "eth0", "tcp", "mynet", 80, 1500, "/run/netns/c1", "02:00:00:00:00:01"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNER, inner, max_size=4),
    max_leaves=12,
)
CONFIGS = st.dictionaries(KEYS, VALUES, max_size=8)
TEXT = st.text(max_size=40) | st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def speaks_cni(status: int, out: bytes) -> None:
    if status:
        answer = json.loads(out)
        jsonschema.validate(answer, ERROR)
        assert answer["code"] != Code.INTERNAL, answer
    elif out:
        answer = json.loads(out)
        if "supportedVersions" not in answer:
            assert answer["cniVersion"] in VERSIONS
    assert len(out) < 3 << 20


HOSTILE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
COMMANDS = st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"])


@HOSTILE
@given(stdin=st.binary(max_size=400), command=COMMANDS)
def test_any_bytes(stdin: bytes, command: str) -> None:
    speaks_cni(*asyncio.run(verbs.serve(FakeDoor(), environment(command), stdin)))


@HOSTILE
@given(tree=CONFIGS, command=COMMANDS, version=st.sampled_from(VERSIONS))
def test_any_configuration(tree: dict, command: str, version: str) -> None:
    stdin = json.dumps({**tree, "cniVersion": version, "name": "mynet"}).encode("utf-8", "surrogatepass")
    door = FakeDoor()
    speaks_cni(*asyncio.run(verbs.serve(door, environment(command), stdin)))


@HOSTILE
@given(values=st.dictionaries(st.sampled_from(list(HEADERS)), TEXT), stdin=st.sampled_from([conf(), b"", b"{}"]))
def test_any_environment(values: dict[str, str], stdin: bytes) -> None:
    speaks_cni(*asyncio.run(verbs.serve(FakeDoor(), values, stdin)))
    speaks_cni(*asyncio.run(verbs.serve(FakeDoor(), {**environment("ADD"), **values}, stdin)))


@HOSTILE
@given(data=st.binary(max_size=300))
def test_any_remembered_file(data: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    folder.mkdir(exist_ok=True)
    (folder / "c1.eth0.1").write_bytes(b"POST /cni HTTP/1.1\r\n" + data if len(data) % 2 else data)
    asyncio.run(verbs.finish_pending(FakeDoor(), folder))
    assert not list(folder.iterdir())


def test_addresses_of_the_model_are_what_goes_out() -> None:
    """What the agent answers with is the model's: nothing here prints an object by accident."""
    _, answer = call(FakeDoor(), "ADD", conf())
    assert Address(answer["ips"][0]["gateway"]).family == 4
    assert Mac(answer["interfaces"][2]["mac"])
