"""Which devices have a place for programs because we made it: it goes with our program, unless somebody else has one there.

The kernel does not say who made a place. So it is written down, in a file that belongs to this boot; of what is not written
there nothing is removed.
"""

from __future__ import annotations

from collections.abc import Collection
from errno import ENODEV, ENOENT
from pathlib import Path

from fairlead.kernel import route
from fairlead.kernel.errors import Exists
from fairlead.kernel.netlink import Netlink


class Places:
    """Shares the socket of its plane."""

    def __init__(self, netlink: Netlink, run_dir: Path) -> None:
        self._netlink = netlink
        self._made = run_dir / "places"

    def ensure(self, index: int) -> None:
        """Make the place of a device, if it has none."""
        try:
            self._netlink.do(route.new_clsact(index))
        except Exists:  # whoever made it: there is room for all
            return
        self._write(self._read() | {index})

    def leave(self, index: int) -> None:
        """Our program is gone from a device: nothing of ours stays there."""
        made = self._read()
        if index not in made:
            return
        if route.is_vacant(self._netlink, index):
            self._netlink.do(route.del_qdisc(index, ingress=True).accepting(ENODEV, ENOENT))
        self._write(made - {index})

    def _read(self) -> set[int]:
        try:
            return {int(word) for word in self._made.read_text().split()}
        except FileNotFoundError:
            return set()

    def _write(self, made: Collection[int]) -> None:
        if made:
            self._made.write_text("".join(f"{one}\n" for one in sorted(made)))
        else:
            self._made.unlink(missing_ok=True)
