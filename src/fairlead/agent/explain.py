"""Why one may talk to another, or may not: a question in words, answered from the book that the kernel was written from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairlead.api.schema import Explained, Explaining
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid, Missing
from fairlead.policy.book import Book

_WORDS = ("from", "to", "protocol", "port")
_WITH_PORTS = ("tcp", "udp", "sctp")
_PROTOCOLS = (*_WITH_PORTS, "icmp")


def explain(book: Book, endpoints: Iterable[Endpoint], query: Mapping[str, str]) -> Explained:
    """Answer ``from``, ``to`` (a container, namespace/container or address), ``protocol`` and ``port``."""
    for word in query:
        if word not in _WORDS:
            raise Invalid(f"there is no such word; there are: {', '.join(_WORDS)}", field=word[:40])
    everybody = list(endpoints)
    source, destination = (_party(everybody, query.get(side, ""), side) for side in ("from", "to"))
    protocol = query.get("protocol", "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise Invalid(f"{protocol[:40]!r} is not one of {', '.join(_PROTOCOLS)}", field="protocol")
    told = book.explain(source, destination, protocol, _port(query.get("port", ""), protocol))
    return Explained(
        allowed=told.allowed,
        steps=tuple(
            Explaining(direction=one.direction.lower(), text=one.text, policy=one.policy, allows=one.allows)
            for one in told.steps
        ),
    )


def _party(endpoints: Iterable[Endpoint], word: str, field: str) -> Endpoint | Address:
    if not word:
        raise Invalid("say who: a container, namespace/container or an address", field=field)
    try:
        return Address(word)
    except ValueError:
        namespace, _, name = word.rpartition("/")
    found = {
        one.container: one
        for one in endpoints
        if name in {one.display, one.container} and namespace in {"", one.metadata.namespace}
    }
    if not found:
        raise Missing(f"there is no container {word[:80]!r}", field=field)
    if len(found) > 1:
        several = ", ".join(sorted(f"{one.metadata.namespace}/{one.display}" for one in found.values())[:10])
        raise Conflict(f"{word[:80]!r} is the name of several containers: {several}; say which", field=field)
    return next(iter(found.values()))


def _port(word: str, protocol: str) -> int:
    if protocol not in _WITH_PORTS:
        return 0
    if not (word.isascii() and word.isdigit()) or len(word) > 5 or not 1 <= int(word) <= 65535:
        raise Invalid(f"{word[:40]!r} is not a port from 1 to 65535", field="port")
    return int(word)
