"""The tcx links by which a program stands at devices: ``run directory/bpf/links/PROGRAM-NUMBER``, with the interface's number.

The pin is what holds the program there, whether the agent runs or not. It may outlive its place: somebody detached the link, or
the interface is gone, or another namespace's now. So what counts is what the kernel lists at the interface.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from fairlead.kernel.bpf import Program, tcx
from fairlead.kernel.errors import Exists, Gone


class Pins:
    """Those of one program, on what an interface receives."""

    def __init__(self, run_dir: Path, program: str) -> None:
        self._folder, self._program = run_dir / "bpf" / "links", program

    def standing(self) -> dict[int, int]:
        """The program's number by the interface where it is."""
        return {index: info.program for index, info in self._each() if _stands(index, info)}

    def astray(self) -> dict[int, int]:
        """The same of interfaces that were given to another namespace, or have another number there."""
        return {index: info.program for index, info in self._each() if info.index and not _stands(index, info)}

    def put(self, index: int, program: Program) -> None:
        """Attach the program behind whoever is there, or put it in place of an earlier one of ours."""
        path = self._path(index)
        if path.exists():
            with closing(tcx.Link.pinned(str(path))) as link:
                if _stands(index, link.info):
                    link.update(program.fd)
                    return
        self.take(index)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with closing(_attach(index, program)) as link:
            link.pin(str(path))

    def take(self, index: int) -> None:
        """Take the program off an interface and forget the pin; nothing happens if there is none."""
        path = self._path(index)
        if path.exists():
            with closing(tcx.Link.pinned(str(path))) as link:
                link.detach()  # the pin may not be all that holds it: a mount may have been copied
            path.unlink()

    def tidy(self) -> None:
        """Forget pins of what is at no interface any more."""
        for index in [index for index, info in self._each() if not info.index]:
            self.take(index)

    def clear(self) -> None:
        """Take the program off every interface."""
        for index in [index for index, _ in self._each()]:
            self.take(index)

    def _each(self) -> Iterator[tuple[int, tcx.LinkInfo]]:
        for path in self._folder.glob(f"{self._program}-*"):
            with closing(tcx.Link.pinned(str(path))) as link:
                yield int(path.name.rpartition("-")[2]), link.info

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._program}-{index}"


def _attach(index: int, program: Program) -> tcx.Link:
    try:
        return tcx.Link.attach(index, tcx.RECEIVED, program.fd)
    except Exists:  # its pin was removed, and somebody else holds the link
        number = next((one.link for one in tcx.attached(index) if one.program == program.info.id), 0)
        return tcx.Link.numbered(number)


def _stands(index: int, info: tcx.LinkInfo) -> bool:
    try:
        return info.index == index and info.id in {one.link for one in tcx.attached(index)}
    except Gone:  # the number is that of another namespace
        return False
