"""Traffic that goes on while something else happens, and what it lost meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.net import PYTHON, Namespace

LOAD = Path(__file__).parent.parent / "load.py"
_ports = count(7001)


@dataclass(frozen=True)
class Lost:
    """What a flood and a stream came to. ``gap``: the longest silence in seconds."""

    sent: int
    lost: int
    ping_gap: float
    bytes_sent: int
    bytes_taken: int
    retransmitted: int
    stream_gap: float

    @property
    def nothing(self) -> bool:
        return self.lost == 0 and self.bytes_sent == self.bytes_taken > 0 and self.sent > 0

    def __str__(self) -> str:
        return (
            f"ping: {self.sent} sent, {self.lost} lost, longest gap {self.ping_gap * 1000:.0f} ms; "
            f"TCP: {self.bytes_sent} bytes sent, {self.bytes_taken} taken, {self.retransmitted} segments sent again, "
            f"longest gap {self.stream_gap * 1000:.0f} ms"
        )


class Traffic:
    """A ping flood from one namespace to an address, and one TCP connection to a sink in ``taker``."""

    def __init__(
        self, source: Namespace, taker: Namespace, address: str, *, ping: str = "", port: int = 0, at: int = 0
    ) -> None:
        """``port``: on which ``source`` reaches the sink, if it is not the one (``at``) that the sink listens on."""
        at = at or next(_ports)
        self._sink = taker.start(*PYTHON, LOAD, "sink", at)
        assert _line(self._sink) == "ready"
        self._send = source.start(*PYTHON, LOAD, "send", address, port or at, 0.005)
        self._ping = source.start(*PYTHON, LOAD, "ping", ping or address, 0.005)

    def stop(self) -> Lost:
        """End both and say what was lost."""
        for process in (self._ping, self._send):
            process.send_signal(signal.SIGTERM)
        ping, sent, taken = (json.loads(_line(process)) for process in (self._ping, self._send, self._sink))
        for process in (self._ping, self._send, self._sink):
            process.wait(10)
        return Lost(
            sent=ping["sent"],
            lost=ping["lost"],
            ping_gap=ping["gap"],
            bytes_sent=sent["bytes"],
            bytes_taken=taken["bytes"],
            retransmitted=sent["retransmitted"],
            stream_gap=taken["gap"],
        )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    said = process.stdout.readline().strip()
    assert said[:1] in {"{", "r"}, said + process.stdout.read()
    return said
