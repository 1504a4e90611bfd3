"""Network namespaces: open, enter for a moment, tell apart, make, remove.

A namespace is held by an open file descriptor; its cookie is a number that the kernel never gives twice while it runs,
so it tells a namespace from another that later took the same path. Whatever enters a namespace does so with the calling
thread alone and comes back before it returns: no other thread, and no later call, notices. Must not keep a thread inside.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.kernel import libc
from fairlead.kernel.errors import KernelError, translated

NAMED = "/run/netns"
"""Where ``ip netns`` keeps names."""

_NS_GET_NSTYPE = 0xB703
_SO_NETNS_COOKIE = 71
_OWN = "/proc/thread-self/ns/net"
_KINDS = {
    0x20000: "mount",
    0x2000000: "cgroup",
    0x4000000: "UTS",
    0x8000000: "IPC",
    0x10000000: "user",
    0x20000000: "PID",
    0x80: "time",
}


def find(text: str) -> str:
    """The path of a namespace that a person names by path, by process id (any number is one) or by its ``ip netns`` name."""
    if text.startswith("/"):
        path = text
    elif text.isdecimal():
        path = f"/proc/{text}/ns/net"
    elif not text or "/" in text or text in {".", ".."} or "\0" in text:
        raise KernelError.of(
            errno.EINVAL, f"find the network namespace {text!r}", "give a path, a process id or a name from `ip netns`"
        )
    else:
        path = f"{NAMED}/{text}"
    with translated(f"find the network namespace {text!r}"):
        Path(path).stat()
    return path


def open_path(path: str) -> int:
    """Open the namespace at ``path``; an error if what lies there is not a network namespace. The caller closes it."""
    doing = f"open the network namespace {path}"
    with translated(doing):
        # A device or a pipe may act when it is opened; a namespace is a regular file.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise KernelError.of(errno.EINVAL, doing, "it is not a network namespace")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        os.close(fd)
        raise KernelError.of(errno.EINVAL, doing, "it is not a network namespace") from error
    if kind != libc.CLONE_NEWNET:
        os.close(fd)
        raise KernelError.of(errno.EINVAL, doing, f"it is a {_KINDS.get(kind, 'different')} namespace, not a network namespace")
    return fd


def own() -> int:
    """Open the calling thread's namespace. The caller closes it."""
    with translated("open this thread's network namespace"):
        return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(fd: int) -> Iterator[None]:
    """Run the block in the namespace ``fd``: this thread only, and back however the block ends.

    A socket opened in the block belongs to ``fd`` for its whole life. The block must not await.
    """
    home = own()
    try:
        with translated("enter a network namespace"):
            libc.setns(fd)
        try:
            yield
        finally:
            with translated("return from a network namespace"):
                libc.setns(home)
    finally:
        os.close(home)


def cookie(fd: int) -> int:
    """The number of the namespace ``fd``: never the same for two namespaces since boot. Linux 5.14."""
    doing = "read the cookie of a network namespace"
    with inside(fd), translated(doing), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        number: int = struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
        return number


def new() -> int:
    """Make an empty namespace that lives as long as something holds it. The caller closes it."""
    home = own()
    try:
        with translated("make a network namespace"):
            libc.unshare()
        try:
            return own()
        finally:
            with translated("return from a network namespace"):
                libc.setns(home)
    finally:
        os.close(home)


def create(path: str) -> None:
    """Make an empty namespace that lives at ``path`` until it is deleted, as ``ip netns add`` does."""
    doing = f"make the network namespace {path}"
    with translated(doing):
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o000))
    try:
        fd = new()
        try:
            with translated(doing):
                libc.bind(f"/proc/self/fd/{fd}", path)
        finally:
            os.close(fd)
    except KernelError:
        Path(path).unlink()
        raise


def delete(path: str) -> None:
    """Remove the namespace that ``create`` made. Processes and sockets inside keep it alive until they end."""
    with translated(f"remove the network namespace {path}"):
        try:
            libc.unmount(path)
        except OSError as error:
            if error.errno != errno.EINVAL:  # not a mount point: only the empty file is left
                raise
        Path(path).unlink()
