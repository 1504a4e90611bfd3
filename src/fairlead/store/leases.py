r"""Leases: host-local's files, one directory a network, so that both plugins can work on the same ones.

::

    /var/lib/cni/networks/<network>/
        10.88.0.5             the lease of an address: "<container id>\r\n<interface>", from old versions the id alone
        last_reserved_ip.0    the address that was given last out of range set 0
        lock                  locked (flock) by whoever reads or writes the others

What is here was written by several programs and perhaps by people: a file that is no lease (huge, binary, a directory, a
name that is no address) harms nothing; if its name is an address, that address counts as held, and ``Book.odd`` says why.

A lease appears whole or not at all, even if power fails: it is written beside, synced, and linked to its name, which also
fails if the name exists, as host-local's O_EXCL does. The lock is handed in, because only the kernel layer may make one.

Our leases carry the boot in which they were given, as an attribute of the file that host-local does not see. No container
outlives a boot, so those of an earlier one are removed when the book is opened; host-local's own, and those on a file system
without attributes, stay until DEL or GC.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from fairlead.kit import fault
from fairlead.model.address import Address
from fairlead.model.errors import Conflict, Failed, Forbidden, Problem, Unavailable

Owner = tuple[str, str]
"""(container id, interface name); the name is empty in leases of old versions."""

Lock = Callable[[str], AbstractContextManager[None]]
"""Holds an exclusive flock of the file with this path, which it makes if need be, while the context lasts."""

_BREAK = "\r\n"
_LAST = "last_reserved_ip."
_LOCK = "lock"
_NEW = ".fairlead.new"
_BOOT = "user.fairlead.boot"
_MAX = 1024
"""Bytes of a lease: an id has at most 255, an interface name 15."""


class Leases:
    """The leases of one network, on disk."""

    def __init__(self, data_dir: str, network: str, lock: Lock, boot: str = "") -> None:
        """``boot``: what tells this boot of this machine from all others; left out, leases are not marked."""
        self.path = Path(data_dir, network)
        self._lock, self._boot = lock, boot

    @contextmanager
    def locked(self) -> Iterator[Book]:
        """Everything there is, while nobody else can change it."""
        with _translated(self.path):
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        with self._lock(str(self.path / _LOCK)):
            with _translated(self.path):
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield Book(self.path, fd, self._boot)
            finally:
                os.close(fd)


class Book:
    """The leases while they are locked. Made by ``Leases.locked``."""

    def __init__(self, path: Path, fd: int, boot: str) -> None:
        self.path, self._fd, self._boot = path, fd, boot
        self._files: dict[Address, str] = {}
        self._owners: dict[Address, Owner] = {}
        self._odd: list[str] = []
        with _translated(path):
            for name in sorted(os.listdir(fd)):
                self._read(name)

    @property
    def owners(self) -> Mapping[Address, Owner]:
        """Who holds which address; nobody can be told of an unreadable lease: ("", "")."""
        return self._owners

    @property
    def odd(self) -> tuple[str, ...]:
        """The files that are no lease and nothing else known, each with the reason."""
        return tuple(self._odd)

    def last(self, count: int) -> Mapping[int, Address]:
        """The addresses given last out of the first ``count`` range sets, where known."""
        found = {order: self._content(f"{_LAST}{order}")[0] for order in range(count)}
        return {order: address for order, text in found.items() if text and (address := _address(text))}

    def of(self, owner: Owner) -> tuple[Address, ...]:
        """What an owner holds: what names his interface too, else what old versions wrote."""
        exact = tuple(address for address, who in self._owners.items() if who == owner)
        return exact or tuple(address for address, who in self._owners.items() if who == (owner[0], ""))

    def reserve(self, owner: Owner, addresses: Iterable[tuple[int, Address]]) -> None:
        """Write leases, each address with the order of its range set: all or none."""
        made: list[Address] = []
        try:
            with _translated(self.path):
                for order, address in addresses:
                    self._write(address, _BREAK.join(owner))
                    made.append(address)
                    self._replace(f"{_LAST}{order}", address)
        except BaseException:
            self._remove(made)
            raise
        self._owners.update((address, owner) for address in made)

    def release(self, owner: Owner) -> tuple[Address, ...]:
        """Remove an owner's leases; that there are none is no error."""
        return self._remove(self.of(owner))

    def missing(self, keep: Collection[Owner]) -> dict[Address, Owner]:
        """The leases of all owners but these. Unreadable ones are not among them: nobody can tell whose they are."""
        containers = {container for container, _ in keep}
        return {
            address: who
            for address, who in self._owners.items()
            if who != ("", "") and (who not in keep if who[1] else who[0] not in containers)
        }

    def remove(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """Remove these leases, whoever holds them."""
        return self._remove(addresses)

    def _read(self, name: str) -> None:
        address = _address(name)
        if address is None:
            if name not in {_LOCK, _NEW} and not name.startswith(_LAST):
                self._odd.append(f"{name!r:.100} is not named by an address")
            return
        text, boot = self._content(name)
        if boot and self._boot and _machine(boot) == _machine(self._boot) and boot != self._boot:
            os.unlink(name, dir_fd=self._fd)
            return
        owner = _owner(text)
        if owner is None:
            self._odd.append(f"{name} does not say who holds it")
        self._files[address] = name
        self._owners[address] = owner or ("", "")

    def _content(self, name: str) -> tuple[str | None, str]:
        """A small regular file's text, None of anything else, and its boot. Opening a pipe or a device here must not wait."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            return None, ""
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None, ""
            data, boot = os.read(fd, _MAX + 1), _boot(fd)
        except OSError:
            return None, ""
        finally:
            os.close(fd)
        try:
            return (data.decode() if len(data) <= _MAX else None), boot
        except UnicodeDecodeError:
            return None, boot

    def _write(self, address: Address, text: str) -> None:
        self._fresh(text, sync=True)
        fault.point("lease.written")
        try:
            os.link(_NEW, address, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except FileExistsError:
            raise Conflict(f"{address} is held already: {self.path / address} exists") from None
        finally:
            os.unlink(_NEW, dir_fd=self._fd)
        fault.point("lease.linked")
        self._files[address] = str(address)

    def _replace(self, name: str, text: str) -> None:
        self._fresh(text, sync=False)
        os.rename(_NEW, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        fault.point("lease.noted")

    def _fresh(self, text: str, *, sync: bool) -> None:
        """Write ``text`` to a file of no meaning. The lock is held: what a crash left under this name is nobody's."""
        with suppress(FileNotFoundError):
            os.unlink(_NEW, dir_fd=self._fd)
        fd = os.open(_NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            os.write(fd, text.encode())
            if sync and self._boot:
                with suppress(OSError):  # a file system without attributes
                    os.setxattr(fd, _BOOT, self._boot.encode())
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _remove(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        gone = []
        with _translated(self.path):
            for address in tuple(addresses):
                with suppress(FileNotFoundError):
                    os.unlink(self._files[address], dir_fd=self._fd)
                del self._files[address]
                self._owners.pop(address, None)
                gone.append(address)
                fault.point("lease.removed")
        return tuple(gone)


def _address(name: str) -> Address | None:
    try:
        return Address(name)
    except ValueError:
        return None


def _boot(fd: int) -> str:
    try:
        return os.getxattr(fd, _BOOT).decode("ascii", "replace")
    except OSError:
        return ""


def _machine(boot: str) -> str:
    return boot.partition("/")[0]


def _owner(text: str | None) -> Owner | None:
    container, _, interface = (text or "").strip().partition(_BREAK)
    if not container.isprintable() or not interface.isprintable() or not container:
        return None
    return container, interface


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _problem(path, error) from error


def _problem(path: Path, error: OSError) -> Problem:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Unavailable(f"{path}: the disk is full and no address was given out; free space on it and try again")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return Forbidden(f"{path} cannot be written: {error.strerror}; make it writable, or set ipam.dataDir to what is")
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return Failed(f"{path} is not a directory; set ipam.dataDir to one, or remove what is there")
    return Failed(f"{path}: {error.strerror or error}")
