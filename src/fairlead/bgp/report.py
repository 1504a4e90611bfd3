"""What BIRD prints about sessions and routes, as values. Whatever it prints that is not known is passed over.

Times are asked for as seconds since 1970 (``config``), so that no time zone matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.api.routing import BgpRoute, Neighbour, RouteCount
from fairlead.desired.routing import Session
from fairlead.kit.clock import rfc3339
from fairlead.model.bgp import PORT

from .control import Answer

_ROW, _DETAIL, _ROUTE, _VERSION, _BFD = 1002, 1006, 1007, 1000, 1020
_ATTRIBUTES = (1008, 1012)


class Seen(NamedTuple):
    """One session as BIRD sees it."""

    state: str
    since: str
    error: str
    routes: tuple[RouteCount, ...]


def neighbour(session: Session, seen: Seen | None, liveness: Mapping[str, str], locked: str = "") -> Neighbour:
    """A session as it should be and as it is. ``liveness``: what BFD says, by address; ``locked``: why it has no password."""
    return Neighbour(
        name=session.name,
        peer=session.peer,
        type=session.kind,
        address=session.remote if session.port == PORT else f"{session.remote} port {session.port}",
        asn=session.remote_asn,
        state=seen.state if seen else "",
        since=seen.since if seen else "",
        error=locked or (seen.error if seen else ""),
        bfd=liveness.get(session.remote, "Down") if session.bfd else "",
        routes=seen.routes if seen else (),
    )


_OURS = re.compile(r"(BGP )?Error: ")
"""What is before an error that was met here; others begin with ``Received:`` or ``Socket:``."""
_COUNTS = re.compile(r"(\d+) imported, (?:(\d+) filtered, )?(\d+) exported")


def sessions(answer: Answer) -> dict[str, Seen]:
    """``show protocols all``: the sessions by name."""
    found: dict[str, Seen] = {}
    name, family = "", ""
    for code, text in answer.lines:
        words = text.split()
        if code == _ROW and len(words) >= 5:
            name, family = words[0] if words[1] == "BGP" else "", ""
            if name:
                found[name] = Seen("", _time(words[4]), "", ())
        elif code == _DETAIL and name and words:
            key, _, value = text.strip().partition(":")
            value, seen = value.strip(), found[name]
            match words[0]:
                case "Channel":
                    family = words[1]
                    found[name] = seen._replace(routes=(*seen.routes, RouteCount(family=family)))
                case _ if key == "BGP state":
                    found[name] = seen._replace(state=value)
                case _ if key == "Last error":
                    found[name] = seen._replace(error=_OURS.sub("", value))
                case _ if key == "Routes" and family and (counts := _COUNTS.match(value)):
                    found[name] = seen._replace(routes=(*seen.routes[:-1], _counted(family, counts)))
                case _:
                    pass
    return found


def _counted(family: str, counts: re.Match[str]) -> RouteCount:
    accepted, filtered, exported = (int(one or 0) for one in counts.groups())
    return RouteCount(family=family, received=accepted + filtered, accepted=accepted, exported=exported)


def bfd(answer: Answer) -> dict[str, str]:
    """``show bfd sessions``: states by the neighbour's address."""
    rows = [text.split() for text in answer.of(_BFD)]
    return {words[0]: words[2] for words in rows if len(words) == 6 and words[0] != "IP"}


def version(answer: Answer) -> str:
    """``show status``: BIRD's version."""
    return next((text.removeprefix("BIRD ") for text in answer.of(_VERSION)), "")


_HEAD = re.compile(r"(?P<prefix>\S*) +(?P<kind>\w+) \[(?P<protocol>\S+) (?P<since>\d+)[^]]*\](?P<mark> [*!])?.*")
_HOP = re.compile(r"\t(?:via (?P<via>\S+) on|dev) (?P<device>\S+).*")
_ATTRIBUTE = re.compile(r"\tBGP\.(?P<key>\w+): ?(?P<value>.*)")


def routes(answer: Answer, peers: Mapping[str, str], *, filtered: bool = False) -> list[BgpRoute]:
    """``show route all``: what sessions brought, ``peers`` by the sessions' names, and what this node announces itself."""
    found: list[BgpRoute] = []
    prefix, wanted = "", False
    for code, text in answer.lines:
        if code == _ROUTE and (head := _HEAD.fullmatch(text)):
            prefix = head["prefix"] or prefix
            protocol = head["protocol"]
            wanted = protocol in peers or protocol.startswith("own")
            if wanted:
                best = head["mark"] is not None and not filtered
                peer = peers.get(protocol, "")
                found.append(BgpRoute(prefix=prefix, peer=peer, best=best, filtered=filtered, since=_time(head["since"])))
        elif wanted and code == _ROUTE and (hop := _HOP.fullmatch(text)):
            way = f"{hop['via']} on {hop['device']}" if hop["via"] else hop["device"]
            found[-1] = replace(found[-1], via=(*found[-1].via, way))
        elif wanted and code in _ATTRIBUTES and (said := _ATTRIBUTE.fullmatch(text)):
            found[-1] = replace(found[-1], **dict(_attribute(said["key"], said["value"], found[-1])))
    return found


def _attribute(key: str, value: str, before: BgpRoute) -> Iterator[tuple[str, object]]:
    match key:
        case "as_path":
            yield "as_path", value.strip()
        case "next_hop":
            yield "next_hop", value.partition(" ")[0]
        case "local_pref" if value.isdigit():
            yield "local_preference", int(value)
        case "med" if value.isdigit():
            yield "med", int(value)
        case "community" | "large_community":
            yield "communities", (*before.communities, *_communities(value))
        case _:
            return


def _communities(value: str) -> Iterable[str]:
    return [":".join(part.strip() for part in one.split(",")) for one in re.findall(r"\(([^)]*)\)", value)]


def _time(seconds: str) -> str:
    return rfc3339(int(seconds)) if seconds.isdigit() else ""
