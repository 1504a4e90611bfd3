"""Which network namespace a word means: a container's name or id, a path, a process, or a name of ``ip netns``.

One namespace is one container whatever it was called: its id is made from the kernel's cookie for it, or is the one that
the agent already knows it by.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fairlead.cli.fault import remedy
from fairlead.kernel import netns
from fairlead.kernel.errors import Gone, KernelError, Refused
from fairlead.model.address import ContainerID
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Forbidden, Invalid, Missing

from . import record
from .order import Target

FIELD = "target"

_OWN = Path("/proc/self/ns/net")


def find(word: str, endpoints: Sequence[Endpoint]) -> Target:
    """The namespace that ``word`` means, which must be there."""
    if known := _known(word, endpoints):
        if not known.path:
            raise Invalid(f"{known.display} shares the host's network and cannot be attached", field=FIELD)
        if Path(known.path).exists():
            return known
    path, display = _path(word)
    cookie = _cookie(path)
    if cookie == _cookie(_OWN):
        raise Invalid(f"{path} is the host's own network namespace", field=FIELD)
    known = _same(path, cookie, endpoints)
    return replace(known, path=str(path)) if known else Target(ContainerID(f"ns-{cookie}"), str(path), display)


def container(word: str, endpoints: Sequence[Endpoint]) -> Target:
    """The container that ``word`` means, also one whose namespace is gone but whose endpoints are known."""
    return _known(word, endpoints) or find(word, endpoints)


def _known(word: str, endpoints: Sequence[Endpoint]) -> Target | None:
    if own := record.find(word):
        return Target(ContainerID(own.id), own.sandbox, own.name)
    named = [one for one in endpoints if word in {one.display, one.container}]
    close = named or [one for one in endpoints if len(word) >= 3 and one.container.startswith(word)]
    ids = sorted({one.container for one in close})
    if len(ids) > 1:
        raise Conflict(f"{word!r} means several containers: {', '.join(ids)}; write an id", field=FIELD)
    return Target(close[0].spec.container, close[0].spec.sandbox.path, close[0].display) if close else None


def _path(word: str) -> tuple[Path, str]:
    """Where the namespace lies, and what to call it."""
    if word.isdecimal():
        return Path(f"/proc/{word}/ns/net"), _program(word)
    if "/" in word:
        return Path(word).absolute(), Path(word).name
    if (path := Path(netns.NAMED) / word).exists():
        return path, word
    raise remedy(
        Missing(f"{word!r} is no container, no name of ip netns, no PID and no path of a network namespace", field=FIELD),
        "fairlead ps, or ip netns list",
    )


def _program(pid: str) -> str:
    try:
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()}-{pid}"
    except OSError:
        raise Missing(f"there is no process {pid}", field=FIELD) from None


def _same(path: Path, cookie: int, endpoints: Sequence[Endpoint]) -> Target | None:
    """The container that is known to have this namespace already."""
    for one in endpoints:
        if one.spec.sandbox.cookie == cookie:
            return Target(one.spec.container, one.spec.sandbox.path, one.display)
    for own in record.every():
        if own.sandbox and Path(own.sandbox).exists() and path.samefile(own.sandbox):
            return Target(ContainerID(own.id), own.sandbox, own.name)
    return None


def _cookie(path: Path) -> int:
    try:
        fd = netns.open_path(str(path))
        try:
            return netns.cookie(fd)
        finally:
            os.close(fd)
    except Gone as problem:
        raise Missing(str(problem), field=FIELD) from None
    except Refused as problem:
        raise remedy(Forbidden(str(problem), field=FIELD), "sudo") from None
    except KernelError as problem:
        raise Invalid(str(problem), field=FIELD) from None
