"""One set of programs and maps for all containers of a node, pinned so that they outlive the agent.

::

    run directory/bpf/            a bpffs of our own
        maps/NAME                 shared by all programs; kept through upgrades as long as their shape stays
        programs/NAME-DIGEST      the programs of one build; a start with the same build loads nothing
        links/NAME-INTERFACE      what holds a program at a device that stays (``pins``)

A build with other programs loads them beside the old ones, with the same maps; the hooks then replace one by the other on each
link, and connections live on. A map of another shape is made anew: those of policies and links are then filled before any
program stands on a link, and what ``CARRIED`` holds is copied. A map whose values change their meaning must change its name or
its size; the values of those that are carried only grow at their end, and zero there means what it meant before.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import closing
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from fairlead.kernel.bpf import Map, Object, Program, fs
from fairlead.kernel.bpf.map import possible_cpus
from fairlead.kernel.errors import Gone
from fairlead.model.errors import Unsupported

from .layout import EVENT, INDEX, Counter

OBJECTS = Path(__file__).with_name("obj")
PROGRAMS = ("from_pod", "to_pod", "from_net", "ask")
MAPS = (
    "answers",
    "arrivals",
    "beginnings",
    "blocks",
    "config",
    "connections",
    "counters",
    "drop_counters",
    "drops",
    "endpoints",
    "events",
    "fragments",
    "guards",
    "hits",
    "judgements",
    "locals",
    "owned",
    "peers",
    "ports",
    "realms",
    "rulings",
    "shells",
    "shortcuts",
    "ticks",
    "tunnels",
    "uplinks",
    "vteps",
)
PINS = {"events": f"events-{EVENT.size}"}
"""What is pinned under another name than its own: of records in a ring the map's shape says nothing."""
CARRIED = ("connections", "hits", "counters", "drop_counters")
"""What is known of what goes on, and was counted."""
SIZES = {
    "arrivals": 1 << 10,
    "blocks": 1 << 17,
    "connections": 1 << 16,
    "drops": 1 << 13,
    "endpoints": 1 << 14,
    "events": 1 << 20,
    "fragments": 1 << 12,
    "guards": 1 << 14,
    "hits": 1 << 15,
    "judgements": 1 << 18,
    "locals": 1 << 15,
    "owned": 1 << 16,
    "peers": 1 << 17,
    "ports": 1 << 18,
    "realms": 1 << 14,
    "rulings": 1 << 18,
    "tunnels": 1 << 10,
    "uplinks": 1 << 10,
    "vteps": 1 << 16,
}
"""How much each map has room for, unless told otherwise: entries; of ``events``, the ring buffer, bytes: 6,898 events.

Memory is taken for what is there, not for what there may be; but for ``connections``, ``drops`` and ``fragments``, where the
entry that was of no use for longest makes room, and for ``events``: 15 MB together. docs/decisions/ebpf.md has the reckoning.
"""
MOST = 1 << 24


class Programs:
    """The programs and maps by their names."""

    def __init__(self, run_dir: Path, sizes: Mapping[str, int] | None = None) -> None:
        """Find them in the kernel, or load them. ``sizes``: room of maps, where it is to be another than ``SIZES`` says."""
        self.run_dir = run_dir
        self._root = run_dir / "bpf"
        self._sizes = {**SIZES, **(sizes or {})}
        self._digest = self._build()
        fs.mount(self._root)
        for folder in ("maps", "programs"):
            (self._root / folder).mkdir(mode=0o700, exist_ok=True)
        self.links: dict[str, int] = {}
        """The interfaces of which maps know something, by name; all threads write here what they program."""
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        self.former: frozenset[int] = frozenset()
        """The numbers of those of other builds, which the last agent may have left on links."""
        try:
            self._find()
        except Gone:
            self.close()
            self._load()
        self._forget_others()

    def close(self) -> None:
        """Close the descriptors; what is pinned stays."""
        for found in self.maps.values():
            found.close()
        for program in self.programs.values():
            program.close()
        self.maps.clear()
        self.programs.clear()

    def unpin(self) -> None:
        """Forget every pin: maps and programs go when nobody has them open and no link has them any more."""
        remove(self._root.parent)

    def _build(self) -> str:
        digest = blake2b(repr(sorted(self._sizes.items())).encode(), digest_size=8)
        for name in PROGRAMS:
            try:
                digest.update(_object(name).read_bytes())
            except FileNotFoundError:
                raise Unsupported(f"{_object(name)} is missing; install the package anew, or run hatch_build.py") from None
        return digest.hexdigest()

    def _map_pin(self, name: str) -> Path:
        return self._root / "maps" / PINS.get(name, name)

    def _program_pin(self, name: str) -> Path:
        return self._root / "programs" / f"{name}-{self._digest}"

    def _find(self) -> None:
        for name in PROGRAMS:
            self.programs[name] = Program.pinned(str(self._program_pin(name)))
        for name in MAPS:
            self.maps[name] = Map.pinned(str(self._map_pin(name)))

    def _load(self) -> None:
        kept = dict(self._pinned_maps())
        for name in PROGRAMS:
            with Object(str(_object(name))) as of:
                for one in of.maps().keys() & self._sizes:
                    of.resize(one, self._sizes[one])
                shapes = of.maps()
                for one, shape in shapes.items():
                    found = self.maps.get(one) or kept.get(one)
                    if found and found.info == shape:
                        self.maps[one] = found
                        of.share(one, found)
                of.load()
                self.maps |= {one: of.map(one) for one in shapes if one not in self.maps}
                self.programs[name] = of.program(name)
        self._carry(kept)
        for one, found in kept.items():
            if self.maps[one] is not found:
                found.close()
                self._map_pin(one).unlink()
        self._pin(kept)

    def _carry(self, kept: Mapping[str, Map]) -> None:
        replaced = [one for one in CARRIED if one in kept and self.maps[one] is not kept[one]]
        left = {one: carry(kept[one], self.maps[one]) for one in replaced}
        if lost := left.get("connections"):
            forgot(self.maps["counters"], lost)

    def _pinned_maps(self) -> list[tuple[str, Map]]:
        return [(name, Map.pinned(str(self._map_pin(name)))) for name in MAPS if self._map_pin(name).exists()]

    def _pin(self, kept: dict[str, Map]) -> None:
        """Maps first: programs that are pinned without their maps would be used with others after a crash."""
        for one, found in self.maps.items():
            if kept.get(one) is not found:
                found.pin(str(self._map_pin(one)))
        for name, program in self.programs.items():
            self._program_pin(name).unlink(missing_ok=True)
            program.pin(str(self._program_pin(name)))

    def _forget_others(self) -> None:
        for path in (self._root / "maps").iterdir():
            if path.name not in {PINS.get(name, name) for name in MAPS}:
                path.unlink()
        former = set()
        for path in (self._root / "programs").iterdir():
            if not path.name.endswith(f"-{self._digest}"):
                with closing(Program.pinned(str(path))) as program:
                    former.add(program.info.id)
                path.unlink()
        self.former = frozenset(former)


def carry(old: Map, new: Map) -> int:
    """Copy what ``old`` holds, as much as ``new`` has room for, where it is the same kind of thing; return the rest."""
    entries = old.entries()
    longer = new.info.value_size - old.info.value_size
    for_each_cpu = old.room > old.info.value_size + 7
    if old.info.key_size != new.info.key_size or longer < 0 or (longer and for_each_cpu):
        return len(entries)
    new.write({key: value + bytes(longer) for key, value in islice(entries.items(), new.info.max_entries)})
    return max(0, len(entries) - new.info.max_entries)


def forgot(counters: Map, connections: int) -> None:
    """Count connections that user space removed, beside those that programs remembered: others that are gone were evicted."""
    key, cpus = INDEX.pack(Counter.FORGOTTEN), struct.Struct(f"={possible_cpus()}Q")
    first, *rest = cpus.unpack(counters.lookup(key) or bytes(cpus.size))
    counters.update(key, cpus.pack(first + connections, *rest))


def remove(run_dir: Path) -> None:
    """Forget every pin that an agent of this run directory made."""
    fs.unmount(run_dir / "bpf")


def present(run_dir: Path) -> bool:
    """Whether an agent of this run directory has loaded programs since the machine started."""
    return fs.mounted(run_dir / "bpf")


def _object(name: str) -> Path:
    return OBJECTS / f"{name}.bpf.o"
