"""What can be asked of the agent and what it answers: one value a request, one a reply.

========  ===========================  =====================================================================
method    path                         body → reply
========  ===========================  =====================================================================
GET       /v1/status                   → ``Status``
GET       /v1/doctor                   → ``Report``
GET       /v1/objects/{plural}         → JSON array of objects
GET       /v1/objects/{plural}/{name}  → one object
PUT       /v1/objects                  one object (create or replace the spec) → ``Applied``
DELETE    /v1/objects/{plural}/{name}  → the object as it was
POST      /v1/attach                   ``Attach`` → ``Attached``
POST      /v1/detach                   ``Detach`` → ``Detached``
POST      /v1/change                   ``Change`` → ``Attached``
DELETE    /v1/node                     every endpoint goes, and all that Fairlead made in the kernel
GET       /v1/flows                    filters in the query → JSON array of ``Flow``; follow=true: lines of JSON without end
GET       /v1/policy/explain           from, to, protocol, port in the query → ``Explained``
GET       /v1/wireguard                → ``encryption.Encryption``
POST      /v1/wireguard/rotate         → ``encryption.Rotated``
POST      /v1/policy/preview           ``Proposal`` → ``Previewed``
GET       /v1/policy/hits              → JSON array of ``RuleHits``
GET       /v1/policy/identities        → JSON array of ``Identity``; ``who``: his
GET       /v1/bgp/status               → ``BgpStatus`` (``routing``)
GET       /v1/bgp/routes               peer, show in the query → JSON array of ``BgpRoute``
POST      /cni                         CNI stdin, the environment in X-CNI-* headers → CNI result or error
========  ===========================  =====================================================================

A refusal is an HTTP status (400 Invalid, 403 Forbidden, 404 Missing, 409 Conflict, 507 Exhausted, 501 Unsupported,
503 Unavailable, 500 Failed) with ``Refusal`` as its body.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Mac, Name, NamedPort
from fairlead.model.endpoint import Bandwidth, Dns, Endpoint, Protocol, PublishedPort, Route, check_port_names
from fairlead.model.meta import Value
from fairlead.model.network import Subnet


class Refusal(Value, frozen=True, kw_only=True):
    """Why not. ``error`` is the class of ``model.errors``, ``field`` the input that must change."""

    error: str
    message: str
    field: str = ""


class Chained(Value, frozen=True, kw_only=True):
    """What an earlier CNI plugin made, for Fairlead to add ports and limits to."""

    host: InterfaceName | None = None
    mac: Mac | None = None
    addresses: tuple[Interface, ...] = ()


class Attach(Value, frozen=True, kw_only=True):
    """Connect a network namespace to one network. Asked twice with the same values, it answers the same.

    ``addresses`` are static wishes, at most one a family, with or without a prefix length. ``ranges`` narrow the network's
    pools for this call (CNI capability ipRanges), one entry a family.
    """

    container: ContainerID
    path: str
    network: Name
    interface: InterfaceName
    display: str = ""
    namespace: str = "default"
    labels: dict[str, str] = {}
    owner: str = "cli"
    addresses: tuple[str, ...] = ()
    mac: Mac | None = None
    ports: tuple[PublishedPort, ...] = ()
    named_ports: dict[str, NamedPort] = {}
    """Ports of the container by the names that policies may use."""
    bandwidth: Bandwidth | None = None
    routes: tuple[Route, ...] = ()
    aliases: tuple[str, ...] = ()
    dns: Dns = Dns()
    ranges: tuple[Subnet, ...] = ()
    gateway: bool = True
    """Whether the default route of each family goes through this attachment."""
    chained: Chained | None = None
    handover: bool = False
    """The container's end is made on the host; the caller moves and configures it. ``path`` may be empty and told later by
    ``Change``; ``addresses`` are all that it gets, one of each family of the network if there are none."""
    reserved: str = ""
    """The holder in whose name ``addresses`` were reserved before (``Reserve``)."""

    def __post_init__(self) -> None:
        check_port_names(self.named_ports)


class Attached(Value, frozen=True, kw_only=True):
    """The endpoint as it stands in the kernel, and what a caller needs to tell its own caller."""

    endpoint: Endpoint
    host_interface: str = ""
    host_mac: str = ""
    bridge: str = ""
    bridge_mac: str = ""
    gateways: tuple[Address, ...] = ()
    mtu: int = 0


class AnyPort(Value, frozen=True, kw_only=True):
    """A port to be published on a host port of the agent's choice, from ``first`` to ``last``."""

    container_port: int
    protocol: Protocol = Protocol.TCP
    host_ip: Address | None = None
    first: int = 49152
    last: int = 65535

    def __post_init__(self) -> None:
        for field, port in (("containerPort", self.container_port), ("first", self.first), ("last", self.last)):
            if not 1 <= port <= 65535:
                raise ValueError(f"{field}: {port} is not a port; ports are 1 to 65535")


class Change(Value, frozen=True, kw_only=True):
    """Change what an endpoint has; what is left out stays. The kernel has acknowledged it when the answer comes.

    ``path``: where the container's end of an endpoint that is handed over lives now; empty: nowhere yet, or no more.
    ``ports`` replace those published, to which the agent's choices for ``any_ports`` are added. ``labels`` are set beside those
    there are, None takes one away; without ``overwrite`` one that is there and otherwise is a conflict.
    """

    container: ContainerID
    interface: InterfaceName
    path: str | None = None
    display: str | None = None
    ports: tuple[PublishedPort, ...] | None = None
    any_ports: tuple[AnyPort, ...] = ()
    labels: dict[str, str | None] = {}
    overwrite: bool = True


class Reserve(Value, frozen=True, kw_only=True):
    """Set an address aside for ``holder``, or, without a family, the network. Asked again it answers the same.

    ``address`` is a wish; ``ranges`` narrow what may be given. ``lasting``: until it is deleted, beyond a reboot.
    """

    network: Name
    owner: str
    holder: str
    family: Literal[4, 6] | None = None
    address: Address | None = None
    ranges: tuple[Subnet, ...] = ()
    lasting: bool = False


class Detach(Value, frozen=True, kw_only=True):
    """Undo an attach. Without ``interface`` every attachment of the container goes. ``wait``: until the kernel is clean."""

    container: ContainerID
    interface: InterfaceName | None = None
    wait: bool = True


class Detached(Value, frozen=True, kw_only=True):
    """The endpoints that were there; none is no error."""

    endpoints: tuple[Endpoint, ...] = ()


class Applied(Value, frozen=True, kw_only=True):
    """What ``PUT /v1/objects`` did: ``created``, ``configured`` or ``unchanged``."""

    result: str
    kind: str
    name: str
    warnings: tuple[str, ...] = ()


OUTDATED = "outdated"
"""The kind of a difference that is nobody's fault: it is as another version of Fairlead left it."""


class Drift(Value, frozen=True, kw_only=True):
    """One difference between what should be and what is. ``kind``: missing, different, unexpected or ``OUTDATED``."""

    table: str
    key: str
    kind: str
    want: str = ""
    have: str = ""


class Finding(Value, frozen=True, kw_only=True):
    """One result of one doctor check. ``level``: ok, warning or error; ``remedy`` is what to do."""

    check: str
    level: str
    message: str
    remedy: str = ""
    drift: tuple[Drift, ...] = ()


class Report(Value, frozen=True, kw_only=True):
    """Every finding, in the order of the checks."""

    findings: tuple[Finding, ...]


class Pool(Value, frozen=True, kw_only=True):
    """How full one subnet is. ``used``: by this node; ``elsewhere``: not its to give out, for other nodes have it.

    Or other networks, whose ranges share addresses with it.
    """

    network: str
    cidr: str
    size: int
    used: int
    elsewhere: int = 0

    @property
    def left(self) -> int:
        """How many this node can still give out."""
        return max(0, self.size - self.used - self.elsewhere)


class Amount(Value, frozen=True, kw_only=True):
    """What went one way. Bytes with link-layer headers, as on the wire."""

    packets: int = 0
    bytes: int = 0


class Peer(Value, frozen=True, kw_only=True):
    """One end of a flow. ``kind``: endpoint, host, node (another), service (one of its addresses) or world.

    An endpoint is known by the name people gave it.
    """

    kind: str = ""
    endpoint: str = ""
    namespace: str = ""
    network: str = ""
    node: str = ""
    service: str = ""
    labels: dict[str, str] = {}
    address: str = ""
    port: int = 0


DEFAULT_DENY = "default deny"
"""What is said in the place of a rule where policies isolate an end and none of their rules allows it."""


class Flow(Value, frozen=True, kw_only=True):
    """Something about one connection. ``source`` opened it, ``direction`` is the container's at which it was seen.

    ``event``: new, active (went on since the last report), close (with its final amounts; by FIN, RST or silence), drop
    (a packet that was not let through; told once a second for each connection, ``source`` sent it), or lost:
    ``lost`` flows found no room on the way to this reader, and nothing else is set. ``midway``: the beginning was not seen, so
    that who opened it is a guess. ``reason`` says why it was dropped, or its connection cut, ``policy`` which policy and rule
    did that, if one did; ``egress_policy`` and ``ingress_policy`` which let it out at the one end and in at the other, if they
    were asked there. What was dropped or cut has the ``direction`` of the end that did it.
    """

    time: str
    event: str
    verdict: str = ""
    direction: str = ""
    protocol: str = ""
    source: Peer = Peer()
    destination: Peer = Peer()
    sent: Amount = Amount()
    received: Amount = Amount()
    duration: float = 0.0
    midway: bool = False
    reason: str = ""
    policy: str = ""
    egress_policy: str = ""
    ingress_policy: str = ""
    lost: int = 0


class Explaining(Value, frozen=True, kw_only=True):
    """One line of an explanation. ``direction``: egress, ingress, or empty for the verdict; ``allows``: None if it is none."""

    direction: str = ""
    text: str
    policy: str = ""
    allows: bool | None = None


class Asked(Value, frozen=True, kw_only=True):
    """What the kernel says of one end, asked for the first packet. ``rule``: what decided; ``agrees``: with the explanation.

    ``node`` has that kernel; empty: the node that was asked.
    """

    node: str = ""
    direction: str
    link: str
    allowed: bool
    reason: str = ""
    rule: str = ""
    agrees: bool


class Elsewhere(Value, frozen=True, kw_only=True):
    """An end on another node, whose kernel this one cannot ask. ``query`` is how its agent is asked, ``why`` it was not yet."""

    node: str
    direction: str
    query: dict[str, str]
    why: str = ""


class Explained(Value, frozen=True, kw_only=True):
    """Whether one may open a connection to another, and why. Each direction ends with its verdict, all with the whole.

    ``kernel`` has an end only if the kernel decides there: a container of this node, under policies that are enforced.
    ``backends``: of a service, each that takes new connections; it is allowed where it is to all of them.
    ``elsewhere`` has the ends that are containers of other nodes. ``from_identity``, ``to_identity``: the numbers by which the
    kernel of this node knows both (``Identity``); empty if no policy tells him from others, and of a service of several.
    """

    allowed: bool
    steps: tuple[Explaining, ...] = ()
    kernel: tuple[Asked, ...] = ()
    backends: tuple[Backend, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    from_identity: str = ""
    to_identity: str = ""


class Backend(Value, frozen=True, kw_only=True):
    """Somebody behind a service, and whether a connection that is led to him is let through."""

    address: Address
    port: int
    node: str = ""
    told: Explained


class Proposal(Value, frozen=True, kw_only=True):
    """Objects that somebody thinks of applying and deleting, as people write them; at most ``limit`` rows are answered."""

    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[dict[str, Any], ...] = ()
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200


class Difference(Value, frozen=True, kw_only=True):
    """At ``ports`` the sources could newly reach the destinations, or not any more.

    They are workloads, blocks or ``world``; destinations also services, as ``svc:`` with namespace and name.
    """

    allowed: bool
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    ports: str
    pairs: int
    """Of containers; what is outside counts as one."""


class Previewed(Value, frozen=True, kw_only=True):
    """What would change, what means most first, and which connections of those seen lately would be cut."""

    differences: tuple[Difference, ...] = ()
    more: int = 0
    """Rows beyond the limit."""
    flows: tuple[Flow, ...] = ()
    more_flows: int = 0
    warnings: tuple[str, ...] = ()
    """What of the proposal could not be compared, and why."""


class RuleHits(Value, frozen=True, kw_only=True):
    """How often one rule has decided. A drop is told once a second for each connection.

    ``policy`` is empty for the default denial, in either direction, of whom some policy isolates. ``last``: when; empty: never,
    or, of what was counted before this agent looked, not known.
    """

    policy: str = ""
    direction: str = ""
    index: int = 0
    action: str = ""
    name: str = ""
    connections: int = 0
    drops: int = 0
    last: str = ""


class Unread(Value, frozen=True, kw_only=True):
    """An object that is stored and cannot be read: its kind by its plural, its name or ``namespace/name``, and why."""

    plural: str
    name: str
    reason: str


class FlowStatus(Value, frozen=True, kw_only=True):
    """Flows in numbers. What the kernel counts is since the programs were first loaded, the rest since the agent started."""

    seen: int = 0
    opened: int = 0
    """How many of them were new connections."""
    lost: int = 0
    """Events for which the ring buffer had no room; ``lost_new`` of them began a connection."""
    lost_new: int = 0
    missed: int = 0
    """Flows that followers were too slow for."""
    connections: int = 0
    """As the last sweep found them."""
    capacity: int = 0
    """How many can be remembered at a time."""
    evicted: int = 0
    """Those that were forgotten before they ended, to make room for others."""
    followers: int = 0
    malformed: int = 0
    not_tracked: int = 0
    fragments_unmatched: int = 0
    table_full: int = 0
    drops: int = 0
    """Dropped packets, but those of which nobody is told: what comes by itself at every start of a container."""
    dropped: dict[str, int] = {}
    """All dropped packets, by reason."""


class Narrow(Value, frozen=True, kw_only=True):
    """A way to another node that carries less than this node's uplink, in bytes of IP packets.

    ``mine``: what this uplink carries; ``claimed``: what both ends' do, as they say; ``found``: what gets there.
    """

    node: str
    address: str
    mine: int
    claimed: int
    found: int

    @property
    def told(self) -> str:
        """In words."""
        if self.found < self.claimed:
            return (
                f"packets to {self.node} ({self.address}) arrive up to {self.found} bytes, "
                f"not the {self.claimed} that uplinks claim"
            )
        return f"the uplink of {self.node} ({self.address}) carries {self.found} bytes, this node's {self.mine}"


class Status(Value, frozen=True, kw_only=True):
    """The agent in numbers. Times in seconds, memory in bytes."""

    version: str
    pid: int
    node: str
    uptime: float
    memory: int
    plane: str
    ready: bool
    reason: str = ""
    networks: int = 0
    endpoints: int = 0
    policies: int = 0
    """Of every kind."""
    repairs: int = 0
    pending: int = 0
    """Detached endpoints that the kernel has not let go yet, or that the store could not forget."""
    last_check: float = 0.0
    """Seconds since the kernel was last compared with the desired state."""
    pools: tuple[Pool, ...] = ()
    maps: dict[str, tuple[int, int]] = {}
    """Tables of the kernel that are nearly full: how much is in them, and how much they have room for."""
    narrow: tuple[Narrow, ...] = ()
    unreadable: tuple[Unread, ...] = ()
    flows: FlowStatus | None = None
    """None: the agent was started without them."""
