"""What the plugin answers to ADD, over a fake agent; shapes are asserted from the specification's text."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from fairlead.cni import verbs
from fairlead.model.address import Interface
from fairlead.model.endpoint import Bandwidth
from tests.contracts.cni_calls import PREVIOUS, VERSIONS, call, conf, refused, success
from tests.contracts.fake_door import FakeDoor, network


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))


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
    assert answer["routes"] == [{"dst": "10.9.0.0/16", "gw": "10.88.0.7"}, {"dst": "0.0.0.0/0", "gw": "10.88.0.1"}]


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
    named = {"sql": "5432", "dns": "53/udp"}
    labels = {"cni": {"labels": [{"key": "app", "value": "db"}], "namedPorts": named}, "other": {"deep": [1]}}
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
    assert asked.named_ports == {"sql": "5432/tcp", "dns": "53/udp"}
    assert asked.labels == {"app": "db", "fairlead.dev/pod-uid": "a-b", "fairlead.dev/cni-network": "mynet"}


def test_capabilities_as_containerd_writes_them() -> None:
    """Its structs name no JSON fields, so Go writes their own names; and a burst that no annotation can say is the largest."""
    door, most = FakeDoor(), 2**32 - 1
    runtime = {
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"IngressRate": 8000, "IngressBurst": most, "EgressRate": 9000, "EgressBurst": most * 8 - 1},
        "dns": {"Servers": ["10.96.0.10"], "Searches": ["shop.svc.cluster.local"], "Options": ["ndots:5"]},
        "ipRanges": [[{"Subnet": "10.88.0.0/24", "RangeStart": "10.88.0.8", "RangeEnd": "10.88.0.15", "Gateway": ""}]],
        "aliases": {"Mynet": ["other"], "mynet": ["db"]},
    }
    status, answer = call(door, "ADD", conf(runtimeConfig=runtime))
    assert status == 0, answer
    asked = door.asked[-1]
    assert [str(one) for one in asked.ports] == ["8080->80/tcp"]
    assert asked.bandwidth == Bandwidth(ingress_rate=8000, egress_rate=9000)
    assert [(s.cidr, s.ranges[0].start) for s in asked.ranges] == [("10.88.0.0/24", "10.88.0.8")]
    assert asked.aliases == ("db",)
    assert answer["dns"]["nameservers"] == ["10.96.0.10"]
    status, answer = call(door, "ADD", conf(runtimeConfig={"portMappings": [{"HostPort": 0, "ContainerPort": 80}]}))
    assert (status, answer["code"]) == (1, 7)
    assert "portMappings[0].hostPort" in answer["msg"]


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


# chained


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
