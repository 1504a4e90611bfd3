"""One set of programs and maps for all containers of a node, pinned so that they outlive the agent.

::

    run directory/bpf/            a bpffs of our own
        maps/NAME                 shared by all programs; kept through upgrades as long as their shape stays
        programs/NAME-DIGEST      the programs of one build; a start with the same build loads nothing

A build with other programs loads them beside the old ones, with the same maps; the hooks then replace one by the other on each
link, and connections live on. A map whose values change their meaning must change its name or its size.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from fairlead.kernel.bpf import Map, Object, Program, fs
from fairlead.kernel.errors import Gone
from fairlead.model.errors import Unsupported

from .layout import EVENT

OBJECTS = Path(__file__).with_name("obj")
PROGRAMS = ("from_pod", "to_pod", "ask")
MAPS = (
    "config",
    "connections",
    "counters",
    "doors",
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
    "rulings",
)
PINS = {"events": f"events-{EVENT.size}"}
"""What is pinned under another name than its own: of records in a ring the map's shape says nothing."""
RING = 1 << 20
"""Bytes of the ring buffer: 6,898 events."""


class Programs:
    """The programs and maps by their names."""

    def __init__(self, run_dir: Path, *, ring: int = RING) -> None:
        """Find them in the kernel, or load them. ``ring``: the buffer's size, a power of two and whole pages."""
        self._root = run_dir / "bpf"
        self._ring = ring
        self._digest = self._build()
        fs.mount(self._root)
        for folder in ("maps", "programs"):
            (self._root / folder).mkdir(mode=0o700, exist_ok=True)
        self.links: dict[str, int] = {}
        """The interfaces of which maps know something, by name; all threads write here what they program."""
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
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
        digest = blake2b(str(self._ring).encode(), digest_size=8)
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
                of.resize("events", self._ring)
                shapes = of.maps()
                for one, shape in shapes.items():
                    found = self.maps.get(one) or kept.get(one)
                    if found and found.info == shape:
                        self.maps[one] = found
                        of.share(one, found)
                of.load()
                self.maps |= {one: of.map(one) for one in shapes if one not in self.maps}
                self.programs[name] = of.program(name)
        for one, found in kept.items():
            if self.maps[one] is not found:
                found.close()
                self._map_pin(one).unlink()
        self._pin(kept)

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
        for path in (self._root / "programs").iterdir():
            if not path.name.endswith(f"-{self._digest}"):
                path.unlink()


def remove(run_dir: Path) -> None:
    """Forget every pin that an agent of this run directory made."""
    fs.unmount(run_dir / "bpf")


def present(run_dir: Path) -> bool:
    """Whether an agent of this run directory has loaded programs since the machine started."""
    return fs.mounted(run_dir / "bpf")


def _object(name: str) -> Path:
    return OBJECTS / f"{name}.bpf.o"
