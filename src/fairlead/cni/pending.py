"""DELs that the client could not deliver, each a file that holds the whole HTTP request (plugin.c, ``remember``).

Those that come before the agent knows what there is are put beside them.

The folder is the agent's own (root, 0700), but a file in it may be anything: a crash, a full disk, a curious person. What is
no request is said so, never raised. Names beginning with a dot are being written.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from fairlead.api import wire
from fairlead.model.address import ContainerID, InterfaceName

from .call import HEADERS, from_headers

_turn = itertools.count()
_LARGEST = 2 << 20
_PREFIX = 200
"""Characters of a container's id that the name of its file holds."""


def directory() -> Path:
    """Where the client puts them."""
    return wire.state_dir() / "pending-del"


def files(folder: Path, container: str = "", interface: str = "") -> Iterator[Path]:
    """The remembered requests, oldest first; of one attachment if it is named, or of others whose files are named alike."""
    prefix = f"{container[:_PREFIX]}.{interface}." if container else ""
    try:
        with os.scandir(folder) as entries:
            named = [entry for entry in entries if entry.name.startswith(prefix) and not entry.name.startswith(".")]
            found = [Path(entry.path) for entry in named if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return
    yield from sorted(found, key=_age)


def read(path: Path) -> tuple[dict[str, str], bytes] | None:
    """The environment and the configuration in ``path``; None if it holds no request. ``OSError`` if it cannot be read."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
            return None
        head, end, body = file.read(_LARGEST).partition(b"\r\n\r\n")
    first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if not end or not first.startswith("POST /cni ") or headers.get("content-length") != str(len(body)):
        return None
    return from_headers(headers), body


def write(environment: Mapping[str, str], body: bytes) -> None:
    """Remember one, as the client does."""
    folder = directory()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    container, interface = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    ContainerID(container), InterfaceName(interface)
    name = f"{container[:_PREFIX]}.{interface}.{os.getpid()}-{next(_turn)}"
    lines = [f"{HEADERS[key]}: {text}" for key, text in environment.items() if key in HEADERS]
    head = "\r\n".join(["POST /cni HTTP/1.0", *lines, f"content-length: {len(body)}", "", ""])
    hidden = folder / f".{name}"
    with hidden.open("wb") as file:
        file.write(head.encode("utf-8", "surrogateescape") + body)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(folder / name)


def remove(path: Path) -> None:
    """Forget one; it may be gone already."""
    path.unlink(missing_ok=True)


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.lstat().st_mtime_ns, path.name
    except OSError:
        return 0, path.name
