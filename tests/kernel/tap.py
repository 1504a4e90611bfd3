"""A tap on the switch between nodes: everything that they send to each other and that is not encrypted."""

from __future__ import annotations

import itertools
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.net import Namespace
from tests.wait import eventually

_CLEAR = (
    "(ip or ip6) and not udp portrange 51871-51872 and not tcp port 179"  # 179: BGP, which nodes speak themselves
    # What neighbours must say: their addresses, and who listens to which group.
    " and not (ip6 and ip6[6] == 58 and ip6[40] >= 133 and ip6[40] <= 136) and not (ip6 and ip6[6] == 0)"
)
_MARKER = "198.51.100.7"
_HARMLESS = re.compile(
    f"{re.escape(_MARKER)}|udp port 5187[12] unreachable"
    r"|192\.0\.2\.\d+ > 192\.0\.2\.\d+: ICMP echo \w+, .* length (8|[5-9]\d\d|1\d\d\d)$"
    r"|2001:db8:2::\w+ > 2001:db8:2::\w+: ICMP6, echo \w+, .* length (8|[5-9]\d\d|1\d\d\d)$"
)
"""That nobody decrypts at the moment is no secret: such an answer holds nothing but what was encrypted. An agent asks another
node whether it is there, or how large a packet gets there, with echo requests that hold nothing; those of tests have 64."""
_numbers = itertools.count(20_000)


class Tap:
    """Listens from construction on; ``leaks`` has heard everything that was sent before it was called, since ``forget``."""

    def __init__(self, switch: Namespace) -> None:
        self._switch = switch
        self._process = switch.start("tcpdump", "-l", "-n", "-t", "-i", "any", "--immediate-mode", _CLEAR)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        eventually(lambda: any("listening on" in line for line in self._lines), what="tcpdump listens")

    def leaks(self) -> list[str]:
        """Every packet in the clear, as tcpdump tells it."""
        self._catch_up()
        return [line for line in self._lines if " IP" in f" {line}" and not _HARMLESS.search(line)]

    def forget(self) -> None:
        """What was heard so far does not count."""
        self._catch_up()
        self._lines.clear()

    def _catch_up(self) -> None:
        port = next(_numbers)
        marker = f"{_MARKER}.{port}"
        self._switch.run("ip", "route", "replace", f"{_MARKER}/32", "dev", "lo")
        self._switch.run("bash", "-c", f"echo -n marker >/dev/udp/{_MARKER}/{port}")
        eventually(lambda: any(marker in line for line in self._lines), what="the tap has heard everything")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(5)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.append(line.rstrip())


@contextmanager
def lengths(switch: Namespace) -> Iterator[Callable[[], list[int]]]:
    """How long the large packets between nodes are while the block lasts, asked for at its end."""
    listening = switch.start(
        "tcpdump", "-l", "-n", "-t", "-v", "-i", "port1", "--immediate-mode", "(ip or ip6) and greater 1000"
    )
    assert listening.stdout
    while "listening on" not in listening.stdout.readline():
        pass

    def longest() -> list[int]:
        listening.terminate()
        said, _ = listening.communicate(timeout=10)
        v4 = [int(one) for one in re.findall(r"^IP \(.*length (\d+)\)$", said, re.MULTILINE)]
        v6 = [int(one) + 40 for one in re.findall(r"^IP6 \(.*payload length: (\d+)\)", said, re.MULTILINE)]
        return v4 + v6

    yield longest
