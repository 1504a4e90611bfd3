"""Explaining: the verdict on one connection, narrated with every policy and rule that had a say in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import NamedTuple

from fairlead.desired.state import Span
from fairlead.model.address import Address, NamedPort
from fairlead.model.cluster import Action
from fairlead.model.policy import PolicyType

from . import reach
from .compile import Said, spans, verdict
from .identity import Class, Face
from .ports import NAMES, PROTOCOLS, Named, Ports
from .reach import EVERYTHING, Reach
from .select import Clause, Layer, Prepared, Rule


class Party(NamedTuple):
    """One end: its name, the address that counts, its class, and the policies for it, in their order; None: no endpoint."""

    name: str
    address: Address | None
    of: Class
    selecting: list[Prepared] | None = None
    endpoint: str = ""
    """The endpoint's own name, if it is one."""
    named: Mapping[str, NamedPort] = {}
    """Its named ports."""
    home: str = ""
    """The node that an endpoint is on, or whose address it is."""

    def hosts(self, other: Party) -> bool:
        """Whether it is the node that the other, an endpoint, is on."""
        return self.selecting is None and other.selecting is not None and bool(self.home) and self.home == other.home


class Step(NamedTuple):
    """One line of the story. ``policy`` and ``rule`` are what it speaks of, if one; ``allows`` is None if it is no verdict."""

    direction: str
    text: str
    policy: str = ""
    rule: Rule | None = None
    allows: bool | None = None
    reach: Reach = EVERYTHING
    """Of a verdict on no port in particular, the ports."""


class Explanation(NamedTuple):
    """Whether the connection is allowed, and why. The last step is the verdict, with the rule that decided if one did."""

    allowed: bool
    steps: tuple[Step, ...]
    source: Party
    destination: Party


class Asked(NamedTuple):
    """What is asked of one direction: whether ``subject`` may, with ``peer``, at a port, or, without one, at which ports."""

    direction: PolicyType
    subject: Party
    peer: Party
    protocol: str
    port: int
    front: tuple[Party, int] | None = None
    """The address and port of the service that led to the peer, if one did."""

    @property
    def whole(self) -> bool:
        """Whether it is asked what is allowed at all."""
        return not self.protocol

    @property
    def way(self) -> str:
        """The direction in lower case."""
        return self.direction.value.lower()

    @property
    def number(self) -> int:
        """The number by which spans know the protocol; of those without ports, 0."""
        return PROTOCOLS.get(self.protocol.lower(), 0)

    @property
    def named(self) -> Named:
        """The named ports of who is asked."""
        return self.subject.named if self.direction is PolicyType.INGRESS else self.peer.named

    @property
    def what(self) -> str:
        """The port, as people say it."""
        return what(self.protocol, self.port)


def explain(
    source: Party, destination: Party, protocol: str = "", port: int = 0, front: tuple[Party, int] | None = None
) -> Explanation:
    """Whether ``source`` may open a connection to ``port`` of ``destination``: its egress first, then the other's ingress.

    Without a ``protocol``: at which ports it may. ``front``: the address and port of a service that led there.
    """
    steps: list[Step] = []
    verdicts: list[Step] = []
    itself = source.address is not None and source.address == destination.address
    for asked in (
        Asked(PolicyType.EGRESS, source, destination, protocol, port, front),
        Asked(PolicyType.INGRESS, destination, source, protocol, port),
    ):
        steps += _itself(asked) if itself else _narrate(asked)
        verdicts.append(steps[-1])
    allowed = all(one.allows for one in verdicts)
    deciding = next((one for one in verdicts if not one.allows), verdicts[1] if verdicts[1].rule else verdicts[0])
    way = f"{source.name} to {destination.name}"
    if protocol:
        final = f"{way}, {what(protocol, port)}: {'allowed' if allowed else f'denied by {deciding.direction}'}"
    else:
        reached = verdicts[0].reach & verdicts[1].reach
        allowed, final = bool(reached), f"{way}: {reached}"
    return Explanation(allowed, (*steps, Step("", final, deciding.policy, deciding.rule, allowed)), source, destination)


def what(protocol: str, port: int) -> str:
    """A port as people say it: ``tcp port 80``; or a protocol that has none."""
    return f"{protocol.lower()} port {port}" if protocol.lower() in PROTOCOLS else protocol.lower()


def _itself(asked: Asked) -> Iterator[Step]:
    yield Step(asked.way, f"{asked.subject.name} always reaches itself", allows=True)


def _narrate(asked: Asked) -> Iterator[Step]:
    """One direction; its last step is its verdict."""
    way, subject = asked.way, asked.subject
    if subject.selecting is None:
        yield Step(way, f"{subject.name} is no endpoint here: no policy applies to it", allows=True)
        return
    if asked.direction is PolicyType.INGRESS and asked.peer.hosts(subject):
        yield Step(way, f"{asked.peer.name} is the node of {subject.name}, which always reaches it", allows=True)
        return
    policies = [one for one in subject.selecting if asked.direction in one.directions]
    if not policies:
        yield Step(way, f"{subject.name} is not isolated: no policy selects it for {way}", allows=True)
        return
    for layer in Layer:
        if (here := [one for one in policies if one.layer is layer]) and (yield from _layer(asked, layer, here)):
            break
    meant = [clause for one in policies for clause in one.directions[asked.direction].clauses if _means(clause, asked.peer)]
    isolated = any(one.layer is Layer.NETWORK for one in policies)
    found = spans(tuple(Said.by(clause, asked.named) for clause in meant), isolated=isolated)
    if asked.whole:
        reached = reach.of(found)
        yield Step(way, f"{subject.name} allows {reached}", allows=bool(reached), reach=reached)
    else:
        said = _verdict(asked, meant, verdict(found, asked.number, asked.port))
        yield said
        if asked.front and not said.allows and said.rule is None:
            yield _of_front(asked, policies, *asked.front, isolated=isolated)


def _of_front(asked: Asked, policies: Sequence[Prepared], front: Party, port: int, *, isolated: bool) -> Step:
    """Where no rule allows whom a service led to: what is said of the service's own address."""
    clauses = [one for each in policies for one in each.directions[asked.direction].clauses if one.of_fronts]
    meant = [one for one in clauses if _means(one, front)]
    said = _verdict(
        asked, meant, verdict(spans(tuple(Said.by(one, {}) for one in meant), isolated=isolated), asked.number, port)
    )
    at = f"{front.name}, the address of the service, at {what(asked.protocol, port)}"
    if said.rule is None:
        return Step(asked.way, f"nor does any rule allow {at}", allows=False)
    return said._replace(text=f"{said.text}: it means {at}")


def _layer(asked: Asked, layer: Layer, policies: Sequence[Prepared]) -> Generator[Step, None, bool]:
    """What the policies of one layer say; whether that is the last word, and nobody asks the next layer.

    In a tier what comes after the first rule that matches says nothing. NetworkPolicies always have the last word.
    """
    for policy in policies:
        yield _about(asked, policy)
        for clause in policy.directions[asked.direction].clauses:
            matches, text = _reason(asked, clause)
            yield Step(asked.way, text, policy.title, clause.rule)
            if matches and layer is not Layer.NETWORK:
                return clause.rule.action is not Action.PASS
    return layer is Layer.NETWORK


def _about(asked: Asked, policy: Prepared) -> Step:
    if policy.wrong:
        text = f"policy {policy.title} cannot be read ({policy.wrong}): what is not understood allows nothing"
    elif policy.directions[asked.direction].clauses:
        text = f"policy {policy.title} selects {asked.subject.name}"
    else:
        text = f"policy {policy.title} selects {asked.subject.name} and allows no {asked.way}"
    return Step(asked.way, text, policy.title)


def _verdict(asked: Asked, meant: list[Clause], span: Span) -> Step:
    rule = next((one.rule for one in meant if one.number == span.rule), None)
    if rule is None:
        if span.allow:
            return Step(asked.way, f"no rule decides about {asked.subject.name}: it is not isolated", allows=True)
        return Step(asked.way, f"{asked.subject.name} is isolated and no rule allows it", allows=False)
    word = "allowed" if span.allow else "denied"
    return Step(asked.way, f"{word} by rule {rule.index} of {rule.policy}", rule.policy, rule, allows=span.allow)


def _means(clause: Clause, peer: Party) -> bool:
    face = Face.of(peer.of)
    return clause.everybody or any(one.matches(face) for one in clause.terms)


_DOES = {Action.ACCEPT: "allows", Action.DENY: "denies", Action.PASS: "passes on"}


def _reason(asked: Asked, clause: Clause) -> tuple[bool, str]:
    """Whether one rule matches, and if not, what of it does not."""
    rule = clause.rule
    head = f"rule {rule.index}" + (f' "{rule.name}"' if rule.name else "")
    if not _means(clause, asked.peer):
        return False, f"{head} does not match: none of its peers is {asked.peer.name}"
    said = Said.by(clause, asked.named)
    listed = ", ".join(_port(one, asked) for one in clause.ports)
    if asked.whole:
        return said.runs is None, f"{head} {_DOES[rule.action]} {listed or 'everything'}"
    if said.runs is None or any(one.protocol == asked.number and one.first <= asked.port <= one.last for one in said.runs):
        return True, f"{head} matches" + ("" if clause.layer is Layer.NETWORK else f" and {_DOES[rule.action]}")
    return False, f"{head} does not match: it {_DOES[rule.action]} {listed}, not {asked.what}"


def _port(one: Ports, asked: Asked) -> str:
    if not one.name:
        return str(one)
    run = one.run(asked.named)
    who = asked.subject if asked.direction is PolicyType.INGRESS else asked.peer
    return f"{one} ({f'{NAMES[run.protocol]} {run.first}' if run else f'which {who.name} has not'})"
