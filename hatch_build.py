"""Compile what is C when the package is built: the CNI client, and the eBPF programs.

Run by hatchling for wheels and editable installs, and by hand in a checkout: ``python hatch_build.py``. What it makes lies in
``src/fairlead/cni/bin`` and ``src/fairlead/datapath/ebpf/obj`` and is never in the repository.
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

HOOKS = ROOT / "bpf/prog"
OBJECTS = ROOT / "src/fairlead/datapath/ebpf/obj"
# -g for BTF, by which the loader and the tests know the structs; v3 for compare-and-swap (Linux 5.12).
HOOK_FLAGS = ("-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror")


def compile_client(source: Path = SOURCE, program: Path = PROGRAM, flags: tuple[str, ...] = FLAGS) -> Path:
    """Compile ``source`` to ``program`` with $CC, else cc; put it in place whole."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise SystemExit(
            f"fairlead: no C compiler ({compiler[0]}) to build the CNI client with; on Debian: apt-get install gcc libc6-dev"
        )
    return _compile([*compiler, *flags], source, program, "the CNI client", "gcc and libc6-dev")


def compile_hooks(sources: Path = HOOKS, objects: Path = OBJECTS) -> list[Path]:
    """Compile each eBPF program to an object of its own with $CLANG, else clang, else the newest clang-NN."""
    names = [os.environ["CLANG"]] if os.environ.get("CLANG") else ["clang", *(f"clang-{at}" for at in range(25, 12, -1))]
    compiler = next((words for name in names if shutil.which((words := shlex.split(name))[0])), None)
    if compiler is None:
        raise SystemExit(
            f"fairlead: no {names[0]} to build the eBPF programs with; on Debian: apt-get install clang libbpf-dev"
        )
    # Where Debian keeps asm/types.h, which no target of its own has.
    headers = f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH') or 'x86_64-linux-gnu'}"
    command = [*compiler, *HOOK_FLAGS, headers, "-c"]
    return [
        _compile(command, source, objects / f"{source.name.removesuffix('.c')}.o", "an eBPF program", "clang and libbpf-dev")
        for source in sorted(sources.glob("*.bpf.c"))
    ]


def _compile(command: list[str], source: Path, target: Path, what: str, packages: str) -> Path:
    """Run the compiler; put what it made in place whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        done = subprocess.run(
            [*command, "-o", str(fresh), str(source)],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            raise SystemExit(
                f"fairlead: {command[0]} could not build {what} from {source}; on Debian it needs {packages}:\n{done.stderr}"
            )
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return target


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # its configuration is not read
    """Adds what was compiled to the wheel and says which platform it is for."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel (``version`` standard or editable) is put together."""
        del version
        made = [compile_client(), *compile_hooks()]
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].extend(str(one.relative_to(ROOT)) for one in made)


if __name__ == "__main__":
    print(compile_client(), *compile_hooks(), sep="\n")  # noqa: T201  # the answer of a program run by hand
