"""A machine of its own for every test: a node, hosts outside it, containers on it. All of it is gone afterwards.

::

    outside  eth0 ------------ eth0  node   (its default route is outside; outside knows no way to containers)
    203.0.113.2                203.0.113.1
    2001:db8:113::2            2001:db8:113::1        containers.new(): empty namespaces, loopback up, for Fairlead to attach

A test reads like this::

    def test_ping(node, containers):
        one = containers.new()
        ...
        assert one.pings(node.v4)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.agents import Agent
from tests.kernel.room import nft_nl, nl, room  # noqa: F401  # fixtures of the tests of fairlead.kernel
from tests.kernel.speakers import cluster, lan  # noqa: F401  # fixtures of the tests of BGP
from tests.net import Containers, Node, Outside, kept


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Undoes what was pushed on it, last first, going on after a failure. Everything below hangs on it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def outside(cleanup: ExitStack) -> Outside:
    """A host that the node reaches over its uplink."""
    return kept(cleanup, Outside("outside"))


@pytest.fixture
def node(cleanup: ExitStack, outside: Outside, tmp_path: Path) -> Node:
    """The machine: a namespace with an uplink to ``outside``, and directories for an agent."""
    made = kept(cleanup, Node(tmp_path))
    made.plug(outside)
    return made


@pytest.fixture
def containers(cleanup: ExitStack) -> Containers:
    """A factory of containers."""
    return Containers(cleanup)


@pytest.fixture
def agent(cleanup: ExitStack, node: Node) -> Agent:
    """A real agent on the node, ready."""
    made = Agent(node)
    cleanup.callback(made.remove)
    made.start()
    return made
