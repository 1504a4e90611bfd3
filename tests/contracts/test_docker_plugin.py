"""The plugin as Docker sees it, over a fake agent: requests as Debian's Docker 20.10 sends them, answers by libnetwork's text.

The requests are a recording (``docker network create``, ``docker run``, ``docker rm``, ``docker network rm``); the shapes of
the answers are those of libnetwork's documents remote.md and ipam.md.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.docker import plugin
from fairlead.docker.plugin import Plugin
from tests.contracts.docker_door import DockerDoor

NETWORK, OTHER = "af59914b8fd1" + "8" * 52, "c78d82de8639" + "7" * 52
ENDPOINT, SECOND = "b9dec76f99dc" + "4" * 52, "25b90b441f6a" + "3" * 52
MAC = "02:42:0a:4d:00:63"
EXPOSED = [{"Proto": 17, "Port": 90}, {"Proto": 6, "Port": 80}]
PORTS = [
    {"Proto": 17, "IP": "", "Port": 90, "HostIP": "127.0.0.1", "HostPort": 9000, "HostPortEnd": 9001},
    {"Proto": 6, "IP": "", "Port": 81, "HostIP": "", "HostPort": 0, "HostPortEnd": 0},
    {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080},
]
LABELS = {"com.docker.network.endpoint.exposedports": EXPOSED, "com.docker.network.portmap": PORTS}
BOTH = {"NetworkID": NETWORK, "EndpointID": ENDPOINT}

CREATE = {
    "NetworkID": NETWORK,
    "Options": {
        "com.docker.network.enable_ipv6": True,
        "com.docker.network.generic": {"com.docker.network.driver.mtu": "1400"},
    },
    "IPv4Data": [
        {
            "AddressSpace": "fairlead",
            "AuxAddresses": {"r": "10.77.0.7/24"},
            "Gateway": "10.77.0.1/24",
            "Pool": "10.77.0.0/24",
        }
    ],
    "IPv6Data": [{"AddressSpace": "fairlead", "Gateway": "fd00:77::1/64", "Pool": "fd00:77::/64"}],
}
ENDPOINT_MADE = {
    **BOTH,
    "Interface": {"Address": "10.77.0.99/24", "AddressIPv6": "fd00:77::11/64", "MacAddress": MAC},
    "Options": {**LABELS, "com.docker.network.endpoint.macaddress": "AkIKTQBj"},
}
CALLS: list[tuple[str, Any]] = [
    ("Plugin.Activate", None),
    ("NetworkDriver.GetCapabilities", None),
    ("IpamDriver.GetCapabilities", None),
    ("IpamDriver.GetDefaultAddressSpaces", None),
    (
        "IpamDriver.RequestPool",
        {"AddressSpace": "fairlead", "Pool": "10.77.0.0/24", "SubPool": "10.77.0.128/25", "Options": None, "V6": False},
    ),
    (
        "IpamDriver.RequestAddress",
        {
            "PoolID": "10.77.0.0/24,10.77.0.128/25",
            "Address": "",
            "Options": {"RequestAddressType": "com.docker.network.gateway"},
        },
    ),
    ("IpamDriver.RequestAddress", {"PoolID": "10.77.0.0/24,10.77.0.128/25", "Address": "10.77.0.7", "Options": None}),
    ("NetworkDriver.CreateNetwork", CREATE),
    (
        "IpamDriver.RequestAddress",
        {
            "PoolID": "10.77.0.0/24,10.77.0.128/25",
            "Address": "10.77.0.99",
            "Options": {"com.docker.network.endpoint.macaddress": MAC},
        },
    ),
    (
        "IpamDriver.RequestAddress",
        {"PoolID": "fd00:77::/64", "Address": "", "Options": {"com.docker.network.endpoint.macaddress": MAC}},
    ),
    ("NetworkDriver.CreateEndpoint", ENDPOINT_MADE),
    ("NetworkDriver.Join", {**BOTH, "SandboxKey": "/var/run/docker/netns/5a6a22078f33", "Options": LABELS}),
    ("NetworkDriver.ProgramExternalConnectivity", {**BOTH, "Options": LABELS}),
    ("NetworkDriver.EndpointOperInfo", BOTH),
    ("NetworkDriver.DiscoverNew", {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.1", "Self": False}}),
    ("NetworkDriver.RevokeExternalConnectivity", BOTH),
    ("NetworkDriver.Leave", BOTH),
    ("NetworkDriver.DeleteEndpoint", BOTH),
    ("IpamDriver.ReleaseAddress", {"PoolID": "10.77.0.0/24,10.77.0.128/25", "Address": "10.77.0.99"}),
    ("IpamDriver.ReleaseAddress", {"PoolID": "fd00:77::/64", "Address": "fd00:77::2"}),
    ("IpamDriver.ReleaseAddress", {"PoolID": "10.77.0.0/24,10.77.0.128/25", "Address": "10.77.0.1"}),
    ("IpamDriver.ReleasePool", {"PoolID": "10.77.0.0/24,10.77.0.128/25"}),
    ("NetworkDriver.DeleteNetwork", {"NetworkID": NETWORK}),
    ("NetworkDriver.AllocateNetwork", {"NetworkID": NETWORK, "Options": {}, "IPv4Data": [], "IPv6Data": []}),
    ("NetworkDriver.FreeNetwork", {"NetworkID": NETWORK}),
    ("NetworkDriver.GwAllocCheck", {"Options": {}}),
    ("NetworkDriver.DiscoverDelete", {"DiscoveryType": 1, "DiscoveryData": {}}),
]
"""One network with one container, from beginning to end, and the calls that come otherwise."""

CIDR = {"type": "string", "pattern": "^[0-9a-f.:]+/[0-9]+$"}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}


def _answer(**properties: object) -> dict[str, object]:
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


SHAPES = {
    "Plugin.Activate": _answer(Implements={"const": ["NetworkDriver", "IpamDriver"]}),
    "NetworkDriver.GetCapabilities": _answer(
        Scope={"const": "local"}, ConnectivityScope={"const": "local"}, GwAllocChecker={"const": False}
    ),
    "NetworkDriver.AllocateNetwork": _answer(Options=STRINGS),
    "NetworkDriver.GwAllocCheck": _answer(SkipIPv4={"const": False}, SkipIPv6={"const": False}),
    "NetworkDriver.CreateEndpoint": _answer(Interface=_answer()),
    "NetworkDriver.Join": _answer(
        InterfaceName=_answer(SrcName={"type": "string", "maxLength": 15, "minLength": 1}, DstPrefix={"const": "eth"}),
        Gateway={"const": "10.77.0.1"},
        GatewayIPv6={"const": "fd00:77::1"},
        DisableGatewayService={"const": True},
    ),
    "NetworkDriver.EndpointOperInfo": _answer(Value={"type": "object"}),
    "IpamDriver.GetCapabilities": _answer(RequiresMACAddress={"const": True}, RequiresRequestReplay={"const": False}),
    "IpamDriver.GetDefaultAddressSpaces": _answer(
        LocalDefaultAddressSpace={"type": "string"}, GlobalDefaultAddressSpace={"type": "string"}
    ),
    "IpamDriver.RequestPool": _answer(PoolID={"type": "string"}, Pool=CIDR, Data=STRINGS),
    "IpamDriver.RequestAddress": _answer(Address=CIDR, Data=STRINGS),
}
"""The replies that are not ``{}``."""


class Docker:
    """Sends calls to a plugin."""

    def __init__(self) -> None:
        self.door = DockerDoor()
        self.plugin = Plugin(self.door)

    def __call__(self, name: str, tree: object = None) -> Any:
        """The answer of a call that succeeds."""
        status, answer = self.send(name, b"" if tree is None else json.dumps(tree).encode())
        assert status == 200
        assert not {"Err", "Error"} & set(answer), answer
        return answer

    def refused(self, name: str, tree: object) -> str:
        """Why a call that can be read is not done."""
        status, answer = self.send(name, json.dumps(tree).encode())
        assert status == 200
        (text,) = answer.values()
        assert list(answer) == (["Error"] if name.startswith("IpamDriver.") else ["Err"])
        return str(text)

    def send(self, name: str, body: bytes) -> tuple[int, Any]:
        status, answer = asyncio.run(self.plugin.answer(name, body))
        return status, json.loads(answer)

    def until(self, last: str) -> None:
        """Everything up to and with the call ``last``."""
        for name, tree in CALLS:
            self(name, tree)
            if name == last:
                return
        raise AssertionError(last)


@pytest.fixture
def docker() -> Docker:
    return Docker()


def test_every_call_of_the_protocol_is_served(docker: Docker) -> None:
    assert {name for name, _ in CALLS} == set(plugin.calls(docker.door))


def test_a_container_s_life(docker: Docker) -> None:
    for name, tree in CALLS:
        jsonschema.validate(docker(name, tree), SHAPES.get(name, _answer()))
    assert not docker.door.attached
    assert not docker.door.reservations
    assert set(docker.door.networks) == {"office"}


def test_what_docker_says_is_kept(docker: Docker) -> None:
    docker.until("NetworkDriver.ProgramExternalConnectivity")
    made = docker.door.networks[f"docker-{NETWORK[:12]}"]
    assert made.metadata.annotations["docker.fairlead.dev/network-id"] == NETWORK
    assert (made.spec.mtu, made.spec.internal) == (1400, False)
    assert [(one.cidr, one.gateway, one.exclude) for one in made.spec.subnets] == [
        ("10.77.0.0/24", "10.77.0.1", ("10.77.0.7",)),
        ("fd00:77::/64", "fd00:77::1", ()),
    ]
    (attached,) = docker.door.attached.values()
    spec = attached.endpoint.spec
    assert (spec.container, spec.owner, spec.mac, spec.handover) == (ENDPOINT, "docker", MAC, True)
    assert spec.addresses == ("10.77.0.99/24", "fd00:77::11/64")
    assert spec.sandbox.path == "/var/run/docker/netns/5a6a22078f33"
    assert [str(port) for port in spec.ports] == ["8080->80/tcp", "9000->90/udp", "49152->81/tcp"]


def test_what_docker_does_not_say_it_is_told(docker: Docker) -> None:
    docker.until("NetworkDriver.CreateNetwork")
    told = docker("NetworkDriver.CreateEndpoint", {**BOTH, "Interface": {}, "Options": None})
    assert told == {"Interface": {"Address": "10.77.0.2/24", "AddressIPv6": "fd00:77::2/64", "MacAddress": "0a:58:00:00:00:01"}}
    said = {"Address": "10.77.0.9/24", "AddressIPv6": "", "MacAddress": ""}
    told = docker("NetworkDriver.CreateEndpoint", {**BOTH, "EndpointID": SECOND, "Interface": said, "Options": {}})
    assert told == {"Interface": {"MacAddress": "0a:58:00:00:00:01"}}


def test_what_policies_may_know_is_there_before_the_link_is(docker: Docker) -> None:
    docker.until("NetworkDriver.CreateNetwork")
    said = {"fairlead.namespace": "shop", "fairlead.label.app": "web", "fairlead.port.http": "80"}
    docker("NetworkDriver.CreateEndpoint", {**ENDPOINT_MADE, "Options": {**LABELS, **said}})
    (attached,) = docker.door.attached.values()
    meta = attached.endpoint.metadata
    assert (meta.namespace, meta.labels, attached.endpoint.spec.named_ports) == ("shop", {"app": "web"}, {"http": "80/tcp"})
    wrong = {**ENDPOINT_MADE, "EndpointID": SECOND, "Options": {"fairlead.colour": "red"}}
    assert "driver-opt fairlead.colour: not an option" in docker.refused("NetworkDriver.CreateEndpoint", wrong)


@pytest.mark.parametrize(("name", "tree"), CALLS)
def test_a_call_that_is_repeated_is_answered_the_same(docker: Docker, name: str, tree: object) -> None:
    """The agent may have ended after it had done it and before Docker had the answer."""
    for earlier, other in CALLS:
        if (earlier, other) == (name, tree):
            break
        docker(earlier, other)
    assert docker(name, tree) == docker(name, tree)


@pytest.mark.parametrize("name", ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "DeleteNetwork"])
def test_what_is_not_there_can_go(docker: Docker, name: str) -> None:
    tree = {"NetworkID": NETWORK} if name == "DeleteNetwork" else BOTH
    assert docker(f"NetworkDriver.{name}", tree) == {}


@pytest.mark.parametrize(
    ("name", "tree", "reason"),
    [
        ("NetworkDriver.Join", {**BOTH, "SandboxKey": "/x"}, "EndpointID: there is no endpoint b9dec76f99dc"),
        ("NetworkDriver.CreateEndpoint", ENDPOINT_MADE, "NetworkID: Docker's network af59914b8fd1 is none here"),
        ("IpamDriver.RequestPool", {"Pool": "10.77.0.1/24"}, "--subnet: '10.77.0.1/24' has host bits set"),
        ("IpamDriver.RequestPool", {"Pool": "", "SubPool": "10.0.0.0/24"}, "--ip-range: a range needs --subnet"),
        ("IpamDriver.RequestPool", {"Pool": "10.0.0.0/24", "SubPool": "10.1.0.0/25"}, "--ip-range: 10.1.0.0/25 is not in"),
        ("IpamDriver.RequestPool", {"Pool": "10.0.0.0/24", "V6": True}, "--subnet: 10.0.0.0/24 is not an IPv6 subnet"),
        ("IpamDriver.RequestPool", {"Options": {"a": "b"}}, "--ipam-opt a: not an option"),
        ("IpamDriver.RequestPool", {"Options": {"fairlead.network": "office"}}, "add --subnet 10.79.0.0/24"),
        ("IpamDriver.RequestPool", {"AddressSpace": "fairlead-global"}, "not those of a swarm"),
        ("IpamDriver.RequestAddress", {"PoolID": "x"}, "PoolID: 'x' has no prefix length"),
        ("IpamDriver.RequestAddress", {"PoolID": "10.0.0.0/24", "Address": "10.1.0.1"}, "--ip: 10.1.0.1 is not in 10.0.0.0/24"),
        ("IpamDriver.RequestAddress", {"PoolID": "10.0.0.0/24"}, "belongs to no network"),
    ],
)
def test_a_refusal_names_what_is_wrong(docker: Docker, name: str, tree: object, reason: str) -> None:
    assert reason in docker.refused(name, tree)


def test_a_network_is_shared_by_its_name(docker: Docker) -> None:
    given = docker("IpamDriver.RequestPool", {"Pool": "10.79.0.0/24", "Options": None})
    assert given["Data"] == {"com.docker.network.gateway": "10.79.0.1/24"}
    pool = {"AddressSpace": "fairlead", "Pool": "10.79.0.0/24", "Gateway": "10.79.0.1/24"}
    tree: dict[str, Any] = {"NetworkID": NETWORK, "Options": {}, "IPv4Data": [pool], "IPv6Data": []}
    assert "to share that: -o fairlead.network=office" in docker.refused("NetworkDriver.CreateNetwork", tree)
    tree["Options"] = {"com.docker.network.generic": {"fairlead.network": "office"}}
    for network in (NETWORK, OTHER):
        docker("NetworkDriver.CreateNetwork", {**tree, "NetworkID": network})
    docker("NetworkDriver.CreateEndpoint", {**BOTH, "Interface": {"Address": "10.79.0.5/24"}})
    (attached,) = docker.door.attached.values()
    assert attached.endpoint.spec.network == "office"
    docker("IpamDriver.ReleasePool", {"PoolID": "10.79.0.0/24"})
    docker("NetworkDriver.DeleteNetwork", {"NetworkID": NETWORK})
    assert set(docker.door.networks) == {"office"}, "it was there before"
    assert [one.spec.holder for one in docker.door.reservations.values()] == [OTHER]


def test_a_mac_is_one_container_s(docker: Docker) -> None:
    docker.until("NetworkDriver.Join")
    tree = {"PoolID": "10.77.0.0/24", "Options": {"com.docker.network.endpoint.macaddress": MAC}}
    assert f"has {MAC} already" in docker.refused("IpamDriver.RequestAddress", tree)


class TestWhatDockerForgot:
    """A call that the agent was killed in fails: Docker then forgets what was made, or believes to be gone what is there."""

    def test_an_endpoint_whose_address_is_given_back(self, docker: Docker) -> None:
        docker.until("NetworkDriver.CreateEndpoint")
        docker("IpamDriver.ReleaseAddress", {"PoolID": "10.77.0.0/24", "Address": "10.77.0.99"})
        assert not docker.door.attached

    def test_but_not_one_that_a_container_has(self, docker: Docker) -> None:
        docker.until("NetworkDriver.Join")
        docker("IpamDriver.ReleaseAddress", {"PoolID": "10.77.0.0/24", "Address": "10.77.0.99"})
        assert docker.door.attached
        assert "10.77.0.99/24" in {one.spec.address for one in docker.door.reservations.values()}

    def test_an_endpoint_whose_address_is_another_s(self, docker: Docker) -> None:
        docker.until("NetworkDriver.CreateNetwork")
        said = {"Interface": {"Address": "10.77.0.9/24"}}
        docker("NetworkDriver.CreateEndpoint", {**BOTH, **said})
        docker("NetworkDriver.CreateEndpoint", {**BOTH, **said, "EndpointID": SECOND})
        assert [one.endpoint.container for one in docker.door.attached.values()] == [SECOND]

    def test_what_nobody_came_for(self, docker: Docker) -> None:
        docker.door.now = time.time() - 120
        docker.until("NetworkDriver.CreateEndpoint")
        docker.door.now = time.time()
        tree = {"PoolID": "10.77.0.0/24", "Options": {"com.docker.network.endpoint.macaddress": "02:42:00:00:00:02"}}
        docker("IpamDriver.RequestAddress", tree)
        assert not docker.door.attached
        assert [one.spec.holder for one in docker.door.reservations.values()] == ["02:42:00:00:00:02"]

    def test_but_not_what_somebody_may_come_for(self, docker: Docker) -> None:
        docker.door.now = time.time()
        docker.until("NetworkDriver.CreateEndpoint")
        tree = {"PoolID": "10.77.0.0/24", "Options": {"com.docker.network.endpoint.macaddress": "02:42:00:00:00:02"}}
        docker("IpamDriver.RequestAddress", tree)
        assert len(docker.door.attached) == 1
        assert len(docker.door.reservations) == 3

    def test_a_network_whose_subnet_is_given_back(self, docker: Docker) -> None:
        docker.until("NetworkDriver.CreateNetwork")
        docker("IpamDriver.ReleasePool", {"PoolID": "10.77.0.0/24"})
        assert set(docker.door.networks) == {"office"}

    def test_a_network_whose_subnet_docker_gives_to_another(self, docker: Docker) -> None:
        pool = {"AddressSpace": "LocalDefault", "Pool": "172.18.0.0/16", "Gateway": "172.18.0.1/16"}
        for network in (NETWORK, OTHER):
            docker("NetworkDriver.CreateNetwork", {"NetworkID": network, "IPv4Data": [pool]})
        assert set(docker.door.networks) == {"office", f"docker-{OTHER[:12]}"}

    def test_but_not_one_that_is_in_use(self, docker: Docker) -> None:
        docker.until("NetworkDriver.CreateEndpoint")
        docker("IpamDriver.ReleasePool", {"PoolID": "10.77.0.0/24"})
        assert f"docker-{NETWORK[:12]}" in docker.door.networks
        assert len(docker.door.reservations) == 2
        tree = {"Pool": "10.77.0.0/24"}
        assert "fairlead network rm docker-" in docker.refused("IpamDriver.RequestPool", tree)

    def test_a_call_without_its_content(self, docker: Docker) -> None:
        status, answer = docker.send("NetworkDriver.CreateEndpoint", b"")
        assert (status, list(answer)) == (400, ["Err"])
        assert "try again" in answer["Err"]


class TestOverTheSocket:
    """What HTTP adds: no such call, too much, the socket's own rights."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "plugins" / "fairlead.sock"

    def ask(self, path: Path, method: str, url: str, body: bytes = b"") -> tuple[int, str, Any]:
        async def act() -> tuple[int, str, Any]:
            served = Plugin(DockerDoor())
            await served.start(path)
            assert path.stat().st_mode & 0o777 == 0o600
            try:
                async with (
                    aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
                    session.request(method, f"http://docker{url}", data=io.BytesIO(body)) as answer,
                ):
                    return answer.status, answer.content_type, json.loads(await answer.read())
            finally:
                await served.stop()

        return asyncio.run(act())

    def test_a_call(self, path: Path) -> None:
        status, kind, answer = self.ask(path, "POST", "/Plugin.Activate")
        assert (status, answer) == (200, {"Implements": ["NetworkDriver", "IpamDriver"]})
        assert kind == "application/vnd.docker.plugins.v1.2+json"
        assert not path.exists(), "Docker is to see that nobody is there"

    @pytest.mark.parametrize(
        ("method", "url", "body", "status"),
        [
            ("POST", "/NetworkDriver.Unheard", b"{}", 404),
            ("GET", "/Plugin.Activate", b"", 405),
            ("POST", "/NetworkDriver.Leave", b"{", 400),
            ("POST", "/NetworkDriver.Leave", b" " * (plugin.MAX_BODY + 1), 413),
        ],
    )
    def test_what_is_none(self, path: Path, method: str, url: str, body: bytes, status: int) -> None:
        found, _, answer = self.ask(path, method, url, body)
        assert found == status
        assert list(answer) == ["Err"]


# ---- hostile input ----

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40)
_trees = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
)
_nasty = st.sampled_from(
    [
        "",
        "../../etc",
        "a" * 5000,
        "\x00",
        "eth0; drop",
        "10.0.0.0/8",
        "::/0",
        "0.0.0.0/0",
        "255.255.255.255",
        "{",
        "\ud800",
        -1,
        1 << 70,
    ]
)


def _paths(tree: object, at: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*at, key))


def _replaced(tree: Any, at: tuple[Any, ...], value: object) -> Any:
    if not at:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[at[0]] = _replaced(copy[at[0]], at[1:], value)
    return copy


@st.composite
def hostile(draw: st.DrawFn) -> tuple[str, object]:
    """A call of the recording with one part of it replaced."""
    name, tree = draw(st.sampled_from([one for one in CALLS if one[1] is not None]))
    at = draw(st.sampled_from(list(_paths(tree))))
    return name, _replaced(tree, at, draw(_trees | _nasty))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(hostile(), min_size=1, max_size=3))
def test_whatever_comes_in_what_goes_out_is_docker_s(calls: list[tuple[str, object]]) -> None:
    docker = Docker()
    docker.until("NetworkDriver.Join")
    for name, tree in calls:
        status, answer = docker.send(name, json.dumps(tree).encode())
        assert status in {200, 400}, answer
        assert isinstance(answer, dict)
        assert all(len(str(text)) < 2100 for key, text in answer.items() if key in {"Err", "Error"})


@settings(deadline=None)
@given(name=st.sampled_from([name for name, _ in CALLS]), body=st.binary(max_size=200))
def test_bytes_that_are_nothing(name: str, body: bytes) -> None:
    status, answer = Docker().send(name, body)
    assert status in {200, 400}
    assert isinstance(answer, dict)
