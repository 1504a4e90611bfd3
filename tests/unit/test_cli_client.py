"""The client against a socket that answers as the agent does, and against sockets that do not."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.api.client import Client
from fairlead.api.schema import Attach, Detach
from fairlead.model import errors
from fairlead.model.address import ContainerID, InterfaceName, Name
from fairlead.model.endpoint import Endpoint
from fairlead.model.network import Network
from tests.fake_agent import FakeAgent, network


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path / "agent.sock") as agent:
        yield agent


@pytest.fixture
def client(agent: FakeAgent) -> Client:
    return Client(agent.path, timeout=10)


REQUEST = Attach(container=ContainerID("c1"), path="/run/netns/x", network=Name("default"), interface=InterfaceName("eth0"))


def test_every_route(client: Client, agent: FakeAgent) -> None:
    assert client.status().node == "harbour"
    assert client.doctor().findings == agent.findings
    assert client.apply(network("front", "10.20.0.0/24")).result == "created"
    assert client.apply(network("front", "10.20.0.0/24")).result == "unchanged"
    assert [one.name for one in client.objects("networks")] == ["default", "front"]
    assert client.network("front").spec.subnets[0].cidr == "10.20.0.0/24"
    attached = client.attach(REQUEST)
    assert attached.endpoint.spec.addresses == ("10.88.0.2/16",)
    found = client.object("endpoints", "c1:eth0")
    assert isinstance(found, Endpoint)
    assert found.container == "c1"
    assert [one.name for one in client.detach(Detach(container=ContainerID("c1"))).endpoints] == ["c1:eth0"]
    deleted = client.delete("networks", "front")
    assert isinstance(deleted, Network)
    assert deleted.name == "front"
    client.attach(REQUEST)
    client.purge()
    assert client.objects("endpoints") == []
    assert client.pid() == os.getpid()


@pytest.mark.parametrize("kind", [errors.Invalid, errors.Conflict, errors.Exhausted, errors.Unsupported, errors.Unavailable])
def test_a_refusal_is_raised_as_what_it_was(client: Client, agent: FakeAgent, kind: type[errors.Problem]) -> None:
    agent.refuse["attach default"] = kind("why not", field="addresses[0]")
    with pytest.raises(kind) as caught:
        client.attach(REQUEST)
    assert (caught.value.message, caught.value.field) == ("why not", "addresses[0]")


def test_names_are_quoted(client: Client) -> None:
    for name in ("a/b", "../status", "a?b", "a b\r\nX: y"):
        with pytest.raises(errors.Missing, match="there is no network"):
            client.object("networks", name)
    with pytest.raises(errors.Missing, match="not a kind"):
        client.objects("../status")


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match=r"the agent is not running .*; start it with `fairlead up`"):
        Client(tmp_path / "none.sock").status()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale.sock"))
    stale.close()
    with pytest.raises(errors.Unavailable, match="not running"):
        Client(tmp_path / "stale.sock").pid()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="cannot be reached"):
        Client(tmp_path / ("x" * 200)).status()


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[Client]:
    """A listener that answers one request with these bytes; None: it never answers."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    over = threading.Event()

    def serve() -> None:
        taken, _ = listener.accept()
        with taken:
            taken.recv(1 << 16)
            if answer is None:
                over.wait(10)
            else:
                taken.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Client(path, timeout=0.2 if answer is None else 10)
    finally:
        over.set()
        thread.join(10)
        listener.close()


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (b"", errors.Unavailable, "broke off"),
        (b"SSH-2.0-x\r\n\r\n", errors.Unavailable, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", errors.Unavailable, "broke off"),
        (None, errors.Unavailable, "has not answered GET /v1/status within 0.2 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", errors.Failed, "is not understood"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{", errors.Failed, "is not understood"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", errors.Failed, "the agent answered 500: oops"),
        (b"HTTP/1.1 409 Taken\r\nContent-Length: 0\r\n\r\n", errors.Conflict, "no reason given"),
        (b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", errors.Failed, "418"),
    ],
)
def test_answers_that_are_none(tmp_path: Path, answer: bytes | None, kind: type[errors.Problem], says: str) -> None:
    with answering(tmp_path / "odd.sock", answer) as client, pytest.raises(kind) as caught:
        client.status()
    assert says in str(caught.value)
