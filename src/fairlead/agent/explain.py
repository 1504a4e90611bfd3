"""Why one may talk to another, or may not: a question in words, answered from the book that the kernel was written from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from fairlead.api.schema import Asked, Explained, Explaining
from fairlead.datapath.base import Answer, Question
from fairlead.desired import names
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid, Missing
from fairlead.policy.book import Book
from fairlead.policy.explain import Explanation, Step

_WORDS = ("from", "to", "protocol", "port")
_WITH_PORTS = ("tcp", "udp", "sctp")
_PROTOCOLS = (*_WITH_PORTS, "icmp")
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_ICMP = {4: 1, 6: 58}
_TRIES = 3
"""How often book and kernel are compared: between the two questions policies may have changed."""
Ask = Callable[[Question], Awaitable[Answer | None]]


async def explain(book: Book, endpoints: Iterable[Endpoint], query: Mapping[str, str], ask: Ask) -> Explained:
    """Answer ``from``, ``to`` (a container, namespace/container or address), ``protocol`` and ``port``.

    ``ask`` puts the same question to the kernel, for each end that is a container here.
    """
    for word in query:
        if word not in _WORDS:
            raise Invalid(f"there is no such word; there are: {', '.join(_WORDS)}", field=word[:40])
    everybody = list(endpoints)
    source, destination = (_party(everybody, query.get(side, ""), side) for side in ("from", "to"))
    protocol = query.get("protocol", "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise Invalid(f"{protocol[:40]!r} is not one of {', '.join(_PROTOCOLS)}", field="protocol")
    port = _port(query.get("port", ""), protocol)
    for _ in range(_TRIES):
        told = book.explain(source, destination, protocol, port)
        kernel = await _kernel(book, told, protocol, port, ask)
        if all(one.agrees for one in kernel):
            break
    return Explained(
        allowed=told.allowed,
        steps=tuple(
            Explaining(direction=one.direction.lower(), text=one.text, policy=one.policy, allows=one.allows)
            for one in told.steps
        ),
        kernel=kernel,
    )


async def _kernel(book: Book, told: Explanation, protocol: str, port: int, ask: Ask) -> tuple[Asked, ...]:
    """What the kernel says at both ends, beside what was told."""
    source, destination = told.source.address, told.destination.address
    if source is None or destination is None:
        return ()
    number = _NUMBERS.get(protocol) or _ICMP[source.family]
    found = []
    for direction, end in (("egress", told.source), ("ingress", told.destination)):
        link = names.veth(end.endpoint)
        asked = Question(link, direction == "egress", source, destination, number, port)
        if end.endpoint and (answer := await ask(asked)):
            verdict = next(one for one in reversed(told.steps) if one.direction == direction)
            found.append(_beside(book, direction, link, answer, verdict))
    return tuple(found)


def _beside(book: Book, direction: str, link: str, answer: Answer, verdict: Step) -> Asked:
    rule = book.rules().get(answer.rule)
    return Asked(
        direction=direction,
        link=link,
        allowed=answer.allowed,
        reason=answer.reason,
        rule=f"{rule.policy} {rule.direction}[{rule.index}]" if rule else "",
        agrees=answer.allowed == verdict.allows and rule == verdict.rule,
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
