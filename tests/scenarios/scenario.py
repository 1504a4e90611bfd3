"""A scenario: objects in, who reaches whom out. One YAML file, read top to bottom, tells a story that any plane agrees with.

The documents of a file are taken in order::

    pods:                                       what runs; each has an address of each family unless it says otherwise
      web: {namespace: shop, labels: {app: web}}
      db: {namespace: shop, ports: {sql: 5432/tcp}, addresses: [10.10.0.99]}
      agent: {namespace: ops, host: true}       on the host's network: it is the node
    ---
    kind: NetworkPolicy ...                     an object, as people apply it
    ---
    reach:                                      what must hold at this point
      tcp 80: |                                 protocol and port; also "icmp", and "tcp 80 ipv4" for one family alone
        to     web  db  node
        web     .    X   .                      the row reaches the column: "." it does, "X" it does not, "-" is not asked
    ---
    delete: NetworkPolicy/shop/db               an object goes
    ---
    pods: {web: {namespace: shop}}              a container's labels or ports are others now

Beside the pods there are ``node``, the machine they run on, and ``outside``, another machine, whose addresses are below. What
stands in the first comment is what the scenario is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.model import codec, document
from fairlead.model.address import Address, NamedPort, Prefix
from fairlead.model.meta import Object

HERE = Path(__file__).parent

SUBNETS = (Prefix("10.10.0.0/24"), Prefix("fd10::/64"))
"""The network that the pods are on."""
FIRST = 11
"""The n-th pod, from 0, has the address FIRST + n of each subnet."""
NODE = "node"
NODE_ADDRESSES = (Address("192.0.2.1"), Address("2001:db8::1"))
OUTSIDE = "outside"
OUTSIDE_ADDRESSES = (Address("198.51.100.7"), Address("2001:db8:ff::7"))

YES, NO, UNASKED = ".", "X", "-"
CORNER = "to"


@dataclass(frozen=True)
class Pod:
    """One container."""

    name: str
    namespace: str
    addresses: tuple[Address, ...]
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, NamedPort] = field(default_factory=dict)
    host: bool = False
    """Whether it is on the host's network."""


@dataclass(frozen=True)
class Probe:
    """What is knocked with. ``port`` is 0 for ICMP; ``family`` None: each that both ends have."""

    protocol: str
    port: int
    family: int | None = None

    def __str__(self) -> str:
        return " ".join(
            [self.protocol, *([str(self.port)] if self.port else []), *([f"ipv{self.family}"] if self.family else [])]
        )


@dataclass(frozen=True)
class Reach:
    """What must hold: for each probe, by (who asks, who is asked), whether it gets through."""

    truth: dict[Probe, dict[tuple[str, str], bool]]


@dataclass(frozen=True)
class Apply:
    """An object is applied."""

    thing: Object


@dataclass(frozen=True)
class Delete:
    """An object goes: its kind, its namespace or "", its name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Run:
    """Containers start, or have other labels or ports from now on."""

    pods: tuple[Pod, ...]


Step = Run | Apply | Delete | Reach


@dataclass(frozen=True)
class Scenario:
    """A story and what must hold in it."""

    name: str
    about: str
    steps: tuple[Step, ...]


def every() -> list[Scenario]:
    """All there are."""
    return [read(path) for path in sorted(HERE.glob("*.yaml"))]


def read(path: Path) -> Scenario:
    """One file."""
    text = path.read_text()
    comment = (line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    return Scenario(path.stem, " ".join(comment), tuple(_steps(document.load(text))))


def _steps(documents: list[Any]) -> Iterator[Step]:
    places: dict[str, int] = {}
    for tree in documents:
        if "kind" in tree:
            yield Apply(codec.from_item(tree))
        elif "delete" in tree:
            kind, *middle, name = tree["delete"].split("/")
            yield Delete(kind, middle[0] if middle else "", name)
        elif "pods" in tree:
            yield Run(
                tuple(_pod(name, spec or {}, places.setdefault(name, len(places))) for name, spec in tree["pods"].items())
            )
        else:
            yield Reach({_probe(words): _table(table) for words, table in tree["reach"].items()})


def _pod(name: str, spec: dict[str, Any], place: int) -> Pod:
    host = spec.pop("host", False)
    given = tuple(Address(one) for one in spec.pop("addresses", ()))
    ports = {key: NamedPort(str(port)) for key, port in spec.pop("ports", {}).items()}
    pod = Pod(
        name=name,
        namespace=spec.pop("namespace", "default"),
        addresses=given or (NODE_ADDRESSES if host else tuple(Address(one.net[FIRST + place]) for one in SUBNETS)),
        labels=spec.pop("labels", {}),
        ports=ports,
        host=host,
    )
    assert not spec, f"{name}: there is no {', '.join(spec)}"
    return pod


def _probe(words: str) -> Probe:
    protocol, *more = words.split()
    families = [int(one.removeprefix("ipv")) for one in more if one.startswith("ipv")]
    ports = [int(one) for one in more if one.isdigit()]
    assert len(families) + len(ports) == len(more), words
    return Probe(protocol, ports[0] if ports else 0, families[0] if families else None)


def _table(text: str) -> dict[tuple[str, str], bool]:
    (corner, *head), *rows = [line.split() for line in text.splitlines() if line.strip()]
    assert corner == CORNER, corner
    found = {}
    for who, *cells in rows:
        assert len(cells) == len(head), f"{who}: {len(cells)} cells under {len(head)} columns"
        assert set(cells) <= {YES, NO, UNASKED}, cells
        found |= {(who, whom): cell == YES for whom, cell in zip(head, cells, strict=True) if cell != UNASKED}
    return found


def shown(truth: dict[tuple[str, str], bool]) -> str:
    """A table as it stands in a file."""
    rows = list(dict.fromkeys(who for who, _ in truth))
    columns = list(dict.fromkeys(whom for _, whom in truth))
    width = max(len(CORNER), *map(len, rows))
    lines = [CORNER.ljust(width) + "".join(f"  {one}" for one in columns)]
    for who in rows:
        cells = ({True: YES, False: NO, None: UNASKED}[truth.get((who, whom))] for whom in columns)
        lines.append(who.ljust(width) + "".join(f"  {cell:<{len(one)}}" for cell, one in zip(cells, columns, strict=True)))
    return "\n".join(line.rstrip() for line in lines)
