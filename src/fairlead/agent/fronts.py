"""Fronts: services as policies see them, where whoever forwards does so behind us.

A connection to a service begins with the service's address, and egress is judged by that. Whom it will be led to nobody knows
yet; but where policies cannot tell apart those who stand behind a service, and each of its ports is theirs too, it does not
matter: the address is judged as they are. It is told to the book as one more container of another node::

    10.96.0.10:53 ──► coredns-a, coredns-b: k8s-app=kube-dns, 53/udp ──► 10.96.0.10 is judged as k8s-app=kube-dns

Any other service is an address that nobody has. Who is behind it and not known yet, as a pod whose object comes later, is
waited for; who can be no container of ours makes the service one of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fairlead.model.address import Address, ContainerID, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.meta import Meta
from fairlead.model.service import Service
from fairlead.policy.book import Book
from fairlead.service.directory import Directory, Key

NOWHERE = "-"
"""The node that they are on: no node has such a name, and nothing is enforced on them."""

_ID, _INTERFACE, _NETWORK = ContainerID("service"), InterfaceName("service"), Name("services")
_NO_SANDBOX = Sandbox(path="")


class Fronts:
    """Every service that is judged as those behind it. What changes is noted, and true with the next ``settle``."""

    def __init__(self, directory: Directory, inside: Callable[[Address], bool]) -> None:
        """``inside``: whether an address is one that containers have."""
        self._directory, self._inside = directory, inside
        self._shown: dict[Key, Endpoint] = {}
        self._stale: set[Key] = set()
        self._mixed: set[Key] = set()
        self._view = 0

    def touch(self, service: Key) -> None:
        """A service is new, another or gone, or a slice of it."""
        self._stale.add(service)

    def moved(self, endpoint: Endpoint | None) -> None:
        """Somebody who may stand behind a service is new, another or gone."""
        for one in endpoint.spec.addresses if endpoint else ():
            self._stale.update(self._directory.before(one.address))

    @property
    def stale(self) -> bool:
        """Whether anything was noted."""
        return bool(self._stale)

    def settle(self, book: Book) -> Iterator[tuple[Endpoint, bool]]:
        """What is another than it was last told, and whether it is gone."""
        if book.view != self._view:
            self._view = book.view
            self._stale |= self._mixed
        stale, self._stale = self._stale, set()
        for key in sorted(stale):
            before, now = self._shown.pop(key, None), self._front(key, book)
            if now is not None:
                self._shown[key] = now
            if now != before:
                yield (now, False) if now is not None else (before, True)  # type: ignore[misc]  # one of them is there

    def _front(self, key: Key, book: Book) -> Endpoint | None:
        self._mixed.discard(key)
        service = self._directory.services.get(key)
        if service is None or not service.cluster_addresses or not self._keeps_ports(service):
            return None
        known = []
        for address in self._directory.addresses(service):
            holder = book.at(address)
            if holder is not None:
                known.append(holder)
            elif not self._inside(address):
                return None
        looks = [(one.metadata.namespace, one.metadata.labels, one.spec.named_ports) for one in known]
        if any(one != looks[0] for one in looks):
            self._mixed.add(key)
            if not book.alike(known):
                return None
        return _made(service, known[0]) if known else None

    def _keeps_ports(self, service: Service) -> bool:
        """Whether each port of the service is that of everybody behind it."""
        return all(port.port == number for port in service.spec.ports for number in self._directory.numbers(service, port))


def _made(service: Service, like: Endpoint) -> Endpoint:
    meta = like.metadata
    return Endpoint(
        metadata=Meta(name=f"service/{'/'.join(service.key)}", namespace=meta.namespace, labels=meta.labels),
        spec=EndpointSpec(
            container=_ID,
            interface=_INTERFACE,
            network=_NETWORK,
            sandbox=_NO_SANDBOX,
            display=f"{service.name} (service)",
            owner="service",
            addresses=tuple(one.alone for one in service.cluster_addresses),
            named_ports=like.spec.named_ports,
            node=NOWHERE,
        ),
    )
