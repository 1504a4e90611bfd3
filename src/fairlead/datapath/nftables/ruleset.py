"""The chains and maps that are always there, in two tables: ``inet`` judges connections, ``bridge`` what is no connection.

Each packet is judged by the tuple of its connection, not by its own addresses: so answers, and ICMP errors about a connection,
go the way of what began it, and one that is newly denied is cut at its next packet. The original tuple is what the opener sees
on its link, before anything is translated; the reply tuple is what the other end sees on its own::

    input        to the node itself, no answer  -> opener
    forward      untracked, invalid             -> stray
                 all others                     -> opener, and if the connection is not its first packet: responder
    postrouting  a connection's first packet    -> responder: only here the addresses are those that the other end will see

    opener       ct original saddr              -> egress-SET of the container that opened the connection
    responder    ct reply saddr                 -> ingress-SET of the container that was asked

    egress-SET   ct original daddr              -> ruling      (``sets.py``; of ingress: ct reply daddr)
    ruling       ct protocol . proto-dst        -> allow-RULE or deny-RULE

Where services are known, their addresses and ports (``Front``) are in ``front``, and who begins with one is judged by whom he
is led to, whom the reply tuple has. Only where no rule allows that one, the address counts itself::

    opened       ct original daddr in front     -> fronted: and proto-dst too -> led; any other port as above

    led          ct reply saddr in front        -> front-else: it is led nowhere
                 ct original saddr              -> front-SET   (as egress-SET, but ct reply saddr and proto-src)
    front-else   nothing allows it              -> opener

Beside programs that judge everything else (``beside``) there is this alone: they let pass what goes to a service's port.

Every address of a container is in ``opener``, ``responder`` and ``either``; one under no policy with the verdict ``continue``.
So what changes is what an element says, never whether there is one.

What this node sends itself is not judged unless it is told so, and passes ``postrouting`` alone: there it has neither come in
by an interface, nor has it an Ethernet header. A frame that a bridge hands on has the latter.

Through ``bridge`` go frames between containers that conntrack does not see as any connection: what is not IP, and what is sent
to many. Whether there is a connection is known to ``inet`` alone, which meets frames of a bridge only if the bridge has
``nf_call_iptables`` set (``bridges.py``).
"""

from __future__ import annotations

import sys

from fairlead.datapath.seen import Reason
from fairlead.kernel.nft import Chain, Collection, Element, Field, Hook, Part, Rule
from fairlead.kernel.nft.rule import (
    ACCEPT,
    DROP,
    RETURN,
    choose,
    count,
    ct,
    differs,
    equal,
    goto,
    has,
    jump,
    log,
    member,
    meta,
    payload,
    remember,
    verdict,
)
from fairlead.kernel.nft.structure import IFNAME, IPV4, IPV6, PROTOCOL, SERVICE

from . import words
from .words import Direction

NAME = "fairlead-policy"
TABLES = ("inet", "bridge")
"""What both tables are called, and what tells them apart."""
BESIDE = "fairlead-services"
"""What the one is called that stands beside programs; it is of family inet."""
GROUP = 0x666C
"""Of nflog, to which drops are told."""
SNAPLEN = 128
"""Bytes of a dropped packet that are told: its headers."""

FAMILIES = (4, 6)
PARTS = {4: IPV4, 6: IPV6}
SIZE = {4: 4, 6: 16}

_SOURCE = {4: (19, 4), 6: (21, 16)}
_DESTINATION = {4: (20, 4), 6: (22, 16)}
_ORIGINAL, _REPLY = 0, 1
STATE, STATUS, CT_DIRECTION, CT_PROTOCOL = ct(0, 4), ct(2, 4), ct(1, 1), ct(10, 1)
OPENER = {n: ct(*_SOURCE[n], _ORIGINAL) for n in FAMILIES}
RESPONDER = {n: ct(*_SOURCE[n], _REPLY) for n in FAMILIES}
PEER = {
    Direction.EGRESS: {n: ct(*_DESTINATION[n], _ORIGINAL) for n in FAMILIES},
    Direction.INGRESS: {n: ct(*_DESTINATION[n], _REPLY) for n in FAMILIES},
    Direction.FRONT: RESPONDER,
}
"""Whom a container of one direction talks to, as it sees them."""
_PORT_AS_ASKED = ct(11, 2, _REPLY)
PORT = {Direction.EGRESS: ct(12, 2, _ORIGINAL), Direction.INGRESS: _PORT_AS_ASKED, Direction.FRONT: _PORT_AS_ASKED}
"""The port that was asked for, as each end sees it."""
IIF, IIFNAME, OIFNAME, NFPROTO, L4PROTO = meta(4, 4), meta(6, 16), meta(7, 16), meta(15, 1), meta(16, 1)
_LINK, _NETWORK, _TRANSPORT = 0, 1, 2
FRAME = payload(_LINK, 11, 3)
"""The end of an Ethernet header: no name that nft knows stands for it. Never zero, since it holds the number of a protocol."""
ETHERTYPE = payload(_LINK, 12, 2)
FROM = {4: payload(_NETWORK, 12, 4), 6: payload(_NETWORK, 8, 16)}
TO = {4: payload(_NETWORK, 16, 4), 6: payload(_NETWORK, 24, 16)}
SPORT, DPORT, ICMP_TYPE = payload(_TRANSPORT, 0, 2), payload(_TRANSPORT, 2, 2), payload(_TRANSPORT, 0, 1)

_FAMILY = {4: b"\x02", 6: b"\x0a"}
_ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
_ARP = b"\x08\x06"
ICMP, IGMP, ICMPV6 = b"\x01", b"\x02", b"\x3a"
_PORTED = (b"\x06", b"\x11", b"\x84")
_ICMPV6_TYPE = Part(29, 1)
_UPKEEP = (*range(130, 138), 143)
"""Types of ICMPv6 by which a link lives: listeners, routers, neighbours."""


def _bits(number: int) -> bytes:
    """A number of the kernel's own, which it holds as the machine does."""
    return number.to_bytes(4, sys.byteorder)


INVALID, UNTRACKED = 1, 1 << 6
CONFIRMED = _bits(1 << 3)
_NOBODY = _bits(0)
_NO_FRAME = bytes(3)
_REPLYING = b"\x01"

_IP = {n: equal(NFPROTO, _FAMILY[n]) for n in FAMILIES}
_FRAME_OF = {n: equal(ETHERTYPE, _ETHERTYPES[n]) for n in FAMILIES}
_INPUT, _FORWARD, _OUTPUT, _POSTROUTING = 1, 2, 3, 4
_AFTER_FILTER, _AFTER_SOURCE_NAT = 10, 150
_TELL_AGAIN, _TOLD = 1000, 1 << 14

ENDS = ("opener", "responder", "either")
LOCAL = {kind: f"{kind}6-local" for kind in ENDS}
"""Maps of link-local addresses, which mean something on one interface alone."""
NOBODY, STRAY, MANY, UNTOLD = "nobody", "stray-denied", "many-denied", "untold"
ISOLATED, CLOSED = "isolated", "closed"
"""Chains of frames: from and to who is isolated, anything but IP and ARP; to one whose ingress is, what is for many."""


DENIALS = {one: words.deny(one, 0) for one in (Direction.EGRESS, Direction.INGRESS)}
"""Chains of what no rule allows: as long as the table is there it is known how often that was."""


def deny(name: str, reason: Reason, direction: Direction | None = None, rule: int = 0) -> Chain:
    """A chain that counts, tells once a second, and drops; its counter has its name."""
    told = (*log(GROUP, words.prefix(reason, direction, rule), SNAPLEN), *verdict(DROP))
    return Chain(name, (count(name), jump("news"), told))


def _news(start: dict[int, Rule]) -> Chain:
    """Go back to be told, or drop what was told of within the last second. Pings are told apart by their addresses alone."""
    found: list[Rule] = []
    for n in FAMILIES:
        plain = (FROM[n], TO[n], L4PROTO, SPORT, DPORT)
        ping = (FROM[n], TO[n], L4PROTO, SPORT, SPORT)
        echo = (*start[n], *equal(L4PROTO, ICMP if n == 4 else ICMPV6))
        for head, fields in ((echo, ping), (start[n], plain)):
            found.append((*head, *member(f"told{n}", *fields), *verdict(DROP)))
            found.append((*head, *remember(f"told{n}", *fields), *verdict(RETURN)))
    return Chain("news", (*found, (*count(UNTOLD), *verdict(DROP))))


def _upkeep(then: int) -> tuple[Rule, ...]:
    """What every link lives by."""
    return (
        (*equal(L4PROTO, ICMPV6), *member("upkeep", ICMP_TYPE), *verdict(then)),
        (*equal(L4PROTO, IGMP), *verdict(then)),
    )


def _stray() -> Chain:
    """What belongs to no connection passes where nobody is isolated."""
    found = list(_upkeep(ACCEPT))
    for n in FAMILIES:
        found += [(*_IP[n], *choose(f"either{n}", one)) for one in (FROM[n], TO[n])]
    found += [(*_IP[6], *choose(LOCAL["either"], *pair)) for pair in ((IIFNAME, FROM[6]), (OIFNAME, TO[6]))]
    return Chain("stray", tuple(found))


def _judge(kind: str, interface: Field, *, fronted: bool = False) -> tuple[Rule, ...]:
    """Ask a map about one end of the connection; about a link-local address together with the interface that it is on."""
    fields = OPENER if kind == "opener" else RESPONDER
    plain = (jump("opened"),) if fronted and kind == "opener" else tuple(choose(f"{kind}{n}", fields[n]) for n in FAMILIES)
    return (*plain, choose(LOCAL[kind], interface, fields[6]))


_TO_FRONT = tuple((*member(f"front{n}", PEER[Direction.EGRESS][n]), *goto("fronted")) for n in FAMILIES)
_OPENER = tuple(choose(f"opener{n}", OPENER[n]) for n in FAMILIES)


def _fronts(then: tuple[Rule, ...]) -> tuple[Chain, ...]:
    """Chains of what begins with a service's address; ``then``: what becomes of it at a port that is not the service's.

    A rule for each protocol that a packet can be, as in ``sets``.
    """
    egress = Direction.EGRESS
    at_port = [
        (*equal(L4PROTO, carrier), *member(f"front{n}-ports", PEER[egress][n], CT_PROTOCOL, PORT[egress]), *goto("led"))
        for n in FAMILIES
        for carrier in (*_PORTED, ICMP if n == 4 else ICMPV6)
    ]
    nowhere = tuple((*member(f"front{n}", RESPONDER[n]), *goto(words.ELSE)) for n in FAMILIES)
    return (
        Chain("fronted", (*at_port, *then)),
        Chain("led", (*nowhere, *(choose(f"led{n}", OPENER[n]) for n in FAMILIES))),
        Chain(words.ELSE, _OPENER),
    )


def beside() -> dict[str, Chain]:
    """The chains of the table beside programs, by name: what is for services, also if nobody leads it anywhere."""
    astray = (*has(STATE, _bits(INVALID | UNTRACKED)), *goto("astray"))
    strays = tuple((*_IP[n], *member(f"front{n}", TO[n]), *choose(f"either{n}", FROM[n])) for n in FAMILIES)
    return _named(
        *(
            Chain(name, (astray, *_TO_FRONT), Hook(at, _AFTER_FILTER))
            for name, at in (("forward", _FORWARD), ("input", _INPUT))
        ),
        *_fronts(()),
        Chain("astray", strays),
        _news(_IP),
        deny(STRAY, Reason.STRAY),
        *(deny(name, Reason.POLICY, one) for one, name in DENIALS.items()),
    )


def inet(*, node_access: bool, fronted: bool = False) -> dict[str, Chain]:
    """The chains of the table that judges connections, by name. ``node_access``: what this node itself sends passes.

    ``fronted``: there are services.
    """
    stray = (*has(STATE, _bits(INVALID | UNTRACKED)), *goto("stray"))
    upkeep = (*equal(L4PROTO, IGMP), *verdict(ACCEPT))
    first = (*has(STATUS, CONFIRMED, any_of=False), *verdict(ACCEPT))
    opener = {one: _judge("opener", one, fronted=fronted) for one in (IIFNAME, OIFNAME)}
    both = {one: (stray, upkeep, *opener[one], first, *_judge("responder", one)) for one in (IIFNAME, OIFNAME)}
    # A connection that the node began is answered in the reply direction.
    answer = (*equal(CT_DIRECTION, _REPLYING), *verdict(ACCEPT))
    came = (differs(IIF, _NOBODY), differs(FRAME, _NO_FRAME)) if node_access else ((),)
    known = (*has(STATUS, CONFIRMED), *verdict(ACCEPT))
    hooks = [
        Chain("forward", both[IIFNAME], Hook(_FORWARD, _AFTER_FILTER)),
        Chain(
            "input",
            (stray, answer, *opener[IIFNAME]) if node_access else both[IIFNAME],
            Hook(_INPUT, _AFTER_FILTER),
        ),
        Chain("postrouting", (known, *((*one, *goto("first")) for one in came)), Hook(_POSTROUTING, _AFTER_SOURCE_NAT)),
    ]
    if not node_access:
        hooks.append(Chain("output", both[OIFNAME], Hook(_OUTPUT, _AFTER_FILTER)))
    return _named(
        *hooks,
        Chain("first", (upkeep, *_judge("responder", OIFNAME))),
        *((Chain("opened", (*_TO_FRONT, *_OPENER)), *_fronts(_OPENER)) if fronted else ()),
        _stray(),
        _news(_IP),
        deny(STRAY, Reason.STRAY),
        deny(NOBODY, Reason.NO_ENDPOINT),
        *(deny(name, Reason.POLICY, one) for one, name in DENIALS.items()),
    )


def bridge() -> dict[str, Chain]:
    """The chains of the table that looks at frames, by name."""
    arp = (*equal(ETHERTYPE, _ARP), *verdict(RETURN))
    ip = tuple((*_FRAME_OF[n], *verdict(RETURN)) for n in FAMILIES)
    own = tuple((*_FRAME_OF[n], *member(f"own{n}", OIFNAME, TO[n]), *verdict(RETURN)) for n in FAMILIES)
    return _named(
        Chain("forward", (choose("from", IIFNAME), choose("to", OIFNAME)), Hook(_FORWARD, _AFTER_FILTER)),
        Chain(ISOLATED, (arp, *ip, goto(STRAY))),
        Chain(CLOSED, (arp, *_upkeep(RETURN), *own, goto(MANY))),
        _news(_FRAME_OF),
        deny(STRAY, Reason.NOT_TRACKED),
        deny(MANY, Reason.MANY, Direction.INGRESS),
        deny(NOBODY, Reason.NO_ENDPOINT),
    )


def collections(family: str) -> dict[str, Collection]:
    """The sets and maps of one of the tables, by name."""
    told = {n: (PARTS[n], PARTS[n], PROTOCOL, SERVICE, SERVICE) for n in FAMILIES}
    found = [Collection(f"told{n}", told[n], timeout=_TELL_AGAIN, size=_TOLD) for n in FAMILIES]
    found.append(Collection("upkeep", (_ICMPV6_TYPE,)))
    if family == "inet":
        found += [Collection(f"front{n}", (PARTS[n],)) for n in FAMILIES]
        found += [Collection(f"front{n}-ports", (PARTS[n], PROTOCOL, SERVICE)) for n in FAMILIES]
        found += [Collection(f"led{n}", (PARTS[n],), verdicts=True) for n in FAMILIES]
        found += [Collection(f"{kind}{n}", (PARTS[n],), verdicts=True) for kind in ENDS for n in FAMILIES]
        found += [Collection(name, (IFNAME, IPV6), verdicts=True) for name in LOCAL.values()]
    else:
        found += [Collection(name, (IFNAME,), verdicts=True) for name in ("from", "to")]
        found += [Collection(f"own{n}", (IFNAME, PARTS[n])) for n in FAMILIES]
    return {one.name: one for one in found}


UPKEEP = frozenset(Element(bytes([one])) for one in _UPKEEP)
"""What the set ``upkeep`` always holds."""


def _named(*chains: Chain) -> dict[str, Chain]:
    return {one.name: one for one in chains}
