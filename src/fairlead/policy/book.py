"""Book: everything that policies depend on, and the rows that follow from it, change by change."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from fairlead.model.address import Address, Prefix
from fairlead.model.broken import Broken
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Missing
from fairlead.model.namespace import DEFAULT, Namespace, labels
from fairlead.model.node import Node

from .compile import Judgements
from .explain import Explanation, Party, explain
from .groups import Groups
from .identity import UNKEYED, Class, FrontPorts, Numbers
from .lens import EVERYWHERE, NODES, Feature, Kind, Lens, touched
from .peers import Known, Moves, Peers, Steps
from .salvage import salvage
from .select import Policy, Prepared, Rule, key_of, prepare
from .sets import Sets, Turn

Thing = Namespace | Endpoint | Node | Policy | Broken
"""What policies depend on. ``Broken`` is any of them that was stored and cannot be read."""


class Delta(NamedTuple):
    """What a change does to the rows, in the order in which it must be done.

    ``steps`` are (owner, all rows of that owner from now on); an owner may come twice. Then the ``subjects``, endpoints whose
    set numbers are others now or who are new, get them. Then comes ``after``, in the form of ``steps``: what nothing refers to
    any more. While one policy changes, each endpoint is under all of the old one and then under all of the new one.
    """

    steps: Steps = ()
    subjects: frozenset[str] = frozenset()
    after: Steps = ()


class Book:
    """Everything policies depend on, and the rows that follow from it. The same things, in any order, make the same rows."""

    def __init__(self, node: str = "", *, everywhere: bool = False, numbers: Numbers = UNKEYED) -> None:
        """``node``: the name of the node that enforces. ``everywhere``: containers of other nodes are under sets too.

        ``numbers``: by the key of the node, where its kernel is to judge by them.
        """
        self._node, self._everywhere, self._numbers = node, everywhere, numbers
        self._namespaces: dict[str, Namespace] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._nodes: dict[str, Node] = {}
        self._homes: dict[Address, str] | None = None
        self._rules: dict[int, Rule] = {}
        self._lens = Lens()
        self._peers = Peers(numbers)
        self._sets = Sets(numbers)
        self._groups = Groups(self._sets)
        self._fresh: set[Feature] = set()
        self._disused: list[Prepared] = []

    def put(self, *things: Thing) -> Delta:
        """Have ``things``, each in place of one of its kind and name."""
        for thing in things:
            match thing:
                case Endpoint() | Node():
                    continue
                case Namespace():
                    self._lose(self._groups.drop(key_of(thing)))
                    self._namespaces[thing.name] = thing
                    self._rename(thing.name)
                case Broken():
                    self._take(salvage(thing, self._numbers))
                    if thing.plural == Namespace.plural:
                        self._namespaces.pop(thing.name, None)
                        self._rename(thing.name)
                case _:
                    self._take(prepare(thing, self._numbers))
        fresh, self._fresh = self._fresh, set()
        self._refocus(fresh)
        for thing in things:  # seen as the policies above see them
            if isinstance(thing, Endpoint):
                self._endpoints[thing.name] = thing
                self._seat(thing)
            elif isinstance(thing, Node):
                self._nodes[thing.name], self._homes = thing, None
                self._seat_node(thing)
        return self._settle()

    def drop(self, *things: Thing) -> Delta:
        """Have ``things`` no more; what was not there is no error."""
        for thing in things:
            match thing:
                case Namespace():
                    if self._namespaces.pop(thing.name, None):
                        self._rename(thing.name)
                case Endpoint():
                    if self._endpoints.pop(thing.name, None):
                        self._groups.leave(thing.name)
                        self._peers.unseat(thing.name)
                case Node():
                    if self._nodes.pop(thing.name, None):
                        self._homes = None
                        self._peers.unseat_node(thing.name)
                case _:
                    self._lose(self._groups.drop(key_of(thing)))
        return self._settle()

    def show(self, fronts: Mapping[str, tuple[FrontPorts, tuple[Address, ...]]]) -> Delta:
        """Services by name have these ports at these addresses, where whoever comes is led on. Without either there is none."""
        for name, (ports, addresses) in fronts.items():
            if ports and addresses:
                self._peers.seat_front(name, ports, addresses)
            else:
                self._peers.unseat_front(name)
        return self._settle()

    def subject(self, endpoint: Endpoint) -> tuple[int, int]:
        """The (ingress, egress) set numbers of an endpoint that was put; ``Missing`` if it was not."""
        found = self._groups.subject(endpoint.name)
        if found is None:
            raise Missing(f"endpoint {endpoint.name} is not known to policies")
        return found

    def rules(self) -> Mapping[int, Rule]:
        """Rules by number, to name what decided about a flow."""
        return MappingProxyType(self._rules)

    def selects(self, policy: Policy, endpoint: Endpoint) -> bool:
        """Whether a policy that was put is for an endpoint that was put."""
        who = self._groups.profile(endpoint.name)
        return who is not None and any(one.key == key_of(policy) for one in self._groups.selecting(who))

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """Those that were put, by name."""
        return MappingProxyType(self._endpoints)

    @property
    def blocks(self) -> set[Prefix]:
        """The CIDRs that policies use."""
        return self._peers.blocks

    def peer(self, of: Endpoint | Address | Prefix, family: int = 0) -> int:
        """The class of an endpoint by its address of a family, of an address, or of those in a CIDR that nobody has."""
        if isinstance(of, Prefix):
            return self._peers.within(of)
        if isinstance(of, Endpoint):
            at = next(one.address for one in of.spec.addresses if one.family == family)
            return self._peers.number(self._peers.at(at, self._lens.outside(self._lens.profile(of, self._namespaces))))
        holder = self.at(of)
        return self.peer(holder, of.family) if holder else self._peers.number(self._peers.at(of, None))

    def known(self) -> list[Known]:
        """The classes of peers there are, by number."""
        return self._peers.known()

    def number(self, party: Party) -> int:
        """The class of an end of a connection that was explained."""
        return self._peers.number(party.of)

    def at(self, address: Address) -> Endpoint | None:
        """The endpoint that has an address."""
        return self._endpoints.get(self._peers.holder(address) or "")

    def judgements(self, own: int) -> Judgements:
        """What a set of policies says of all classes."""
        return self._sets[own].judgements()

    def explain(
        self,
        source: Endpoint | Address,
        destination: Endpoint | Address,
        protocol: str = "",
        port: int = 0,
        front: tuple[Address, int] | None = None,
    ) -> Explanation:
        """Whether the one may open a connection to the other's ``port``, and why. ``protocol`` is "tcp", "icmp" or any other.

        Without a protocol it is told at which ports it may. ``front``: the address and port of a service that led there.

        An address that an endpoint has stands for the endpoint. Of an endpoint with several addresses the first counts whose
        family the other side has too.
        """
        for family in (4, 6):
            ends = [self._party(one, family) for one in (source, destination)]
            if all(one.address for one in ends):
                break
        else:
            ends = [self._party(one, 0) for one in (source, destination)]
        led = (self._party(front[0], front[0].family), front[1]) if front else None
        return explain(ends[0], ends[1], protocol, port, led)

    def _party(self, one: Endpoint | Address, family: int) -> Party:
        if isinstance(one, Address):
            address: Address | None = one if one.family == family else None
            found = self.at(one)
        else:
            found = one
            address = next((at.address for at in one.spec.addresses if at.family == family), None)
        if found is None:
            assert isinstance(one, Address)
            return Party(str(one), address, self._peers.at(one, None), home=self._home(one))
        who = self._lens.profile(found, self._namespaces)
        outside = self._lens.outside(who)
        of = self._peers.at(address, outside) if address else Class(outside, ())
        title = f"{who.namespace}/{found.display}"
        home = found.spec.node or self._node
        return Party(title, address, of, self._groups.selecting(who), found.name, found.spec.named_ports, home)

    def _home(self, address: Address) -> str:
        """The node that has an address."""
        if self._homes is None:
            self._homes = {at: name for name, node in self._nodes.items() for at in node.addresses}
        return self._homes.get(address, "")

    def _rename(self, namespace: str) -> None:
        """The labels of a namespace changed."""
        for one in self._endpoints.values():
            if (one.metadata.namespace or DEFAULT) == namespace:
                self._seat(one)

    def _seat(self, endpoint: Endpoint) -> None:
        """An endpoint is new, or changed, or its namespace did, or what policies look at.

        What policies say of those on other nodes is for these to enforce: here they are peers alone.
        """
        who = self._lens.profile(endpoint, self._namespaces)
        near = endpoint.spec.node in {"", self._node}
        if self._everywhere or near:
            self._groups.join(endpoint.name, who)
        self._peers.seat(endpoint.name, self._lens.outside(who), (one.address for one in endpoint.spec.addresses), near=near)

    def _seat_node(self, node: Node) -> None:
        """The same for a node, if any policy looks at nodes."""
        if NODES in self._lens:
            self._peers.seat_node(node.name, self._lens.labels(Kind.NODE, node.labels), node.addresses)
        else:
            self._peers.unseat_node(node.name)

    def _take(self, policy: Prepared) -> None:
        """There is a policy."""
        self._fresh |= self._lens.use(policy.features)
        self._peers.use(policy.cidrs)
        self._lose(self._groups.put(policy))
        self._rules |= {clause.number: clause.rule for clause in policy.clauses}

    def _lose(self, policy: Prepared | None) -> None:
        """There is a policy no more. What it looked at leaves the classes only later: sets in force were made with it."""
        if policy:
            self._disused.append(policy)
            for clause in policy.clauses:
                del self._rules[clause.number]

    def _settle(self) -> Delta:
        turn, moves = self._turn()
        subjects = self._groups.flipped()
        return Delta((*turn.first, *moves.steps), subjects, (*turn.last, *self._retire()))

    def _retire(self) -> Steps:
        """Features and CIDRs that only policies looked at which are no more."""
        if not self._disused:
            return ()
        gone: set[Feature] = set()
        for policy in self._disused:
            gone |= self._lens.disuse(policy.features)
            self._peers.disuse(policy.cidrs)
        self._disused = []
        self._refocus(gone)
        turn, moves = self._turn()
        flipped = self._groups.flipped()
        assert not flipped, "nobody is under other sets because of what no policy looks at"
        return (*turn.first, *moves.steps, *turn.last)

    def _turn(self) -> tuple[Turn, Moves]:
        self._groups.settle()
        moves = self._peers.settle()
        return self._sets.settle(moves, self._peers.faces), moves

    def _refocus(self, features: set[Feature]) -> None:
        """Policies look at something that none did before, or none looks at it any more."""
        if not features:
            return
        around = {name: one.labels for name, one in self._namespaces.items()}
        for endpoint in self._endpoints.values():
            home = endpoint.metadata.namespace or DEFAULT
            if touched(features, endpoint, around.get(home) or labels(home, None)):
                self._seat(endpoint)
        self._peers.tell_outside(apart=EVERYWHERE in self._lens)
        if any(kind is Kind.NODE for kind, _, _ in features):
            for node in self._nodes.values():
                self._seat_node(node)
