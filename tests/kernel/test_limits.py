"""Bandwidth limits: measured with real bytes, both ways, and put back when somebody takes them off."""

from __future__ import annotations

import time

import pytest

from tests.kernel.agents import Agent, address
from tests.net import Containers, Namespace, Node
from tests.wait import eventually

RATE = 20_000_000
BYTES = 2_500_000
SINK = """
import socket
s = socket.create_server(("", {port}))
print("ready", flush=True)
c, _ = s.accept()
while c.recv(65536):
    pass
"""
SEND = "import socket;s=socket.create_connection(('{host}',{port}));s.sendall(bytes({count}));s.shutdown(1);s.recv(1)"


def _rate(source: Namespace, sink: Namespace, host: str, port: int) -> float:
    """Bit/s of a transfer of 2.5 MB."""
    listening = sink.start("python3", "-c", SINK.format(port=port))
    assert listening.stdout
    assert listening.stdout.readline() == "ready\n"
    began = time.monotonic()
    source.run("python3", "-c", SEND.format(host=host, port=port, count=BYTES), deadline=60)
    return BYTES * 8 / (time.monotonic() - began)


@pytest.mark.alone
def test_what_a_container_receives_and_sends_is_limited(agent: Agent, containers: Containers) -> None:
    free, slow = containers.new("free"), containers.new("slow")
    here = address(agent.attach(free))
    limit = {"ingressRate": RATE, "ingressBurst": 800_000, "egressRate": RATE * 2, "egressBurst": 800_000}
    there = address(agent.attach(slow, bandwidth=limit))

    received, sent = _rate(free, slow, there, 7001), _rate(slow, free, here, 7002)
    assert RATE * 0.5 < received < RATE * 1.25
    assert RATE * 1.0 < sent < RATE * 2.5
    assert not agent.drift()


def test_a_limit_that_somebody_removed_comes_back(agent: Agent, node: Node, containers: Containers) -> None:
    slow = containers.new("slow")
    made = agent.attach(slow, bandwidth={"ingressRate": RATE, "egressRate": RATE})
    agent.kill()
    node.run("tc", "qdisc", "delete", "dev", made.host_interface, "root")
    agent.start()
    assert "tbf" in node.run("tc", "qdisc", "show", "dev", made.host_interface)
    agent.detach(slow)
    eventually(lambda: "fli" not in node.run("ip", "-br", "link"), what="the ifb is gone")


def test_a_container_can_send_after_its_ifb_was_deleted(agent: Agent, node: Node, containers: Containers) -> None:
    free, slow = containers.new("free"), containers.new("slow")
    here = address(agent.attach(free))
    agent.attach(slow, bandwidth={"egressRate": RATE})
    (ifb,) = (one["ifname"] for one in node.json("ip", "-j", "link") if one["ifname"].startswith("fli"))
    node.run("ip", "link", "delete", ifb)
    eventually(lambda: slow.pings(here), what="what it sends arrives")
    assert not agent.drift()
