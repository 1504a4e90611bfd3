"""Compile the CNI client when the package is built: one C file, no library, linked statically.

Run by hatchling for wheels and editable installs, and by hand in a checkout: ``python hatch_build.py``. The program lies in
``src/fairlead/cni/bin`` and is never in the repository.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run by hand, where the build system is not installed
    BuildHookInterface = object  # type: ignore[assignment, misc]  # a base that is never used then

ROOT = Path(__file__).parent
SOURCE = ROOT / "src/fairlead/cni/plugin.c"
PROGRAM = ROOT / "src/fairlead/cni/bin/fairlead-cni"
FLAGS = ("-std=gnu11", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-s")


def compile_client(source: Path = SOURCE, program: Path = PROGRAM, flags: tuple[str, ...] = FLAGS) -> Path:
    """Compile ``source`` to ``program`` with $CC, else cc; put it in place whole."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise SystemExit(
            f"fairlead: no C compiler ({compiler[0]}) to build the CNI client with; on Debian: apt-get install gcc libc6-dev"
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    fresh = program.with_name(f".{program.name}.{os.getpid()}")
    try:
        done = subprocess.run(
            [*compiler, *flags, "-o", str(fresh), str(source)],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            raise SystemExit(
                f"fairlead: {compiler[0]} could not build the CNI client from {source}; on Debian it needs gcc and "
                f"libc6-dev:\n{done.stderr}"
            )
        fresh.replace(program)
    finally:
        fresh.unlink(missing_ok=True)
    return program


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # its configuration is not read
    """Adds the compiled client to the wheel and says which platform it is for."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel (``version`` standard or editable) is put together."""
        del version
        compile_client()
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(str(PROGRAM.relative_to(ROOT)))


if __name__ == "__main__":
    print(compile_client())  # noqa: T201  # the answer of a program run by hand
