"""Anti-spoofing: no container speaks for another. Every attack is sent as a real frame, blocked, and shown to work without."""

from __future__ import annotations

import pytest

scapy = pytest.importorskip("scapy.layers.l2")
