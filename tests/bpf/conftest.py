"""The real programs, loaded for one test, in a namespace of its own: packets go in, events, table and counters come out."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from fairlead.datapath.ebpf import programs
from fairlead.datapath.ebpf.entries import entries
from fairlead.datapath.ebpf.layout import HITS, NUMBER, Counter, seen
from fairlead.datapath.ebpf.observe import Observer
from fairlead.datapath.ebpf.programs import Programs
from fairlead.datapath.ebpf.tables import Tables
from fairlead.datapath.seen import RECORD, Kind, Seen
from fairlead.desired.state import Guard, NodeState, Row, Subject
from fairlead.kernel import netns, route
from fairlead.kernel.netlink import Netlink
from fairlead.model.address import InterfaceName, Mac

NEXT, SHOT, REDIRECT = -1, 2, 7
LINKS = (InterfaceName("one"), InterfaceName("other"))


class Kernel:
    """What a test does with the programs."""

    def __init__(self, run_dir: Path, sizes: dict[str, int], interfaces: tuple[int, int]) -> None:
        self.loaded = Programs(run_dir, sizes)
        self._state = NodeState()
        self.observer = Observer(self.loaded, lambda: self._state)
        self.one, self.other = interfaces
        self.links = dict(zip(LINKS, interfaces, strict=True))
        self.tables = Tables(self.loaded.maps)
        for link in LINKS:
            self.put(Subject(host=link), Guard(host=link, mac=Mac("02:00:00:00:00:01"), addresses=(), checked=False))

    def put(self, *rows: Row) -> None:
        """Write what rows say."""
        self.tables.put(entries(rows, self.links))
        self._state = self._state.replace_all({row.host: (row,) for row in rows if isinstance(row, Subject)})

    def change(self, add: Iterable[Row], remove: Iterable[Row] = ()) -> None:
        """Write what rows say, and forget what others said."""
        self.tables.change(entries(add, self.links), entries(remove, self.links))

    def send(self, packet: bytes, *, hook: str = "from_pod", at: int = 0, segments: int = 0, segment: int = 0) -> None:
        """Let a program see a packet; whatever it is, it goes on."""
        index = at or self.one
        got = self.loaded.programs[hook].run(packet, ifindex=index, ingress=index, segments=segments, segment=segment)
        assert got == NEXT

    def passes(self, packet: bytes, *, hook: str = "from_pod", at: int = 0, ours: bool = False) -> bool:
        """Whether a packet passes; ``ours``: this node made it."""
        index = at or self.one
        got = self.loaded.programs[hook].run(packet, ifindex=index, ingress=0 if ours else index)
        assert got in {NEXT, SHOT}
        return got == NEXT

    def events(self) -> list[Seen]:
        return [Seen._make(one) for one in RECORD.iter_unpack(self.observer.events(1 << 20))]

    def kinds(self) -> list[str]:
        return [Kind(one.kind).name for one in self.events()]

    def table(self) -> list[Seen]:
        found = self.loaded.maps["connections"]
        entries = []
        for keys, values, count in found.chunks():
            for at in range(count):
                key = keys[at * found.info.key_size :][: found.info.key_size]
                entries.append(seen(key + values[at * found.info.value_size :][: found.info.value_size], 0)[0])
        return entries

    def forget_all(self) -> None:
        """Start over: no connections, nothing told or counted."""
        for name in ("connections", "drops", "fragments", "hits"):
            for key in self.loaded.maps[name].entries():
                self.loaded.maps[name].delete(key)
        for name in ("counters", "drop_counters"):
            for key, value in self.loaded.maps[name].entries().items():
                self.loaded.maps[name].update(key, bytes(len(value)))
        self.events()

    def hits(self) -> dict[int, tuple[int, int]]:
        """Connections and dropped packets by rule."""
        return {
            NUMBER.unpack(key)[0]: (
                sum(one for one, *_ in HITS.iter_unpack(value)),
                sum(one for _, one, _ in HITS.iter_unpack(value)),
            )
            for key, value in self.loaded.maps["hits"].entries().items()
        }

    def only(self) -> Seen:
        (one,) = self.table()
        return one

    def counted(self, which: Counter) -> int:
        return self.observer.counters()[which]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    """Loads the programs, with maps of the sizes asked for; those with another word for ``apart`` share nothing."""
    fd = netns.new()
    made: list[Kernel] = []
    with netns.inside(fd), Netlink() as nl:
        nl.do(*route.new_veth("one", "far", fd), *route.new_veth("other", "away", fd))

        def load(apart: str = "", **sizes: int) -> Kernel:
            (tmp_path / apart).mkdir(exist_ok=True)
            made.append(Kernel(tmp_path / apart, sizes, (socket.if_nametoindex(LINKS[0]), socket.if_nametoindex(LINKS[1]))))
            return made[-1]

        yield load
    for one in made:
        one.observer.close()
        one.loaded.close()
    for run_dir in (tmp_path, *tmp_path.iterdir()):
        programs.remove(run_dir)
    os.close(fd)


@pytest.fixture
def kernel(make: Callable[..., Kernel]) -> Kernel:
    return make()
