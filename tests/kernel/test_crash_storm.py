"""A firewall that is reloaded again and again, as firewalld does it: our tables come back each time, the agent keeps calm."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.kernel.agents import Agent
from tests.kernel.traffic import Traffic
from tests.net import Containers, Node, Outside
from tests.wait import eventually

RELOADS = 20
SECONDS = 5.0
THEIRS = """
flush ruleset
table inet theirs {
    chain input { type filter hook input priority 0; policy accept; tcp dport 9999 drop; }
    chain forward { type filter hook forward priority 10; policy accept; ct state established accept; }
}
"""
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """Seconds that a process has computed so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


@pytest.mark.alone
def test_twenty_reloads_in_five_seconds(
    agent: Agent, node: Node, outside: Outside, containers: Containers, record_figures: list[str]
) -> None:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue", ports=[{"hostPort": 8080, "containerPort": 80}])
    agent.attach(two, "blue")
    one.serve("tcp", 80)
    beside = Traffic(two, one, "10.50.0.2")
    before, began = cpu(agent.pid), time.monotonic()
    for at in range(1, RELOADS + 1):
        node.run("nft", "-f", "-", stdin=THEIRS)
        time.sleep(max(0.0, began + at * SECONDS / RELOADS - time.monotonic()))  # a storm, not a guess
    spent, over = cpu(agent.pid) - before, time.monotonic()
    eventually(lambda: outside.connects(node.v4, 8080, deadline=0.2), deadline=3)
    back = time.monotonic() - over
    eventually(lambda: not agent.drift())
    repairs = agent.client.status().repairs
    lost = beside.stop()
    record_figures.append(
        f"firewall reloaded {RELOADS} times in {SECONDS:g} s: {repairs} repairs, {spent:.2f} s of CPU, "
        f"back {back:.2f} s after the last; between two containers {lost.sent} pings, {lost.lost} lost"
    )
    node.run("nft", "flush", "ruleset")
    flushed = time.monotonic()
    eventually(lambda: outside.connects(node.v4, 8080, deadline=0.2) and not agent.drift(), deadline=3)
    assert time.monotonic() - flushed < 1.5, "what was repaired often is repaired as soon as ever"
    node.run("nft", "-f", "-", stdin=THEIRS)
    eventually(lambda: not agent.drift())
    assert back < 1.5, f"{back:.2f} s, of which the probes take some"
    assert spent < SECONDS / 2
    # A packet that is being judged in the instant in which somebody deletes the table finds its sets empty.
    assert lost.lost <= 3, lost
    assert lost.bytes_sent == lost.bytes_taken > 0, lost
    assert "dport 9999 drop" in node.run("nft", "list", "table", "inet", "theirs"), "the other's rules are as they were"
    quiet = cpu(agent.pid)
    time.sleep(1)  # so long nothing happens, and so the agent does nothing
    assert cpu(agent.pid) - quiet < 0.2
