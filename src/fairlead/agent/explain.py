"""Why one may talk to another, or may not: a question in words, answered from the book that the kernel was written from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.api.schema import Asked, Elsewhere, Explained, Explaining
from fairlead.datapath.base import Answer, Question
from fairlead.desired import names
from fairlead.model.address import Address, PortName
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid, Missing
from fairlead.model.node import Node
from fairlead.policy.book import Book
from fairlead.policy.explain import Explanation, Party, Step
from fairlead.policy.ports import PROTOCOLS

HOST = "host"
"""How this node is called, as among the flows."""

_WORDS = ("from", "to", "protocol", "port", "front", "front_port")
_KNOWN = (*PROTOCOLS, "icmp")
_ICMP = {4: 1, 6: 58}
_TRIES = 3
"""How often book and kernel are compared: between the two questions policies may have changed."""
Ask = Callable[[Question], Awaitable[Answer | None]]
Who = Endpoint | Address


class Town(NamedTuple):
    """Whom a question can be about: endpoints, this node, nodes by name, and whether an endpoint shares this node's network."""

    endpoints: Iterable[Endpoint]
    here: Node
    nodes: Mapping[str, Node]
    shares: Callable[[Endpoint], bool]


class Port(NamedTuple):
    """What is asked for: the protocol, a port, and the address and port of the service that leads there, if one does."""

    protocol: str
    port: int
    front: tuple[Address, int] | None


async def explain(book: Book, town: Town, query: Mapping[str, str], ask: Ask) -> Explained:
    """Answer ``from``, ``to`` (a container, namespace/container, address or host), ``protocol`` and ``port``, or its name.

    Without both of these it is told which ports there are. ``ask`` puts the same question to the kernel, for each end that is a
    container of this node. ``front`` and ``front_port``: the address and port of the service that leads there.
    """
    for word in query:
        if word not in _WORDS:
            raise Invalid(f"there is no such word; there are: {', '.join(_WORDS)}", field=word[:40])
    asks, asked = (party(town, query.get(side, ""), side) for side in ("from", "to"))
    source, destination = _stand(asks, asked, town, "from"), _stand(asked, asks, town, "to")
    protocol, port = _asked(query, destination)
    front = _front(query)
    kernel: tuple[Asked, ...] = ()
    for _ in range(_TRIES):
        told = book.explain(source, destination, protocol, port, front)
        kernel = await _kernel(book, told, Port(protocol, port, front), town.here.name, ask) if protocol else ()
        if all(one.agrees for one in kernel):
            break
    return Explained(
        allowed=told.allowed,
        steps=tuple(
            Explaining(direction=one.direction.lower(), text=one.text, policy=one.policy, allows=one.allows)
            for one in told.steps
        ),
        kernel=kernel,
        elsewhere=tuple(_elsewhere(told, town.here.name, Port(protocol, port, front))) if protocol else (),
        from_identity=known_by(book.number(told.source)),
        to_identity=known_by(book.number(told.destination)),
    )


def known_by(number: int) -> str:
    """The number of a class as people are shown it; empty for those of whom policies know nothing."""
    return f"{number:016x}" if number else ""


async def _kernel(book: Book, told: Explanation, at: Port, here: str, ask: Ask) -> tuple[Asked, ...]:
    """What the kernel says at the ends on this node, beside what was told."""
    protocol, port, front = at
    source, destination = told.source.address, told.destination.address
    if source is None or destination is None:
        return ()
    number = PROTOCOLS.get(protocol) or _ICMP[source.family]
    found = []
    for direction, end in (("egress", told.source), ("ingress", told.destination)):
        if direction == "ingress" and told.source.hosts(told.destination):
            continue  # what the node itself sends is known by where it comes from, and no question comes from there
        link = names.veth(end.endpoint)
        asked = Question(link, direction == "egress", source, destination, number, port, front)
        if end.endpoint and not _is_far(end, here) and (answer := await ask(asked)):
            verdict = next(one for one in reversed(told.steps) if one.direction == direction)
            found.append(_beside(book, direction, link, answer, verdict))
    return tuple(found)


def _elsewhere(told: Explanation, here: str, at: Port) -> Iterator[Elsewhere]:
    """The ends on other nodes, and how the agents there are asked: by addresses, which mean the same everywhere."""
    protocol, port, front = at
    source, destination = told.source.address, told.destination.address
    if source is None or destination is None:
        return
    query = {"from": str(source), "to": str(destination), "protocol": protocol, **({"port": str(port)} if port else {})}
    query |= {"front": str(front[0]), "front_port": str(front[1])} if front else {}
    for direction, end in (("egress", told.source), ("ingress", told.destination)):
        if _is_far(end, here):
            yield Elsewhere(node=end.home, direction=direction, query=query)


def _is_far(end: Party, here: str) -> bool:
    """Whether it is a container of another node."""
    return bool(end.endpoint) and end.home not in {"", here}


def _beside(book: Book, direction: str, link: str, answer: Answer, verdict: Step) -> Asked:
    rule = book.rules().get(answer.rule)
    return Asked(
        direction=direction,
        link=link,
        allowed=answer.allowed,
        reason=answer.reason,
        rule=rule.title if rule else "",
        agrees=answer.allowed == verdict.allows and rule == verdict.rule,
    )


def party(town: Town, word: str, field: str) -> Endpoint | Address | Node:
    """Who is meant by a word."""
    if not word:
        raise Invalid("say who: a container, namespace/container, an address, or host", field=field)
    try:
        return Address(word)
    except ValueError:
        namespace, _, name = word.rpartition("/")
    found = {
        (one.spec.node, one.container): one
        for one in town.endpoints
        if name in {one.display, one.container} and namespace in {"", one.metadata.namespace}
    }
    if not found and word in {HOST, town.here.name}:
        return town.here
    if not found and word in town.nodes:
        return town.nodes[word]
    if not found:
        raise Missing(f"there is no container {word[:80]!r}", field=field)
    if len(found) > 1:
        several = ", ".join(sorted(_told(one) for one in found.values())[:10])
        raise Conflict(f"{word[:80]!r} is the name of several containers: {several}; say which", field=field)
    return next(iter(found.values()))


def _told(one: Endpoint) -> str:
    told = f"{one.metadata.namespace}/{one.display}"
    return f"{told} on {one.spec.node} ({one.container})" if one.spec.node else told


def _stand(one: Endpoint | Address | Node, other: Endpoint | Address | Node, town: Town, field: str) -> Who:
    """Who stands for a party: of a node, and of a container that has no address but this node's, an address of the node."""
    if isinstance(one, Address) or (isinstance(one, Endpoint) and one.spec.addresses):
        return one
    if isinstance(one, Endpoint) and not town.shares(one):
        raise Invalid(f"{one.display} has no address on network {one.spec.network}", field=field)
    node = town.here if isinstance(one, Endpoint) else one
    families = {at.family for at in addresses(other)}
    fitting = [at for at in node.addresses if at.family in families] or list(node.addresses)
    if not fitting:
        raise Invalid(f"node {node.name} has no address by which others reach it", field=field)
    return fitting[0]


def addresses(one: Endpoint | Address | Node) -> tuple[Address, ...]:
    """Those that a party has."""
    if isinstance(one, Endpoint):
        return tuple(at.address for at in one.spec.addresses)
    return (one,) if isinstance(one, Address) else one.addresses


def _front(query: Mapping[str, str]) -> tuple[Address, int] | None:
    """The address and port of the service, if one is said."""
    word, port = query.get("front", ""), query.get("front_port", "")
    if not word:
        return None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise Invalid(f"{port[:40]!r} is no port; say the service's, from 1 to 65535", field="front_port")
    try:
        return Address(word), int(port)
    except ValueError as problem:
        raise Invalid(str(problem), field="front") from None


def _asked(query: Mapping[str, str], destination: Who) -> tuple[str, int]:
    """Protocol and port as they are said, or as the container that is asked names the port; "" and 0 if it is none."""
    protocol, word = query.get("protocol", "").lower(), query.get("port", "")
    if protocol and protocol not in _KNOWN:
        raise Invalid(f"{protocol[:40]!r} is not one of {', '.join(_KNOWN)}", field="protocol")
    if not word and protocol in PROTOCOLS:
        raise Invalid(f"say which port of {protocol}", field="port")
    if not word or protocol == "icmp":
        return protocol, 0
    if word.isascii() and word.isdigit() and len(word) <= 5 and 1 <= int(word) <= 65535:
        return protocol or "tcp", int(word)
    try:
        name = PortName(word)
    except ValueError:
        raise Invalid(f"{word[:40]!r} is neither a port from 1 to 65535 nor a port's name", field="port") from None
    named = destination.spec.named_ports if isinstance(destination, Endpoint) else {}
    port = named.get(name)
    if port is None or protocol not in {"", port.protocol}:
        known = ", ".join(f"{one}={at}" for one, at in named.items()) or "none"
        raise Missing(f"there is no {protocol} port {name} there; there are: {known}".replace("  ", " "), field="port")
    return port.protocol, port.number
