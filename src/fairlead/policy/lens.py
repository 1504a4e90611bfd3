"""Lens: what the policies in use look at, and so all that tells one container from another.

A label that no selector asks for cannot matter, nor can a port's name that no rule uses. Leaving them out keeps containers
alike that differ by a serial number, and so keeps classes and sets few. Of a label selectors ask for a value, or whether it
is there at all; of a value that nobody asks for all that may matter is that it is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum, auto

from fairlead.model import namespace
from fairlead.model.address import NamedPort
from fairlead.model.endpoint import Endpoint
from fairlead.model.namespace import Namespace
from fairlead.model.selector import Operator, Selector

from .identity import Labels, Profile


class Kind(Enum):
    """The kinds of things that policies look at."""

    POD = auto()
    """A container's labels."""
    NAMESPACE = auto()
    """A namespace's labels."""
    NODE = auto()
    """A node's labels."""
    OWN_PORT = auto()
    """A port's name that the subject of a rule resolves: ingress."""
    PORT = auto()
    """A port's name that the peer resolves: egress."""


Feature = tuple[Kind, str, str]
"""Of labels the key and the value, or ``THERE``; of ports the name."""

EVERYWHERE: Feature = (Kind.POD, "", "")
"""That somebody is an endpoint at all."""
NODES: Feature = (Kind.NODE, "", "")
"""That there are nodes at all."""
THERE = "*"
"""In place of a value: that the label is there, whatever its value. No label has it for a value."""

_MOST = 1 << 14
"""Profiles that are remembered. Of more it begins anew; whoever has one keeps it."""


def features(kind: Kind, selector: Selector) -> Iterator[Feature]:
    """What a selector asks for."""
    yield from ((kind, key, value) for key, value in selector.match_labels.items())
    for one in selector.match_expressions:
        if one.operator in {Operator.EXISTS, Operator.DOES_NOT_EXIST}:
            yield (kind, one.key, THERE)
        yield from ((kind, one.key, value) for value in one.values)


class Lens:
    """Features, counted by use."""

    def __init__(self) -> None:
        self._uses: Counter[Feature] = Counter()
        self._profiles: dict[Profile, Profile] = {}

    def __contains__(self, feature: Feature) -> bool:
        return feature in self._uses

    def use(self, features: Iterable[Feature]) -> set[Feature]:
        """One more policy looks at ``features``; those that none did before."""
        fresh = {one for one in features if one not in self._uses}
        self._uses.update(features)
        return fresh

    def disuse(self, features: Iterable[Feature]) -> set[Feature]:
        """One policy less looks at ``features``; those that none does any more."""
        self._uses.subtract(features)
        gone = {one for one in features if not self._uses[one]}
        for one in gone:
            del self._uses[one]
        return gone

    def labels(self, kind: Kind, given: Mapping[str, str]) -> Labels:
        """Those of the labels that matter, sorted, and of those as much as matters."""
        seen = []
        for key, value in given.items():
            if (kind, key, value) in self._uses:
                seen.append((key, value))
            elif (kind, key, THERE) in self._uses:
                seen.append((key, THERE))
        return tuple(sorted(seen))

    def profile(self, endpoint: Endpoint, namespaces: Mapping[str, Namespace]) -> Profile:
        """What policies see of an endpoint; a namespace that nobody made has its name as its label.

        Those of whom they see the same have the same object: of tens of thousands of pods hundreds are told apart.
        """
        name = endpoint.metadata.namespace or namespace.DEFAULT
        around = namespace.labels(name, namespaces.get(name))
        return self._once(
            Profile(
                name,
                self.labels(Kind.POD, endpoint.metadata.labels),
                self.labels(Kind.NAMESPACE, around),
                self._ports(endpoint.spec.named_ports, (Kind.OWN_PORT, Kind.PORT)),
            )
        )

    def outside(self, who: Profile) -> Profile:
        """The same as peers see it: without the names that only its own ingress uses."""
        if not who.ports:
            return who
        return self._once(who._replace(ports=self._ports({name: NamedPort(port) for name, port in who.ports}, (Kind.PORT,))))

    def _once(self, who: Profile) -> Profile:
        if len(self._profiles) > _MOST:
            self._profiles.clear()
        return self._profiles.setdefault(who, who)

    def _ports(self, named: Mapping[str, NamedPort], kinds: Collection[Kind]) -> Labels:
        if not named:
            return ()
        seen = [name for name in named if any((one, name, "") in self._uses for one in kinds)]
        return tuple((name, str(named[name])) for name in sorted(seen))


def touched(features: Collection[Feature], endpoint: Endpoint, around: Mapping[str, str]) -> bool:
    """Whether an endpoint, in a namespace with the labels ``around``, has any of the features."""
    for kind, word, value in features:
        match kind:
            case Kind.POD:
                has = _has(endpoint.metadata.labels, word, value)
            case Kind.NAMESPACE:
                has = _has(around, word, value)
            case Kind.OWN_PORT | Kind.PORT:
                has = word in endpoint.spec.named_ports
            case _:
                has = False
        if has:
            return True
    return False


def _has(labels: Mapping[str, str], key: str, value: str) -> bool:
    return key in labels and value in {THERE, labels[key]}
