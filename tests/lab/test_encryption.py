"""A lab whose network is encrypted between nodes, on subnets with a router between."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.lab.conftest import Labs

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump")


def test_a_router_between_sees_nothing_but_wireguard(lab: Labs) -> None:
    town = lab(nodes=2, underlay="l3", dual=True, encrypt=True)
    one, other = town.pod(1), town.pod(2)
    wanted = "udp port 51872 or net 10.244.0.0/16 or net fd00:244::/64"
    listen = ("tcpdump", "-n", "-l", "-t", "-i", "net1", "--immediate-mode", wanted)
    inside = ("nsenter", f"--net=/proc/{town.lab.machine('router').process.pid}/ns/net")
    with subprocess.Popen([*inside, *listen], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        assert watching.stderr
        while "listening on net1" not in watching.stderr.readline():
            assert watching.poll() is None
        assert one.reaches(other)
        assert other.reaches(one)
        assert town.machine("node1").reaches(other)
        watching.terminate()
        seen = watching.stdout.read().split("\n")
    assert any(seen)
    assert not [line for line in seen if line and ".51872 > " not in line]
    said = json.loads(town.fairlead("node1", "wireguard", "status", "-o", "json"))
    assert [(peer["node"], peer["endpoint"]) for peer in said["peers"]] == [("node2", "172.16.2.1:51872")]
    assert said["peers"][0]["received"] > 0
