"""Bell: how processes that share a file tell each other that it has changed. A datagram socket each, in one directory.

::

    store.db-bells/4711-9f0c…   ◄── "!" ── whoever has committed, once for each socket but his own
                   4712-03ab…   ◄──

What is sent says nothing but: look. So a bell that is rung too often does no harm, a full queue is as good as one more
datagram, and a process that was killed between its commit and its ring is what a slow look at the file is for. A socket
whose process is gone refuses what is sent to it, and is then removed by the one who sent it.

The directory is as closed as the file's own; paths go through ``/proc/self/fd``, because a socket's path has 108 bytes at most.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fairlead.model.errors import Failed

_RING = b"!"
_MAX = 64


class Bell:
    """One process's bell for one file, and its hand on the others'."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, rung: Callable[[], None]) -> None:
        """``path``: the file that is shared; ``rung`` is called in the loop when somebody else rings."""
        self._folder = path.with_name(f"{path.name}-bells")
        self._loop, self._rung = loop, rung
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._ears: socket.socket | None = None

    @property
    def hung(self) -> bool:
        """Whether this process can hear the others."""
        return self._ears is not None

    def hang(self) -> None:
        """Hear the others from now on."""
        ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with _Folder(self._folder) as place:
                ears.bind(place(self._name))
        except OSError as error:
            ears.close()
            raise Failed(f"{self._folder} cannot hold a socket: {error.strerror}; put the store on a local disk") from error
        self._ears = ears
        self._loop.add_reader(ears, self._hear)

    def take_down(self) -> None:
        """Hear nobody any more."""
        if self._ears is not None:
            self._loop.remove_reader(self._ears)
            self._ears.close()
            self._ears = None
            with suppress(OSError):
                (self._folder / self._name).unlink()

    def ring(self) -> None:
        """Tell all others. Never waits and never fails: they also look by themselves."""
        try:
            names = [path.name for path in self._folder.iterdir() if path.name != self._name]
        except OSError:
            return  # nobody has ever listened
        if names:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hand, _Folder(self._folder) as place:
                hand.setblocking(False)
                for name in names:
                    _ring(hand, place(name))

    def _hear(self) -> None:
        assert self._ears is not None
        with suppress(OSError):
            for _ in range(_MAX):
                self._ears.recv(len(_RING))
        self._rung()


class _Folder:
    """A directory as a short path to what is in it, while the context lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Callable[[str], str]:
        self._fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return lambda name: f"/proc/self/fd/{self._fd}/{name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _ring(hand: socket.socket, path: str) -> None:
    try:
        hand.sendto(_RING, path)
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            with suppress(OSError):
                Path(path).unlink()
