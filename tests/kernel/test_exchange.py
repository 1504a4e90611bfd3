"""One plane takes over from the other under running containers: what is denied never passes, what is allowed goes on."""

from __future__ import annotations

import signal
import subprocess

import pytest

from fairlead.model import codec
from tests.kernel.agents import Agent, address
from tests.kernel.test_policy import policy
from tests.kernel.traffic import Traffic
from tests.net import PYTHON, Containers, Namespace

pytestmark = pytest.mark.kernel("ebpf")

SENDER = """
import socket, sys, time
socks = [(socket.socket(family, socket.SOCK_DGRAM), to) for family, to in
         ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2]))]
print("ready", flush=True)
while True:
    for sock, to in socks:
        sock.sendto(b"x", (to, 9))
        sock.sendto(b"x", (to, 10))
    time.sleep(0.0005)
"""
"""Says something twice in each family, about a thousand times a second: to a port that is denied, and to one that is not."""

TAKER = """
import selectors, signal, socket, sys
heard = {9: 0, 10: 0}
def tell(*_):
    print(heard[9], heard[10], flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, tell)
chooser = selectors.DefaultSelector()
for family in (socket.AF_INET, socket.AF_INET6):
    for port in heard:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
        sock.setblocking(False)
        chooser.register(sock, selectors.EVENT_READ, port)
print("ready", flush=True)
while True:
    for key, _ in chooser.select():
        key.fileobj.recv(9)
        heard[key.data] += 1
"""


class Knocks:
    """What one container sends another all the time, and how much of it arrives."""

    def __init__(self, source: Namespace, taker: Namespace, *addresses: str) -> None:
        self._taker, self._source = taker.start(*PYTHON, "-c", TAKER), None
        assert _line(self._taker) == "ready"
        self._source = source.start(*PYTHON, "-c", SENDER, *addresses)
        assert _line(self._source) == "ready"

    def stop(self) -> tuple[int, int]:
        """How many arrived that are denied, and how many that are not."""
        assert self._source
        self._source.kill()
        self._taker.send_signal(signal.SIGTERM)
        denied, allowed = map(int, _line(self._taker).split())
        return denied, allowed


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_no_moment_is_without_policy(agent: Agent, containers: Containers, record_figures: list[str]) -> None:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    web, db, rogue = (containers.new(name) for name in ("web", "db", "rogue"))
    agent.attach(web, "blue", namespace="shop", labels={"app": "web"})
    attached = agent.attach(db, "blue", namespace="shop", labels={"app": "db"})
    agent.attach(rogue, "blue", namespace="shop")
    from_web = "{from: [{podSelector: {matchLabels: {app: web}}}]}"
    spec = f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{from_web}, {{ports: [{{protocol: UDP, port: 10}}]}}]}}"
    agent.client.apply(codec.from_yaml(policy("db", spec))[0])
    to = [address(attached, family) for family in (4, 6)]
    knocks = Knocks(rogue, db, *to)
    traffic = [Traffic(web, db, one, ping=to[0]) for one in to]
    for plane in ("nftables", "ebpf") * 3:
        agent.stop()
        agent.options = ("--plane", plane)
        agent.start()
        assert agent.client.status().plane == plane
        assert not agent.drift()
    denied, allowed = knocks.stop()
    lost = [one.stop() for one in traffic]
    record_figures += [f"planes exchanged six times: {said}" for said in lost]
    assert denied == 0
    assert allowed > 100
    assert all(one.nothing for one in lost), [str(one) for one in lost]
