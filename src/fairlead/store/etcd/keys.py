"""Keys: where in etcd what is kept, so that ``etcdctl get --prefix /fairlead/`` reads like a directory.

::

    /fairlead/networks/blue                       an object without a namespace
    /fairlead/networkpolicies/default/web         one with a namespace
    /fairlead/.holds/node-1                       who is alive (presence)
    /fairlead/.commits/9f0c…/0                    what makes a commit that was sent twice happen once (slots)

What is no plain character of a name is percent-encoded, a slash above all. So each object has one key, and each key names one
object or none.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from fairlead.model.errors import Invalid
from fairlead.store.base import Key

PREFIX: Final = "/fairlead"

_SAFE = ":@+,="
"""Left as they are beside letters, digits and ``_.-~``: what names hold here, such as ``web:eth0``."""

_PREFIX = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+")
_LONGEST = 200
_HOLDS, _COMMITS = ".holds", ".commits"


class Span(NamedTuple):
    """Every key from ``first`` up to, and without, ``end``."""

    first: bytes
    end: bytes


class Keys:
    """The keys below one prefix."""

    def __init__(self, prefix: str = PREFIX) -> None:
        """``prefix``: such as ``/fairlead``; two clusters of nodes in one etcd have two."""
        if len(prefix) > _LONGEST or not _PREFIX.fullmatch(prefix):
            said = "must be /name or /name/name, of letters, digits, '.', '_' and '-'"
            raise Invalid(f"{prefix[:80]!r} {said}, at most {_LONGEST} characters", field="prefix")
        self.prefix = prefix

    def object(self, plural: str, key: Key) -> bytes:
        """The key of an object."""
        return "/".join((self.prefix, plural, *map(_quoted, key if key[0] else key[1:]))).encode()

    def objects(self, plural: str | None) -> Span:
        """The keys of all objects of a kind, or of every kind: a plural begins with a letter, what is ours with a dot."""
        if plural is None:
            return Span(f"{self.prefix}/a".encode(), f"{self.prefix}/{{".encode())
        return _below(f"{self.prefix}/{plural}/")

    def named(self, key: bytes) -> tuple[str, Key] | None:
        """The object that a key names; None if it names none."""
        try:
            parts = key.decode("ascii").removeprefix(f"{self.prefix}/").split("/")
        except UnicodeDecodeError:
            return None
        if not 2 <= len(parts) <= 3:
            return None
        plural, *inside = parts
        namespace, name = map(unquote, ("", *inside)[-2:])
        named = (plural, (namespace, name))
        return named if self.object(*named) == key else None

    def hold(self, name: str) -> bytes:
        """The key of a name that is held."""
        return f"{self.prefix}/{_HOLDS}/{_quoted(name)}".encode()

    def holds(self) -> Span:
        """The keys of all names that are held."""
        return _below(f"{self.prefix}/{_HOLDS}/")

    def held(self, key: bytes) -> str:
        """The name that a key of ``holds`` stands for."""
        return unquote(key.decode("ascii", "replace").rpartition("/")[2])

    def slot(self, client: str, number: int) -> bytes:
        """The key of one of a client's slots."""
        return f"{self.prefix}/{_COMMITS}/{client}/{number}".encode()


def _quoted(part: str) -> str:
    return quote(part, safe=_SAFE)


def _below(prefix: str) -> Span:
    """All that begins with ``prefix``, which ends in a slash: up to the next character after it."""
    return Span(prefix.encode(), f"{prefix[:-1]}0".encode())
