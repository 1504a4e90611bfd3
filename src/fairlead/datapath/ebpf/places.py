"""Which devices have a place for programs because we made it: a purge removes it, unless somebody else has a program there.

The kernel does not say who made a place. So it is written down, in a file that belongs to this boot; of what is not written
there nothing is removed. Nor is anything before a purge: while a place comes or goes the kernel stops the device for a moment,
and drops what is sent through it then.
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

    def clear(self) -> None:
        """Our programs are gone from every device: nothing of ours stays there."""
        for index in self._read():
            if route.is_vacant(self._netlink, index):
                self._netlink.do(route.del_qdisc(index, ingress=True).accepting(ENODEV, ENOENT))
        self._write(())

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
