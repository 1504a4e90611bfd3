"""Explaining: the verdict on one connection, narrated with every policy and rule that had a say in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fairlead.desired.state import Span
from fairlead.model.address import Address
from fairlead.model.policy import PolicyPort, PolicyType

from .compile import PROTOCOLS, spans, verdict
from .identity import Class, Face
from .select import Clause, Prepared, Rule


class Party(NamedTuple):
    """One end: its name, the address that counts, its class, and the policies that select it, sorted; None: no endpoint."""

    name: str
    address: Address | None
    of: Class
    selecting: list[Prepared] | None
    endpoint: str = ""
    """The endpoint's own name, if it is one."""


class Step(NamedTuple):
    """One line of the story. ``policy`` and ``rule`` are what it speaks of, if one; ``allows`` is None if it is no verdict."""

    direction: str
    text: str
    policy: str = ""
    rule: Rule | None = None
    allows: bool | None = None


class Explanation(NamedTuple):
    """Whether the connection is allowed, and why. The last step is the verdict, with the rule that decided if one did."""

    allowed: bool
    steps: tuple[Step, ...]
    source: Party
    destination: Party


def explain(source: Party, destination: Party, protocol: str, port: int) -> Explanation:
    """Whether ``source`` may open a connection to ``port`` of ``destination``: its egress first, then the other's ingress."""
    steps: list[Step] = []
    ends = ((PolicyType.EGRESS, source, destination), (PolicyType.INGRESS, destination, source))
    verdicts: list[Step] = []
    itself = source.address is not None and source.address == destination.address
    for direction, subject, peer in ends:
        steps += _itself(direction, subject) if itself else _narrate(direction, subject, peer, protocol, port)
        verdicts.append(steps[-1])
    allowed = all(one.allows for one in verdicts)
    deciding = next((one for one in verdicts if not one.allows), verdicts[1] if verdicts[1].rule else verdicts[0])
    way = f"{source.name} to {destination.name}, {_what(protocol, port)}"
    final = f"{way}: {'allowed' if allowed else f'denied by {deciding.direction}'}"
    return Explanation(allowed, (*steps, Step("", final, deciding.policy, deciding.rule, allowed)), source, destination)


def _itself(direction: PolicyType, subject: Party) -> Iterator[Step]:
    yield Step(direction.value.lower(), f"{subject.name} always reaches itself", allows=True)


def _narrate(direction: PolicyType, subject: Party, peer: Party, protocol: str, port: int) -> Iterator[Step]:
    """One direction; its last step is its verdict."""
    way = direction.value.lower()
    if subject.selecting is None:
        yield Step(way, f"{subject.name} is no endpoint here: no policy applies to it", allows=True)
        return
    policies = [one for one in subject.selecting if direction in one.directions]
    if not policies:
        yield Step(way, f"{subject.name} is not isolated: no policy selects it for {way}", allows=True)
        return
    face = Face.of(peer.of)
    meant: list[Clause] = []
    for policy in policies:
        clauses = policy.directions[direction].clauses
        none = "" if clauses else f" and allows no {way}"
        yield Step(way, f"policy {policy.title} selects {subject.name}{none}", policy.title)
        for clause in clauses:
            meets = clause.everybody or any(one.matches(face) for one in clause.terms)
            if meets:
                meant.append(clause)
            yield Step(way, _reason(clause, peer, protocol, port, meets=meets), policy.title, clause.rule)
    yield _verdict(way, subject, meant, verdict(spans(meant), _number(protocol), port))


def _verdict(way: str, subject: Party, meant: list[Clause], span: Span) -> Step:
    rule = next((one.rule for one in meant if span.allow and one.number == span.rule), None)
    if rule is None:
        return Step(way, f"{subject.name} is isolated and no rule allows it", allows=False)
    return Step(way, f"allowed by rule {rule.index} of {rule.policy}", rule.policy, rule, allows=True)


def _reason(clause: Clause, peer: Party, protocol: str, port: int, *, meets: bool) -> str:
    """Whether one rule matches, and if not, what of it does not."""
    head = f"rule {clause.rule.index}"
    if not meets:
        return f"{head} does not match: none of its peers is {peer.name}"
    if _allows(clause, protocol, port):
        return f"{head} matches"
    listed = ", ".join(_port(one) for one in clause.ports)
    return f"{head} does not match: it allows {listed}, not {_what(protocol, port)}"


def _allows(clause: Clause, protocol: str, port: int) -> bool:
    return verdict(spans((clause,)), _number(protocol), port).allow


def _number(protocol: str) -> int:
    """The number by which spans know a protocol; of those without ports, 0."""
    return next((number for one, number in PROTOCOLS.items() if one.value == protocol.upper()), 0)


def _what(protocol: str, port: int) -> str:
    return f"{protocol.lower()} port {port}" if _number(protocol) else protocol.lower()


def _port(one: PolicyPort) -> str:
    first, last = one.span
    protocol = one.protocol.lower()
    if one.port is None:
        return f"every {protocol} port"
    return f"{protocol} {first}" if first == last else f"{protocol} {first}-{last}"
