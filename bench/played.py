"""A cluster that is played by ``tests.kubernetes.play``, in a process of its own, for benchmarks to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lib

sys.path.insert(0, str(lib.ROOT))

from tests.kubernetes.play import address, pod, pod_name  # after the path is set

__all__ = ["NODES", "PODS", "POLICIES", "Played", "address", "playing", "pod", "pod_name"]

NODES, PODS, POLICIES = 1000, 50_000, 1000

_CRDS = lib.ROOT / "deploy/kubernetes/base/crds.yaml"


class Played:
    """The cluster. ``pods``: how many it has."""

    def __init__(self, process: subprocess.Popen[str], port: int, pods: int) -> None:
        self._process, self.port, self.pods = process, port, pods

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    def churn(self, rate: float) -> None:
        """From now on, change so many pods a second."""
        self._say(f"churn {rate}")

    def label(self, number: int, value: int) -> float:
        """Change a label of one pod, ending the churn; when that was, in seconds since 1970."""
        self._say(f"label {number} {value}")
        return float(self._heard())

    def put(self, plural: str, tree: object) -> None:
        """Put an object, ending the churn."""
        self._say(f"put {plural} {json.dumps(tree)}")
        self._heard()

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _heard(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


@contextmanager
def playing(nodes: int = NODES, pods: int = PODS, policies: int = POLICIES, inside: Sequence[str] = ()) -> Iterator[Played]:
    """Play a cluster until the context is left. ``inside``: the words that start a program where it is to listen."""
    words = ["--nodes", nodes, "--pods", pods, "--policies", policies, "--definitions", _CRDS]
    command = [*inside, sys.executable, "-m", "tests.kubernetes.play", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": f"{lib.ROOT}:{lib.ROOT / 'src'}"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout
        yield Played(process, int(process.stdout.readline()), pods)
    finally:
        process.kill()
        process.wait()
