"""The maps that the programs decide by, written and compared. What they mean is said by ``entries``.

What is asked is written before what asks for it, and removed after it. Connections remember the revision under which they were
decided; one bump at the end of a change has each decided again at its next packet.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Iterable, Mapping

from fairlead.kernel.bpf import Map
from fairlead.kernel.errors import KernelError
from fairlead.model.address import Prefix
from fairlead.model.errors import Exhausted

from .entries import LINKS, ORDER, POLICIES, WAYS, Entries, Found, prefix_key
from .layout import CONFIG, INDEX, JUDGEMENT_KEY, NUMBER

EVERY_V4 = {prefix_key(Prefix("0.0.0.0/0")): NUMBER.pack(0)}
"""Always there, so that a short IPv6 prefix holds no IPv4 address."""
DECIDING = (*POLICIES, *LINKS)
"""The maps by whose change a connection may be decided otherwise, or go another way."""
_SAID = ("judgements", "rulings", "ports")
"""What sets of policies say, in the order in which it is taken away: of whom there is no judgement, nothing passes."""
_REMEDIES = {
    POLICIES: "fewer policies, or fewer addresses that they tell apart",
    LINKS: "fewer containers",
    WAYS: "fewer networks between nodes",
}
_ONLY = INDEX.pack(0)

Read = Mapping[str, list[tuple[bytes, bytes, int]]]
"""Of each map the chunks."""
_FULL = {errno.E2BIG, errno.ENOSPC}


class Tables:
    """Writes the maps; the only one to do so."""

    def __init__(self, maps: Mapping[str, Map], *, node_reaches_pods: bool = True) -> None:
        """Set the configuration; what fresh maps begin with is never a revision that connections remember.

        ``node_reaches_pods``: what this node itself sends to containers, such as probes, passes whatever policies say.
        """
        self._maps = maps
        self._held: dict[str, int] = {}
        self._node_reaches_pods = node_reaches_pods
        self._configure(self.revision or time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        if maps["blocks"].lookup(next(iter(EVERY_V4))) is None:
            maps["blocks"].write(EVERY_V4)

    @property
    def revision(self) -> int:
        """The number of the policies in force."""
        return int(CONFIG.unpack(self._maps["config"].lookup(_ONLY) or bytes(CONFIG.size))[0])

    def bump(self) -> None:
        """Have every connection decided again."""
        self._configure(self.revision + 1)

    def change(self, new: Found, old: Found) -> None:
        """Write ``new``, then remove what of ``old`` is not in it; nothing happens if there is nothing."""
        gone = {name: [key for key in old[name] if key not in new[name]] for name in ORDER}
        if any(new.values()) or any(gone.values()):
            self._write(new, gone)

    def put(self, new: Found) -> None:
        """Write what of ``new`` is not there: of the links of one container, a few entries."""
        fresh = {
            name: {key: value for key, value in wanted.items() if self._maps[name].lookup(key) != value}
            for name, wanted in new.items()
        }
        if any(fresh.values()):
            self._write(fresh, {})

    def read(self) -> Read:
        """What the maps hold, as the kernel gives it: milliseconds, however much it is."""
        return {name: list(self._maps[name].chunks()) for name in ORDER}

    def differences(self, want: Found, read: Read | None = None) -> dict[str, tuple[Entries, Entries]]:
        """By map: the entries that are missing or different, as they should be, and those that should not be, or differ.

        ``read``: what the maps held then, to be compared in any thread.
        """
        found, read = {}, self.read() if read is None else read
        for name in ORDER:
            wanted = EVERY_V4 | want[name] if name == "blocks" else want[name]
            have = self._maps[name].entries_of(read[name])
            self._held[name] = len(have)
            found[name] = (
                {key: value for key, value in wanted.items() if have.get(key) != value},
                {key: value for key, value in have.items() if wanted.get(key) != value},
            )
        return found

    def apply(self, want: Found) -> None:
        """Make the maps hold ``want`` and nothing else."""
        found = self.differences(want)
        missing, there = ({name: sides[at] for name, sides in found.items()} for at in (0, 1))
        self._maps["judgements"].remove(self._untrue(missing, there))
        if any(self._is_crowded(name, missing[name].keys() - there[name].keys()) for name in _SAID):
            for name in _SAID:
                self._maps[name].remove(there[name])  # the old goes first: there is no room for both
        self.change(missing, there)

    def _is_crowded(self, name: str, more: Collection[bytes]) -> bool:
        return self._held[name] + len(more) > self._maps[name].info.max_entries

    @staticmethod
    def _untrue(missing: Found, there: Found) -> list[bytes]:
        """What sets that go say of everybody of whom they say nothing else, where peers are of other classes from now on.

        All are, if all numbers are new. Of those who are of another class such a set would say it too, as long as it is in
        force; without it these may begin nothing for so long, and what goes on is not asked about.
        """
        if not missing["blocks"] and not missing["peers"]:
            return []
        return [key for key in there["judgements"] if key not in missing["judgements"] and not JUDGEMENT_KEY.unpack(key)[1]]

    def align(self, name: str, want: Entries) -> None:
        """Make one map hold ``want`` and nothing else."""
        have = self._maps[name].entries()
        self._write({name: want}, {name: [key for key in have if key not in want]})

    def fill(self) -> dict[str, tuple[int, int]]:
        """How many entries each map held when it was last compared, and how many it can hold."""
        return {name: (held, self._maps[name].info.max_entries) for name, held in self._held.items()}

    def _write(self, new: Mapping[str, Entries], gone: Mapping[str, Iterable[bytes]]) -> None:
        try:
            for name in ORDER:
                self._add(name, new.get(name, {}))
            for name in reversed(ORDER):
                self._maps[name].remove(key for key in gone.get(name, ()) if name != "blocks" or key not in EVERY_V4)
            if any(key in EVERY_V4 for key in gone.get("blocks", ())):
                self._maps["blocks"].write(EVERY_V4)
        finally:
            if any(new.get(name) or gone.get(name) for name in DECIDING):
                self.bump()  # also after half a change

    def _add(self, name: str, entries: Entries) -> None:
        try:
            self._maps[name].write(entries)
        except KernelError as problem:
            if problem.errno not in _FULL:
                raise
            most = self._maps[name].info.max_entries
            remedy = next(remedy for names, remedy in _REMEDIES.items() if name in names)
            said = f"the kernel's map of {name} is full: it has room for {most} entries; have {remedy}"
            raise Exhausted(f"{said}, or start the agent with --map-size {name}=N") from problem

    def _configure(self, revision: int) -> None:
        self._maps["config"].update(_ONLY, CONFIG.pack(revision, self._node_reaches_pods))
