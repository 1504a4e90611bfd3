"""A synchronous client of the agent over its unix socket: one method a route, one connection a request.

It uses the standard library's ``http.client`` alone, so that a command starts fast. What the agent refuses is raised here
as the ``model.errors`` problem it was there; an agent that does not answer is ``Unavailable``, never a bare ``OSError``.
"""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, Union
from urllib.parse import quote, urlencode

from fairlead.model import codec, errors
from fairlead.model.broken import Broken
from fairlead.model.meta import Object
from fairlead.model.network import Network

from . import wire
from .encryption import Encryption, Rotated
from .identities import Identity
from .routing import BgpRoute, BgpStatus
from .schema import (
    Applied,
    Attach,
    Attached,
    Change,
    Detach,
    Detached,
    Explained,
    Flow,
    Previewed,
    Proposal,
    Refusal,
    Report,
    RuleHits,
    Status,
)

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds that one answer may take."""

_ANY: Any = Union[codec.KINDS]  # noqa: UP007  # the kinds there are, whichever they are
_GONE: Any = Union[(*codec.KINDS, Broken)]
_JSON = {"Content-Type": "application/json"}


class Client:
    """What the agent does for others, as calls that block."""

    def __init__(self, path: Path | None = None, *, timeout: float = TIMEOUT) -> None:
        self.path = path or wire.socket_path()
        self._timeout = timeout

    def status(self) -> Status:
        """The agent in numbers."""
        return self._ask("GET", "/v1/status", Status)

    def doctor(self) -> Report:
        """The kernel compared with what it should be; nothing is touched."""
        return self._ask("GET", "/v1/doctor", Report)

    def objects(self, plural: str, *, everywhere: bool = False, reveal: bool = False) -> list[Object]:
        """All objects of a kind, by name. ``everywhere``: other nodes' endpoints too; ``reveal``: what Secrets hold."""
        words = [f"{word}=true" for word, asked in (("everywhere", everywhere), ("reveal", reveal)) if asked]
        return self._ask("GET", f"/v1/objects/{quote(plural, safe='')}{'?' if words else ''}{'&'.join(words)}", list[_ANY])

    def object(self, plural: str, name: str, *, reveal: bool = False) -> Object:
        """One object; ``Missing`` if there is none. ``reveal``: what a Secret holds."""
        thing: Object = self._ask("GET", self._route(plural, name) + ("?reveal=true" if reveal else ""), _ANY)
        return thing

    def network(self, name: str) -> Network:
        """One network; ``Missing`` if there is none."""
        return self._ask("GET", self._route(Network.plural, name), Network)

    def apply(self, thing: Object) -> Applied:
        """Create an object or replace its spec."""
        return self._ask("PUT", "/v1/objects", Applied, thing)

    def delete(self, plural: str, name: str) -> Object | Broken:
        """Remove an object; what it was comes back."""
        thing: Object | Broken = self._ask("DELETE", self._route(plural, name), _GONE)
        return thing

    def attach(self, request: Attach) -> Attached:
        """Give a namespace an interface; everything is in the kernel when this returns."""
        return self._ask("POST", "/v1/attach", Attached, request)

    def detach(self, request: Detach) -> Detached:
        """Take interfaces away; nothing there is no error."""
        return self._ask("POST", "/v1/detach", Detached, request)

    def change(self, request: Change) -> Attached:
        """Change what an endpoint has; everything is in the kernel when this returns."""
        return self._ask("POST", "/v1/change", Attached, request)

    def encryption(self) -> Encryption:
        """Encryption between this node and the others."""
        return self._ask("GET", "/v1/wireguard", Encryption)

    def rotate(self) -> Rotated:
        """Begin to replace the keys of all nodes."""
        return self._ask("POST", "/v1/wireguard/rotate", Rotated)

    def bgp_status(self) -> BgpStatus:
        """The BGP speaker and its neighbours."""
        return self._ask("GET", "/v1/bgp/status", BgpStatus)

    def bgp_routes(self, **query: str) -> list[BgpRoute]:
        """The routes that it knows: ``peer``, ``show``."""
        return self._ask("GET", f"/v1/bgp/routes?{urlencode(query)}", list[BgpRoute])

    def explain(self, **query: str) -> Explained:
        """Whether one may open a connection to another, and why: ``from``, ``to``, ``protocol``, ``port``."""
        return self._ask("GET", f"/v1/policy/explain?{urlencode(query)}", Explained)

    def preview(self, proposal: Proposal) -> Previewed:
        """What would change if objects were applied or deleted."""
        return self._ask("POST", "/v1/policy/preview", Previewed, proposal)

    def identities(self, **query: str) -> list[Identity]:
        """The numbers by which the kernel knows who is who; ``who``: his."""
        return self._ask("GET", f"/v1/policy/identities?{urlencode(query)}", list[Identity])

    def hits(self) -> list[RuleHits]:
        """How often each rule has decided."""
        return self._ask("GET", "/v1/policy/hits", list[RuleHits])

    def flows(self, **query: str) -> list[Flow]:
        """The last flows that match: words as in the filters of ``GET /v1/flows``."""
        return self._ask("GET", f"/v1/flows?{urlencode(query)}", list[Flow])

    def follow(self, **query: str) -> Iterator[Flow]:
        """What matches from now on, until the agent ends. Waits for the next flow as long as it takes."""
        connection = http.client.HTTPConnection("fairlead")
        connection.sock = self._connect()
        try:
            connection.request("GET", f"/v1/flows?{urlencode({**query, 'follow': 'true'})}")
            answer = connection.getresponse()
            if answer.status != 200:
                raise self._refusal(answer.status, answer.read())
            connection.sock.settimeout(None)
            while line := answer.readline():
                yield codec.decode(line, Flow)
        except (OSError, http.client.HTTPException) as problem:
            raise errors.Unavailable(f"the agent broke off while telling of flows: {problem}") from None
        finally:
            connection.close()

    def purge(self) -> None:
        """Remove everything of Fairlead from this node's kernel."""
        self._send("DELETE", "/v1/node", b"")

    def pid(self) -> int:
        """The process that listens on the socket, as the kernel knows it (SO_PEERCRED)."""
        with self._connect() as connected:
            size = struct.calcsize("3i")
            pid, _, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        return int(pid)

    @staticmethod
    def _route(plural: str, name: str) -> str:
        return f"/v1/objects/{quote(plural, safe='')}/{quote(name, safe='')}"

    def _ask(self, method: str, route: str, to: type[T], body: Any = None) -> T:
        answer = self._send(method, route, b"" if body is None else codec.encode(body))
        try:
            return codec.decode(answer, to)
        except errors.Invalid as problem:
            raise errors.Failed(
                f"the agent's answer to {method} {route} is not understood ({problem}); "
                "if Fairlead was upgraded, restart the agent: fairlead down && fairlead up"
            ) from None

    def _send(self, method: str, route: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("fairlead", timeout=self._timeout)
        connection.sock = self._connect()
        try:
            connection.request(method, route, body=body or None, headers=_JSON if body else {})
            answer = connection.getresponse()
            data = answer.read()
        except TimeoutError:
            raise errors.Unavailable(f"the agent has not answered {method} {route} within {self._timeout:g} s") from None
        except (OSError, http.client.HTTPException) as problem:
            what = str(problem) or type(problem).__name__
            raise errors.Unavailable(f"the agent broke off while answering {method} {route}: {what}") from None
        finally:
            connection.close()
        if 200 <= answer.status < 300:
            return data
        raise self._refusal(answer.status, data)

    def _connect(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Not by settimeout: a socket with one does not wait while the agent's queue is full, but fails at once.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(self._timeout), 1))
        try:
            connected.connect(str(self.path))
            connected.settimeout(self._timeout)
        except (FileNotFoundError, ConnectionRefusedError):
            connected.close()
            raise errors.Unavailable(f"the agent is not running (nothing listens on {self.path}); {wire.remedy()}") from None
        except PermissionError:
            connected.close()
            raise errors.Forbidden(
                f"{self.path} is for root and the group given to `fairlead up --group`; run this with sudo"
            ) from None
        except OSError as problem:
            connected.close()
            raise errors.Unavailable(f"the agent cannot be reached on {self.path}: {problem.strerror or problem}") from None
        return connected

    @staticmethod
    def _refusal(status: int, data: bytes) -> errors.Problem:
        try:
            return wire.problem(codec.decode(data, Refusal))
        except errors.Invalid:
            text = data[:200].decode(errors="replace").strip()
            kinds = {code: kind for kind, code in wire.STATUS.items()}
            return kinds.get(status, errors.Failed)(f"the agent answered {status}: {text or 'no reason given'}")
