"""Which plane enforces policies on this machine: the one that is asked for, else eBPF where the kernel can, else nftables."""

from __future__ import annotations

from pathlib import Path

from fairlead.kernel import features
from fairlead.kernel.errors import KernelError
from fairlead.model.errors import Problem, Unsupported

from .ebpf.programs import Programs

PLANES = ("ebpf", "nftables")
_NEEDED = ("libbpf", "eBPF programs on interfaces", "eBPF ring buffers")


def programs(wanted: str, run_dir: Path, ring: int) -> tuple[Programs | None, str]:
    """The eBPF plane's programs, found or loaded; or None for nftables, and why, if nobody asked for that.

    ``wanted`` is one of ``PLANES`` or "auto". ``Unsupported`` where eBPF is asked for by name and this machine cannot.
    """
    if wanted == "nftables":
        return None, ""
    why = "; ".join(f"no {one.name}, which takes {one.needs}" for one in features.probe(*_NEEDED) if not one.ok)
    if not why:
        try:
            return Programs(run_dir, ring=ring), ""
        except (KernelError, Problem) as error:
            why = str(error)
    if wanted == "ebpf":
        raise Unsupported(f"this machine cannot run the eBPF plane: {why}; --plane nftables does without", field="plane")
    return None, why
