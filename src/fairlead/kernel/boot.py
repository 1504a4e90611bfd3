"""Which boot of which machine this is: what was written down before another boot describes interfaces that are gone."""

from __future__ import annotations

from pathlib import Path

from fairlead.kernel.errors import translated


def boot_id() -> str:
    """The kernel's random name of this boot."""
    with translated("read the boot id"):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def unique() -> str:
    """``<machine>/<boot>``: the same on no other machine and in no other boot. Empty where a machine has no id."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f"{machine}/{boot_id()}" if machine else ""
