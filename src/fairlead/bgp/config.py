"""The speaker's configuration: rows to the text that BIRD 2 reads. Pure: the same rows, the same text.

What BIRD holds, and what goes where, the same for IPv4 and IPv6::

    own          blocks and what else is announced    ──> neighbours
    direct       subnets that the host is on          ──> nobody: to know which next hops are there
    neighbours   what they tell, past the rules       ──> kernel, main table, metric 1102

Nothing is read from the kernel's routes, and those that BIRD writes are told from all others by their metric: it is higher than
those that people and other programs use, so that a route which somebody made for the same prefix stays the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.desired.routing import Announcement, Channel, Session, Sieve, Speaker
from fairlead.desired.state import NodeState
from fairlead.model.address import Address, Family
from fairlead.model.bgp import Community
from fairlead.model.secret import SecretKeyRef
from fairlead.topology import mtu

from . import rules

METRIC = 1102
"""Of every route that the speaker writes."""
_SCAN = 10
"""Seconds after which a route that somebody removed from the kernel is back, at the latest."""
_RECOVERY = 30
"""Seconds that a restarted speaker waits for neighbours that do not come back, before it goes by those that did."""
_PATHS = 16
"""Next hops of one route, where neighbours tell of it alike."""
_LOG = 1 << 20


class Protocol(NamedTuple):
    """What the two families are called."""

    family: Family
    channel: str
    bits: int


PROTOCOLS = (Protocol(4, "ipv4", 32), Protocol(6, "ipv6", 128))


def text(state: NodeState, passwords: Mapping[SecretKeyRef, str], log: str) -> str:
    """The whole file; empty if the node is no speaker.

    ``log``: where BIRD writes what it met. A session whose password is not among ``passwords`` is there, and disabled.
    """
    speaker = next(iter(state.table(Speaker).values()), None)
    if speaker is None:
        return ""
    sessions = sorted(state.table(Session).values(), key=lambda one: one.name)
    sieves = {one.name: one for one in state.table(Sieve).values()}
    announcements = sorted(state.table(Announcement).values(), key=lambda one: rules.order(one.prefix))
    lines = [*_head(speaker, log)]
    for protocol in PROTOCOLS:
        own = [one for one in announcements if one.prefix.family == protocol.family]
        lines += ["", *_family(protocol, speaker, own)]
    for name in sorted({name for one in sessions for name in one.filters}):
        lines += ["", *rules.functions(name, sieves.get(name))]
    if any(one.bfd for one in sessions):
        lines += ["", "protocol bfd {", "}"]
    for session in sessions:
        lines += ["", *_session(session, speaker, passwords)]
        if session.gateway:
            lines += ["", *_way(session, session.gateway)]
    return "\n".join(lines) + "\n"


def refuse_password(password: str) -> str:
    """What is wrong with a password, as the kernel takes it (RFC 2385) and BIRD can read it; empty if nothing is."""
    if not 1 <= len(password) <= 80:
        return f"has {len(password)} characters; 1 to 80 are possible"
    if not password.isascii() or not password.isprintable() or '"' in password:
        return "holds a character other than printable ASCII without the double quote"
    return ""


def _head(speaker: Speaker, log: str) -> Iterator[str]:
    yield "# Written by Fairlead; what is changed here by hand is lost with the next change of the cluster."
    yield f'log "{log}" {_LOG} "{log}.1" {{ info, remote, warning, error, auth, fatal, bug }};'
    yield 'timeformat base "%F %T.%3f";'
    yield 'timeformat protocol "%s";'
    yield 'timeformat route "%s";'
    yield f"router id {speaker.router_id};"
    yield f"graceful restart wait {_RECOVERY};"
    yield ""
    yield "protocol device {"
    yield "}"
    yield ""
    yield "# Which next hops are there. Told to nobody, written nowhere."
    yield "protocol direct {"
    yield "  ipv4;"
    yield "  ipv6;"
    yield "}"


def _family(protocol: Protocol, speaker: Speaker, own: Iterable[Announcement]) -> Iterator[str]:
    family, channel = protocol.family, protocol.channel
    yield f"# ---- IPv{family} ----"
    yield ""
    yield from rules.territory(family, speaker.territory)
    yield ""
    yield f"protocol static own{family} {{"
    yield f"  {channel};"
    for one in own:
        yield f"  route {one.prefix} unreachable{_carrying(one.communities)};"
    yield "}"
    yield ""
    yield f"protocol kernel kernel{family} {{"
    yield f"  {channel} {{"
    yield "    import none;"
    yield "    export filter {"
    yield from (f"      {line}" for line in _kernel(family, speaker))
    yield "    };"
    yield "  };"
    yield f"  metric {METRIC};"
    yield "  persist;"
    yield "  graceful restart;"
    yield f"  merge paths limit {_PATHS};"
    yield f"  scan time {_SCAN};"
    yield "}"


def _kernel(family: Family, speaker: Speaker) -> Iterator[str]:
    """What is written to the kernel: what neighbours told; of the cluster also that there is no way, lest another is taken."""
    yield "if source != RTS_BGP then reject;"
    yield f"if dest = RTD_UNREACHABLE && !cluster{family}() then reject;"
    for address in speaker.addresses:
        if address.family == family:
            yield f"if dest = RTD_UNICAST then krt_prefsrc = {address};"
    for one in speaker.narrow:
        yield f"if bgp_next_hop = {one.hop} then krt_mtu = {max(one.mtu, mtu.LEAST[family])};"
    yield "accept;"


def _carrying(communities: Iterable[Community]) -> str:
    added = [
        f"bgp_{'large_' if len(one.parts) == 3 else ''}community.add(({','.join(map(str, one.parts))}));" for one in communities
    ]
    return f" {{ {' '.join(added)} }}" if added else ""


def _session(session: Session, speaker: Speaker, passwords: Mapping[SecretKeyRef, str]) -> Iterator[str]:
    yield f"protocol bgp '{session.name}' {{"
    yield from (f"  {line};" for line in _neighbour(session, speaker))
    if session.password:
        known = passwords.get(session.password, "")
        yield f'  password "{known}";' if known else f"  disabled on; # there is no password in {session.password}"
    for channel in session.channels:
        yield from _channel(session, channel)
    yield "}"


def _way(session: Session, gateway: Address) -> Iterator[str]:
    """How a neighbour some hops away is reached, for what it tells goes through it. Told to nobody."""
    yield f"protocol static 'way.{session.name}' {{"
    yield f"  ipv{session.remote.family};"
    yield f"  route {session.remote.host()} via {gateway};"
    yield "}"


def _neighbour(session: Session, speaker: Speaker) -> Iterator[str]:
    yield f'description "{rules.plain(session.peer)}, {session.kind}"'
    source = f"{session.local} " if session.local else ""
    yield f"local {source}port {speaker.port} as {session.asn}"
    yield f"neighbor {session.remote} port {session.port} as {session.remote_asn}"
    if session.local:
        # Listening on this address alone leaves the port of others free, gateways of containers among them; and an address
        # that is not there yet may be waited for.
        yield "strict bind on"
        yield "free bind on"
    if session.device:
        yield f'interface "{session.device}"'
    yield f"multihop {session.hops}" if session.hops else "direct"
    if session.secure:
        yield "ttl security on"
    yield f"hold time {session.hold}"
    # A node that comes back is heard within seconds; BIRD's own pace is for routers far away.
    yield "connect delay time 1"
    yield "connect retry time 5"
    yield "error wait time 1, 30"
    yield "error forget time 60"
    yield f"graceful restart {'on' if session.restart else 'aware'}"
    if session.restart:
        yield f"graceful restart time {session.restart}"
    if session.cluster:
        yield "rr client on"
        yield f"rr cluster id {session.cluster}"
    if session.own:
        yield f"allow local as {session.own}"
    if session.bfd:
        yield f"bfd {{ interval {session.bfd.interval} ms; multiplier {session.bfd.multiplier}; }}"


def _channel(session: Session, channel: Channel) -> Iterator[str]:
    family = channel.family
    yield f"  ipv{family} {{"
    yield from (f"    {line}" for line in rules.passing(session, family))
    yield "    import keep filtered on;"
    if session.internal:
        yield "    gateway recursive;"
    if family == 6 and not session.device:
        # A neighbour tells its link-local address too, if that was ready when the session began: left alone, routes would be
        # one way today and another tomorrow.
        yield "    next hop prefer global;"
    if channel.next_hop != session.local:
        yield f"    next hop address {channel.next_hop};"
    if channel.extended:
        yield "    extended next hop on;"
    if session.keep:
        yield "    next hop keep on;"
    yield "  };"
