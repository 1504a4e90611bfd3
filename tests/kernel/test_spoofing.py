"""Anti-spoofing: no container speaks for another. Every attack is sent as a real frame, blocked, and shown to work without."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.kernel.agents import Agent, address
from tests.kernel.attacks import ATTACKS, BROADCAST, DATA, Attack, Cast, Party
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually
from tests.wire import Wire

scapy = pytest.importorskip("scapy.layers.l2")
