"""Which boot of the machine this is: what was written down before another one describes interfaces that are gone."""

from __future__ import annotations

from pathlib import Path

from fairlead.kernel.errors import translated


def boot_id() -> str:
    """The kernel's random name of this boot."""
    with translated("read the boot id"):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
