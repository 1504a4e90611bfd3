"""The agent's API against whatever comes in: every answer is one for people, nothing hangs, nothing grows, nothing is left."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from fairlead.api import wire
from fairlead.model import errors
from tests.fuzz import TREES, encoded, explore, wrong_value
from tests.kernel.agents import Agent
from tests.net import Containers, Node
from tests.wait import eventually

MIB = 1 << 20
ROOM = 16 * MIB
"""How much more memory the agent may hold after it was ill-treated once: what its allocator keeps for the next time."""
AGAIN = 3 * MIB
"""... and after the next one."""
REFUSED = {400, 403, 404, 409, 501, 503, 507}


class Door:
    """The socket, as bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self, timeout: float = 5.0) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.connect(str(self.path))  # waits while the queue is full, which a socket with a timeout does not
        except OSError:
            made.close()
            raise
        made.settimeout(timeout)
        return made

    def raw(self, data: bytes) -> bytes:
        """Send it, say that this was all, and take everything that comes back."""
        with self.connect() as talking:
            try:
                talking.sendall(data)
                talking.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # answered and closed before it had read everything
            got = b""
            try:
                while more := talking.recv(65536):
                    got += more
            except ConnectionResetError:
                pass
            return got

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("fairlead")
        connection.sock = self.connect(20)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def door(node: Node) -> Door:
    return Door(node.run_dir / "agent.sock")


@contextmanager
def unharmed(agent: Agent, door: Door, figures: list[str], room: int = ROOM) -> Iterator[None]:
    """A normal request is answered throughout, in time; afterwards the agent holds no more memory or files than before."""
    door.ask("GET", "/v1/status")
    before, files = agent.client.status().memory, _files(agent)
    over, took = threading.Event(), list[float]()

    def watch() -> None:
        while not over.wait(0.02):
            began = time.monotonic()
            took.append(float("inf"))
            assert agent.client.status().ready
            took[-1] = time.monotonic() - began

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
    assert max(took, default=0) < 3, f"a status took {max(took):.1f} s"
    eventually(lambda: _files(agent) <= files + 2, deadline=15, what="descriptors are closed again")
    grown = agent.client.status().memory - before
    figures.append(f"{_name()}: slowest normal request {max(took, default=0) * 1000:.0f} ms, {grown / MIB:+.1f} MiB afterwards")
    assert grown < room, figures[-1]
    assert "Traceback" not in agent.log
    assert not agent.drift()


def _name() -> str:
    return os.environ["PYTEST_CURRENT_TEST"].split("::")[1].partition(" ")[0].removeprefix("test_").replace("_", " ")


def _files(agent: Agent) -> int:
    return len(list(Path(f"/proc/{agent.pid}/fd").iterdir()))


def polite(status: int, body: bytes) -> None:
    """An answer for people: a refusal with its class and message, never a defect."""
    if status == 200:
        return
    assert status in REFUSED, (status, body)
    said = json.loads(body)
    assert set(said) <= {"error", "message", "field", "cniVersion", "code", "msg", "details"}, said
    assert hasattr(errors, said["error"])
    assert said["message"]
    assert len(body) < 4000


# ---- bytes ----

TARGETS = (
    "/v1/status",
    "/v1/doctor",
    "/v1/objects/networks",
    "/v1/objects/networks/default",
    "/v1/attach",
    "/v1/detach",
    "/v1/change",
    "/v1/policy/preview",
    "/v1/policy/hits",
    "/v1/policy/identities",
    "/v1/policy/explain?from=%00&to=x:y",
    "/cni",
    "/",
)
HEADERS = (
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Expect",
    "Upgrade",
    "Content-Encoding",
    "Host",
    "X-CNI-Command",
)
VALUES = (
    "0",
    "5",
    "-1",
    "+3",
    "99999999999999999999",
    "1e3",
    "chunked",
    "gzip",
    "close",
    "upgrade",
    "100-continue",
    "websocket",
    "ADD",
)
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "PRI")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, more or less."""
    odd = st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass"))
    method = draw(st.sampled_from(METHODS).map(str.encode) | odd)
    target = draw(st.sampled_from(TARGETS).map(str.encode) | odd)
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]))
    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from(HEADERS) | st.text(max_size=8), st.sampled_from(VALUES) | st.text(max_size=12)),
            max_size=5,
        )
    )
    lines = b"".join(f"{name}: {value}\r\n".encode("utf-8", "surrogatepass") for name, value in pairs)
    body = draw(st.binary(max_size=60) | st.sampled_from([b"", b"{}", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffff\r\n"]))
    whole = b" ".join((method, target, version)) + b"\r\n" + lines + b"\r\n" + body
    return whole[: draw(st.integers(min_value=0, max_value=len(whole)))] if draw(st.booleans()) else whole


def test_any_bytes(agent: Agent, door: Door, record_figures: list[str]) -> None:
    def check(data: bytes) -> None:
        answer = door.raw(data)
        assert b"Traceback" not in answer
        assert b'File "' not in answer
        if answer:
            assert answer.startswith(b"HTTP/"), answer
            assert answer.split()[1][:1] in {b"1", b"2", b"4"}, answer

    with unharmed(agent, door, record_figures):
        explore(check, 400, data=requests() | st.binary(max_size=200))


# ---- JSON ----

_addresses = st.sampled_from(["10.50.0.9", "10.50.0.1", "10.50.0.9/24", "fd50::9", "10.99.0.1", "0.0.0.0", "255.255.255.255"])  # noqa: S104  # nobody binds to it
_numbers = st.integers(min_value=-2, max_value=70000)
_port = wrong_value(
    {
        "hostPort": _numbers,
        "containerPort": _numbers,
        "protocol": st.sampled_from(["tcp", "udp", "sctp"]),
        "count": st.sampled_from([1, 2, 40000, 65535]),
        "hostIp": st.sampled_from(["127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "224.0.0.1"]),  # noqa: S104  # as above
    }
)
_rate = st.sampled_from([0, 8, 10**6, 10**12, 2**63, 2**64, 2**65])
_bandwidth = wrong_value(dict.fromkeys(("ingressRate", "ingressBurst", "egressRate", "egressBurst"), _rate))
_route = wrong_value({"dst": st.sampled_from(["0.0.0.0/0", "10.1.0.0/16", "::/0", "10.1.0.1"]), "gw": _addresses})
_subnet = wrong_value(
    {
        "cidr": st.sampled_from(["10.60.0.0/24", "10.60.0.0/30", "fd60::/64", "10.60.0.0/7", "::/0", "127.0.0.0/8"]),
        "gateway": _addresses,
        "ranges": st.lists(st.fixed_dictionaries({"start": _addresses, "end": _addresses}), max_size=2),
        "exclude": st.lists(_addresses, max_size=2),
    }
)
_labels = st.dictionaries(st.sampled_from(["app", "a/b", "é", "x" * 80]) | st.text(max_size=5), st.text(max_size=5), max_size=3)


def attaches(container: str, path: str) -> st.SearchStrategy[dict[str, Any]]:
    return wrong_value(
        {
            "container": st.just(container),
            "path": st.sampled_from(
                [path, path, "/dev/null", "/proc/self/ns/net", "/etc/passwd", "", "relative", "/a\0b", "/dev/tty"]
            ),
            "network": st.sampled_from(["blue", "default", "host", "none", "nowhere"]),
            "interface": st.sampled_from(["eth0", "lo", "all", "default", "a.b", "..", "eth0;reboot"]),
            "display": st.text(max_size=10),
            "namespace": st.sampled_from(["default", "../x", ""]),
            "labels": _labels,
            "owner": st.sampled_from(["cli", "cni", ""]),
            "addresses": st.lists(_addresses, max_size=3),
            "mac": st.sampled_from(["02:00:00:00:00:01", "01:00:00:00:00:01"]),
            "ports": st.lists(_port, max_size=3),
            "bandwidth": _bandwidth,
            "routes": st.lists(_route, max_size=3),
            "aliases": st.lists(st.text(max_size=8), max_size=3),
            "dns": wrong_value({"nameservers": st.lists(_addresses, max_size=2), "domain": st.text(max_size=6)}),
            "ranges": st.lists(_subnet, max_size=2),
            "gateway": st.booleans(),
            "chained": wrong_value(
                {"host": st.sampled_from(["eth0", "lo", "none0"]), "addresses": st.lists(_addresses, max_size=2)}
            ),
        }
    )


NETWORKS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("fairlead.dev/v1") | TREES,
        "kind": st.sampled_from(["Network", "Network", "Endpoint", "Pod"]) | TREES,
        "metadata": wrong_value({"name": st.sampled_from(["red", "default", "a" * 63, "../x"]), "labels": _labels}),
        "spec": wrong_value(
            {
                "driver": st.sampled_from(["bridge", "host", "none", "vxlan"]),
                "subnets": st.lists(_subnet, max_size=3),
                "mtu": _numbers,
                "bridge": st.sampled_from(["br0", "eth0", "all", "default", "..", "a b", "br.1"]),
                "internal": st.booleans(),
                "dns": st.lists(_addresses, max_size=2),
                "options": st.dictionaries(st.sampled_from(["ipv6", "x"]), st.text(max_size=5), max_size=2),
            }
        ),
    }
)


def test_any_attach(agent: Agent, door: Door, containers: Containers, record_figures: list[str]) -> None:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one = containers.new("one")

    def check(tree: dict[str, Any]) -> None:
        whole = {"container": one.name, "path": str(one.path), "network": "blue", "interface": "eth0", **tree}
        status, body = door.ask("POST", "/v1/attach", encoded(whole))
        polite(status, body)
        if status == 200:
            polite(*door.ask("POST", "/v1/detach", encoded({"container": json.loads(body)["endpoint"]["spec"]["container"]})))

    with unharmed(agent, door, record_figures):
        explore(check, 150, tree=attaches(one.name, str(one.path)))
    assert not agent.client.objects("endpoints")
    assert {pool.used for pool in agent.client.status().pools} == {0}


def test_any_network(agent: Agent, door: Door, record_figures: list[str]) -> None:
    def check(tree: dict[str, Any]) -> None:
        status, body = door.ask("PUT", "/v1/objects", encoded(tree))
        polite(status, body)
        if status == 200 and (name := json.loads(body)["name"]) != "default":
            polite(*door.ask("DELETE", f"/v1/objects/networks/{name}"))

    with unharmed(agent, door, record_figures):
        explore(check, 120, tree=NETWORKS)
    assert {one.name for one in agent.client.objects("networks")} == {"default", "host", "none"}


def test_any_json_anywhere(agent: Agent, door: Door, record_figures: list[str]) -> None:
    def check(tree: Any, at: tuple[str, str], name: str) -> None:
        method, path = at
        polite(*door.ask(method, path.replace("NAME", name), encoded(tree)))

    routes = [("POST", "/v1/attach"), ("POST", "/v1/detach"), ("PUT", "/v1/objects"), ("DELETE", "/v1/objects/networks/NAME")]
    routes += [
        ("GET", "/v1/objects/NAME"),
        ("GET", "/v1/objects/endpoints/NAME"),
        ("DELETE", "/v1/objects/NAME/x"),
        ("POST", "/v1/change"),
        ("POST", "/v1/policy/preview"),
        ("GET", "/v1/policy/explain?from=NAME&to=x"),
        ("GET", "/v1/policy/explain?from=10.0.0.1&to=10.0.0.2&port=NAME"),
        ("PATCH", "/NAME"),
    ]
    names = st.sampled_from(["x", "..%2f..", "%00", "%0d%0a", "a;b", "%F0%9F", "x" * 3000, "%25", "networks"])
    with unharmed(agent, door, record_figures):
        explore(check, 200, tree=TREES, at=st.sampled_from(routes), name=names)


# ---- greed ----


def test_what_is_too_large_is_refused(agent: Agent, door: Door, record_figures: list[str]) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    with unharmed(agent, door, record_figures):
        for body in (
            bytes(wire.MAX_BODY + 1),
            b'{"container":' * 30_000,
            deep,
            b'{"a":' * 100_000,
            b'"' + b"x" * (wire.MAX_BODY - 2) + b'"',
        ):
            routes = ("/v1/attach", "/v1/detach", "/v1/change", "/v1/policy/preview")
            for method, path in (("PUT", "/v1/objects"), *(("POST", route) for route in routes)):
                polite(*door.ask(method, path, body))
            assert door.ask("POST", "/cni", body, **{"X-CNI-Command": "ADD"})[0] in {400, 422}
        for head in (
            b"GET /v1/status HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /v1/status HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % at for at in range(5000)) + b"\r\n",
        ):
            assert door.raw(head)[9:12] in {b"400", b""}


def test_a_compressed_body_is_not_opened(door: Door, agent: Agent, record_figures: list[str]) -> None:
    bomb = gzip.compress(bytes(200 * MIB), 9)
    with unharmed(agent, door, record_figures):
        for _ in range(3):
            polite(*door.ask("POST", "/v1/attach", bomb, **{"Content-Encoding": "gzip"}))


def test_hundred_thousand_routes_ports_and_names_are_refused(
    agent: Agent, door: Door, containers: Containers, record_figures: list[str]
) -> None:
    one = containers.new("one")
    whole = {"container": one.name, "path": str(one.path), "network": "default", "interface": "eth0"}
    many: dict[str, list[Any]] = {
        "routes": [{"dst": f"10.{at >> 8}.{at & 255}.0/24"} for at in range(20_000)],
        "ports": [{"hostPort": 1, "containerPort": 2, "count": 65534, "hostIp": f"127.{at}.0.1"} for at in range(200)],
        "aliases": [f"a{at}" for at in range(60_000)],
        "ranges": [{"cidr": f"10.{at >> 8}.{at & 255}.0/24"} for at in range(20_000)],
        "addresses": ["10.208.0.9"] * 40_000,
    }
    subnets = [{"cidr": f"10.{at >> 8}.{at & 255}.0/24"} for at in range(20_000)]
    network = {"apiVersion": "fairlead.dev/v1", "kind": "Network", "metadata": {"name": "red"}, "spec": {"subnets": subnets}}
    for room in (ROOM, ROOM, AGAIN):
        with unharmed(agent, door, record_figures, room):
            for field, value in many.items():
                status, body = door.ask("POST", "/v1/attach", encoded({**whole, field: value}))
                assert (status, json.loads(body).get("field")) == (400, field), body[:300]
            status, body = door.ask("PUT", "/v1/objects", encoded(network))
            assert (status, "subnets" in json.loads(body)["field"]) == (400, True), body[:300]


@pytest.mark.deadline(60)
def test_a_thousand_connections_that_say_nothing_keep_nobody_out(agent: Agent, door: Door, record_figures: list[str]) -> None:
    greetings = [
        b"",
        b"GET /v1/sta",
        b"POST /v1/attach HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{",
        b"POST /v1/attach HTTP/1.1\r\nX: ",
    ]
    endless = b"POST /v1/attach HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with unharmed(agent, door, record_figures), ExitStack() as open_:
        for at in range(1000):
            talking = open_.enter_context(door.connect(30))
            talking.sendall(greetings[at % len(greetings)])
        for _ in range(20):
            talking = open_.enter_context(door.connect(30))
            talking.sendall(endless + b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        assert _files(agent) < 500
        last = open_.enter_context(door.connect(30))
        began = time.monotonic()
        assert last.recv(1) == b"", "who says nothing is sent away"
        assert time.monotonic() - began < 15
        open_.enter_context(door.connect(30))


def test_a_reader_that_takes_nothing_is_sent_away(agent: Agent, door: Door, record_figures: list[str]) -> None:
    """Its answers would pile up."""
    for at in range(40):
        agent.network(f"n{at}", options={"note": "x" * 3000})
    files = _files(agent)
    with unharmed(agent, door, record_figures), ExitStack() as open_:
        for _ in range(30):
            talking = open_.enter_context(door.connect(30))
            talking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            talking.sendall(b"GET /v1/objects/networks HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        eventually(lambda: _files(agent) > files + 20, what="they are let in")
        eventually(lambda: _files(agent) <= files + 2, deadline=20, what="they are sent away")
