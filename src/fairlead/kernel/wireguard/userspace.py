"""WireGuard by ``wireguard-go``: a process that holds a TUN device in this namespace and encrypts what goes through it.

It outlives whoever started it, and is found again by its socket. Every node of a machine has a directory of its own for
them, which each process sees as ``/var/run`` (``launch``)::

    DIRECTORY/wireguard/NAME.sock    whoever listens there is the device NAME: no socket or no answer, no device

Its device goes when it ends, and with that every route through it; who wants nothing to leave by another way has a route
that says so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from fairlead.kernel.errors import KernelError, translated

from . import uapi
from .base import Device, Peer

PROGRAM = "wireguard-go"
TUN = "/dev/net/tun"

_LAUNCH = Path(__file__).with_name("launch.py")
_START, _ANSWER, _END = 5.0, 2.0, 2.0
"""Seconds within which it starts, answers, and ends."""
_STEP = 0.005
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x1, 0x1000
_CREDENTIALS = "3i"
_READ = 1 << 16


class Userspace:
    """Implements ``Wireguard``."""

    name = PROGRAM

    def __init__(self, directory: Path) -> None:
        """``directory``: where the sockets are; this boot's, this node's."""
        self._directory = directory

    def make(self, name: str) -> None:
        """Start the process, and return when it answers."""
        doing = f"start {PROGRAM} for {name}"
        if self.get(name) is not None:
            return
        program = program_path()
        if program is None:
            raise KernelError.of(errno.EOPNOTSUPP, doing, f"the package {PROGRAM} is not installed")
        _try_tun(name, doing)
        with translated(doing):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        launched = subprocess.run(
            [sys.executable, "-I", "-S", _LAUNCH, self._directory, program, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if launched.returncode:
            raise KernelError.of(errno.EIO, doing, launched.stderr.strip().rpartition("\n")[2])
        if not _within(_START, lambda: self._listens(name)):
            raise KernelError.of(errno.ETIMEDOUT, doing, f"`{PROGRAM} -f {name}` says why")

    def get(self, name: str) -> Device | None:
        """Ask the process."""
        answer = self._ask(name, uapi.GET, f"read the WireGuard device {name}")
        return None if answer is None else uapi.from_get(name, answer)

    def set(
        self, name: str, *, private: str = "", port: int = 0, peers: Iterable[Peer] = (), remove: Iterable[str] = ()
    ) -> None:
        """Tell the process."""
        doing = f"set up the WireGuard device {name}"
        have = self.get(name)
        if have is None:
            raise KernelError.of(errno.ENODEV, doing)
        answer = self._ask(name, uapi.to_set(have, private=private, port=port, peers=peers, remove=remove), doing)
        if answer is None:
            raise KernelError.of(errno.ENODEV, doing, "it ended meanwhile")
        uapi.check(answer, doing)

    def remove(self, name: str) -> None:
        """End the process, by force if it does not end by itself; its device goes with it."""
        connected = self._connect(name)
        if connected is not None:
            with connected:
                pid = struct.unpack(
                    _CREDENTIALS, connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_CREDENTIALS))
                )[0]
                _end(pid)
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / "wireguard" / f"{name}.sock"

    def _listens(self, name: str) -> bool:
        connected = self._connect(name)
        if connected is None:
            return False
        connected.close()
        return True

    def _connect(self, name: str) -> socket.socket | None:
        """A connection to the process; None if there is none."""
        with translated(f"reach the WireGuard device {name}"):
            try:
                directory = os.open(self._path(name).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            made.settimeout(_ANSWER)
            try:
                # By the directory's descriptor: a socket's path has 107 bytes, and a node's directory may be deep.
                made.connect(f"/proc/self/fd/{directory}/{name}.sock")
            except (FileNotFoundError, ConnectionRefusedError):
                made.close()
                return None
            except OSError:
                made.close()
                raise
            finally:
                os.close(directory)
            return made

    def _ask(self, name: str, request: bytes, doing: str) -> bytes | None:
        connected = self._connect(name)
        if connected is None:
            return None
        with closing(connected), translated(doing):
            try:
                connected.sendall(request)
                said = b""
                while not said.endswith(uapi.END):
                    more = connected.recv(_READ)
                    if not more:
                        break
                    said += more
            except (BrokenPipeError, ConnectionResetError):
                return None
            except TimeoutError:
                raise KernelError.of(errno.ETIMEDOUT, doing, f"{PROGRAM} does not answer") from None
        return said


def program_path() -> str | None:
    """Where the program is; None if it is not installed."""
    return shutil.which(PROGRAM)


def _try_tun(name: str, doing: str) -> None:
    """What would be in the way of the device, while there is somebody to tell: the process says it to nobody."""
    with translated(doing):
        try:
            tun = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KernelError.of(errno.EOPNOTSUPP, doing, f"there is no {TUN} (CONFIG_TUN)") from None
        try:
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        finally:
            os.close(tun)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            # It listens, so that it lives, and the number is its own; but it may have handed the socket to another.
            if Path(f"/proc/{pid}/comm").read_text() != f"{PROGRAM}\n":
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(process, number)
                if select.select([process], [], [], _END)[0]:
                    return
        finally:
            os.close(process)


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(_STEP)
    return True
