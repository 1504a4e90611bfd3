"""Fronts: the addresses of services as policies see them, where whoever leads on from there does so behind us.

A connection to a service begins with the service's address. Whom it will be led to nobody knows yet, so that of this address's
ports policies say "later", and are asked once it is known who is reached::

    10.96.0.10:80 ──► the link: let pass ──► kube-proxy: 10.244.2.7:8080 ──► egress, as to 10.244.2.7:8080 (datapath)

Which of those behind a service are allowed is therefore none of this module's business, nor how many there are.
"""

from __future__ import annotations

from fairlead.model.address import Address
from fairlead.policy.book import Book, Delta
from fairlead.policy.identity import FrontPorts
from fairlead.policy.ports import PROTOCOLS
from fairlead.service.directory import Directory, Key


class Fronts:
    """The address of every service. What changes is noted, and true with the next ``settle``."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._stale: set[Key] = set()

    def touch(self, service: Key) -> None:
        """A service is new, another or gone."""
        self._stale.add(service)

    @property
    def stale(self) -> bool:
        """Whether anything was noted."""
        return bool(self._stale)

    def settle(self, book: Book) -> Delta:
        """What it changes for policies."""
        stale, self._stale = self._stale, set()
        return book.show({"/".join(key): self._front(key) for key in sorted(stale)})

    def _front(self, key: Key) -> tuple[FrontPorts, tuple[Address, ...]]:
        service = self._directory.services.get(key)
        if service is None:
            return (), ()
        ports = {(PROTOCOLS[one.protocol.lower()], one.port) for one in service.spec.ports}
        return tuple(sorted(ports)), service.fronts
