"""Pods of other nodes in the book and the kernel's maps, and one more of them: run by ``policy.py`` in a node of its own.

``remote.py DIRECTORY PODS REMOTE`` prints milliseconds that adding a pod took (the 99th percentile) and megabytes of memory.
There are no links here: a node knows the pods of others by their addresses and labels alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lib import percentile
from pair import neighbours

from fairlead.datapath.ebpf.plane import Ebpf
from fairlead.datapath.ebpf.programs import Programs, remove
from fairlead.desired.state import NodeState, Row, Rows
from fairlead.model import codec
from fairlead.model.endpoint import Endpoint
from fairlead.model.policy import NetworkPolicy
from fairlead.policy.book import Book, Delta

_ADDED = 200


class Kernel:
    """The state, and the maps that follow it, as an agent's node has them."""

    def __init__(self, directory: Path) -> None:
        self.state = NodeState()
        self._directory = directory
        self._programs = Programs(directory)
        self._plane = Ebpf(self._programs)

    def follow(self, delta: Delta) -> None:
        """As ``agent/policies.py`` does: what is new, then what nobody needs any more."""
        for steps in (delta.steps, delta.after):
            if steps:
                self._program(dict(steps))

    def close(self) -> None:
        """Leave nothing."""
        self._plane.close()
        self._programs.close()
        remove(self._directory)

    def _program(self, changes: Mapping[str, Rows]) -> None:
        """As ``agent/node.py`` does."""
        old = {_key(row): row for owner in changes for row in self.state.owned(owner)}
        new = {_key(row): row for rows in changes.values() for row in rows}
        self.state = self.state.replace_all(changes)
        add = [row for key, row in new.items() if old.get(key) != row]
        self._plane.change(add, [row for key, row in old.items() if key not in new])


def _key(row: Row) -> tuple[type[Row], object]:
    return type(row), row.key


def pod(at: int, apps: int) -> Endpoint:
    """One of as many as there may be; its labels are those of one of so many apps."""
    tree = {
        "metadata": {"name": f"r{at}:eth0", "namespace": "bench", "labels": {"app": f"a{at % apps}"}},
        "spec": {
            "container": f"r{at}",
            "interface": "eth0",
            "network": "bench",
            "sandbox": {"path": "", "cookie": 0},
            "addresses": [f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}/8", f"fd00::{at:x}/64"],
        },
    }
    found = codec.from_tree(tree, Endpoint)
    assert isinstance(found, Endpoint)
    return found


def policies(count: int) -> Iterator[NetworkPolicy]:
    """One for each app."""
    for at in range(count):
        found = codec.from_item(neighbours(at, count, 80))
        assert isinstance(found, NetworkPolicy)
        yield found


def main() -> None:
    """Fill the book and the maps, then add one pod after the other."""
    directory, pods, remote = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    book, kernel, times = Book(), Kernel(directory), []
    try:
        kernel.follow(book.put(*policies(pods), *(pod(at, pods) for at in range(pods + remote))))
        for at in range(pods + remote, pods + remote + _ADDED):
            one = pod(at, pods)
            before = time.perf_counter()
            kernel.follow(book.put(one))
            times.append((time.perf_counter() - before) * 1000)
    finally:
        kernel.close()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    print(json.dumps({"add": percentile(times, 99), "resident": pages * 4096 / 1e6}))


if __name__ == "__main__":
    main()
