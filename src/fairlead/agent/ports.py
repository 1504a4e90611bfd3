"""Which host ports are taken, and by whom: by containers as the agent knows, by the host's own processes as a bind tells."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator

from fairlead.api.schema import AnyPort
from fairlead.model.endpoint import Endpoint, Protocol, PublishedPort
from fairlead.model.errors import Conflict, Exhausted

_LARGE = 64
"""Ports of one publication that are asked for one by one in the index; a longer run is kept aside and compared whole."""

_SOCKETS = {
    Protocol.TCP: (socket.SOCK_STREAM, 0),
    Protocol.UDP: (socket.SOCK_DGRAM, 0),
    Protocol.SCTP: (socket.SOCK_STREAM, 132),
}


class Ports:
    """Publications of all endpoints, found by protocol and port at a cost that does not grow with their number."""

    def __init__(self) -> None:
        self._single: dict[tuple[Protocol, int], list[tuple[PublishedPort, Endpoint]]] = {}
        self._runs: list[tuple[PublishedPort, Endpoint]] = []

    def add(self, endpoint: Endpoint) -> None:
        """Remember what ``endpoint`` publishes."""
        for port in endpoint.spec.ports:
            for shelf in self._shelves(port):
                shelf.append((port, endpoint))

    def remove(self, endpoint: Endpoint) -> None:
        """Forget what ``endpoint`` publishes."""
        for port in endpoint.spec.ports:
            for shelf in self._shelves(port):
                shelf[:] = [entry for entry in shelf if entry[1].name != endpoint.name]
            if port.count <= _LARGE:
                for key in _keys(port):
                    if not self._single.get(key):
                        self._single.pop(key, None)

    def refuse_taken(self, wanted: Iterable[PublishedPort], name: str) -> None:
        """Raise ``Conflict`` that names the holder if a port of ``wanted`` is another's than ``name``'s, or twice in it."""
        seen: list[PublishedPort] = []
        for at, port in enumerate(wanted):
            field = f"ports[{at}]"
            for earlier in seen:
                if port.collides(earlier):
                    raise Conflict(f"{port} is asked for twice: {earlier} is the same host port", field=field)
            seen.append(port)
            for taken, holder in self._near(port):
                if holder.name != name and port.collides(taken):
                    raise Conflict(
                        f"host port {port} is published by container {holder.display} ({taken}); "
                        "choose another host port or remove that container",
                        field=field,
                    )

    def choose(self, wanted: AnyPort, taken: tuple[PublishedPort, ...], name: str) -> PublishedPort:
        """The first host port that ``wanted`` allows and that is free, beside those of ``taken``, for the endpoint ``name``."""
        for number in range(wanted.first, wanted.last + 1):
            port = PublishedPort(
                host_port=number, container_port=wanted.container_port, protocol=wanted.protocol, host_ip=wanted.host_ip
            )
            try:
                self.refuse_taken((*taken, port), name)
                refuse_bound((port,))
            except Conflict:
                continue
            return port
        raise Exhausted(
            f"no host port from {wanted.first} to {wanted.last} is free for {wanted.container_port}/{wanted.protocol}",
            field="ports",
        )

    def _shelves(self, port: PublishedPort) -> Iterator[list[tuple[PublishedPort, Endpoint]]]:
        if port.count > _LARGE:
            yield self._runs
        else:
            yield from (self._single.setdefault(key, []) for key in _keys(port))

    def _near(self, port: PublishedPort) -> Iterator[tuple[PublishedPort, Endpoint]]:
        yield from self._runs
        if port.count > len(self._single):
            yield from (entry for shelf in self._single.values() for entry in shelf)
        else:
            yield from (entry for key in _keys(port) for entry in self._single.get(key, ()))


def refuse_bound(wanted: Iterable[PublishedPort]) -> None:
    """Raise ``Conflict`` if a process of the host listens on a port of ``wanted``: it would get no packet any more."""
    for at, port in enumerate(wanted):
        for family in (4, 6):
            if not port.serves(family):
                continue
            for number in range(port.host_port, port.last + 1):
                if problem := _bound(port, family, number):
                    raise Conflict(f"host port {number}/{port.protocol} {problem}; choose another", field=f"ports[{at}]")


def _bound(port: PublishedPort, family: int, number: int) -> str:
    kind, protocol = _SOCKETS[port.protocol]
    try:
        probe = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol)
    except OSError:
        return ""  # the kernel has no such sockets, so no process of the host can have one
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if kind == socket.SOCK_STREAM else 0)
        if family == 6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((str(port.host_ip or ""), number))
            if port.protocol is Protocol.TCP:
                probe.listen(0)  # with SO_REUSEADDR a bind alone does not collide with a bound one
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is used by a process of this host"
            if error.errno == errno.EADDRNOTAVAIL and port.host_ip is not None:
                return f"cannot be published on {port.host_ip}: it is no address of this host"
    return ""


def _keys(port: PublishedPort) -> Iterator[tuple[Protocol, int]]:
    return ((port.protocol, number) for number in range(port.host_port, port.last + 1))
