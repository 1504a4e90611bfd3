"""Crypts: WireGuard devices and the other nodes behind them, brought to what the rows say.

A device that is not there, or whose process hangs, is made anew; what goes wrong meanwhile is unreachable and nowhere in the
clear, for which paths and the packet filter see (docs/encryption.md). Private keys come from ``secret`` by their public ones
and go nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from errno import EEXIST, ETIMEDOUT
from pathlib import Path

from fairlead.api.schema import Drift
from fairlead.desired import names
from fairlead.desired.ways import Crypt, CryptPeer
from fairlead.kernel import route, sysctl, wireguard
from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import AddressInfo, LinkInfo
from fairlead.kernel.wireguard import KEEPALIVE, Device, Peer, Wireguard
from fairlead.kit import fault
from fairlead.model.errors import Conflict, Missing

from .mark import GROUP, SILENT

TABLE, PEERS = "encryption", "encryption peers"
ALL = (names.crypt(0), names.crypt(1))
"""Every device that there can be."""

_LOOSE = "2"
"""What comes out of a device need not be answered through it: another node's own address is reached without it, and while keys
are replaced each way goes over by itself. So no strict rp_filter; of an interface's and everybody's the larger counts, and 2 is
larger than the strict 1. WireGuard knows better than a look at the routes who may send as whom."""
_ADDRESS = f"{SILENT}/32"
"""On an interface without any IPv4 address a loose rp_filter is as strict as a strict one. This is for nothing else."""

Secret = Callable[[str], str]
"""From a public key to the private one; empty if it is not known here."""


class Crypts:
    """Finds out which WireGuard there is when the first device is asked for."""

    def __init__(self, directory: Path, secret: Secret) -> None:
        """``directory``: where processes have their sockets, where the kernel has no WireGuard."""
        self._directory, self._secret = directory, secret
        self._found: Wireguard | None = None

    @property
    def wireguard(self) -> Wireguard:
        """Whoever makes devices here; ``Unsupported`` if nobody does."""
        if self._found is None:
            self._found = wireguard.find(self._directory)
        return self._found

    def ensure(self, nl: Netlink, row: Crypt) -> None:
        """Make the device, or bring the one there is to what ``row`` says."""
        private = self._secret(row.public)
        if not private:
            raise Missing(f"the private key of {row.public} is not here; rotate: fairlead wireguard rotate", field="encrypt")
        device = self._made(nl, row)
        fault.point("crypt.made")
        link = route.link(nl, row.name)
        if link is None:
            raise Missing(f"interface {row.name} vanished; it comes back by itself", field="encrypt")
        nl.do(
            route.set_link(link.index, group=GROUP, mtu=row.mtu, link_local=False),
            route.set_link(link.index, up=True),
        )
        nl.do(route.new_address(link.index, _ADDRESS, scope=route.LINK).accepting(EEXIST))
        sysctl.write(_filter(row.name), _LOOSE)
        if device.private != private or device.port != row.port:
            self.wireguard.set(row.name, private=private, port=row.port)
        fault.point("crypt.set")

    def join(self, rows: Iterable[CryptPeer]) -> None:
        """Say who is behind the devices."""
        by: dict[str, list[CryptPeer]] = {}
        for row in rows:
            by.setdefault(row.device, []).append(row)
        for device, peers in by.items():
            try:
                self.wireguard.set(device, peers=[_peer(one) for one in peers])
            except Gone:
                raise Missing(f"device {device} is gone; it comes back by itself", field="encrypt") from None

    def call(self, rows: Iterable[CryptPeer]) -> None:
        """Have handshakes begun with peers that should have done so and did not; WireGuard itself goes on trying."""
        for row in rows:
            peer = _peer(row)
            self.wireguard.set(row.device, peers=[replace(peer, keepalive=KEEPALIVE)])
            self.wireguard.set(row.device, peers=[peer])

    def part(self, rows: Iterable[CryptPeer]) -> None:
        """Forget who was behind the devices."""
        by: dict[str, list[str]] = {}
        for row in rows:
            by.setdefault(row.device, []).append(row.public)
        for device, keys in by.items():
            if self.wireguard.get(device) is not None:
                self.wireguard.set(device, remove=keys)

    def remove(self, name: str) -> None:
        """Remove the device."""
        self.wireguard.remove(name)

    def get(self, name: str) -> Device | None:
        """A device as it is."""
        return self.wireguard.get(name)

    def check(
        self, rows: Iterable[Crypt], peers: Iterable[CryptPeer], links: dict[str, LinkInfo], addresses: Iterable[AddressInfo]
    ) -> list[Drift]:
        """Compare devices and peers with what is there."""
        behind: dict[str, dict[str, CryptPeer]] = {}
        for one in peers:
            behind.setdefault(one.device, {})[one.public] = one
        own = {one.index for one in addresses if one.interface == _ADDRESS}
        return [drift for row in rows for drift in self._check(row, behind.get(row.name, {}), links.get(row.name), own)]

    def prune(self, rows: Iterable[Crypt], peers: Iterable[CryptPeer]) -> int:
        """Forget peers that nobody wants; return how many."""
        devices = list(rows)
        wanted = {(one.device, one.public) for one in peers}
        count = 0
        for row in devices:
            have = self.wireguard.get(row.name)
            stale = [public for public in (have.peers if have else ()) if (row.name, public) not in wanted]
            if stale:
                self.wireguard.set(row.name, remove=stale)
                count += len(stale)
        return count

    def purge(self, links: Iterable[LinkInfo]) -> None:
        """Remove the devices that there are."""
        if self._found is None and not self._directory.exists() and not any(one.name in ALL for one in links):
            return  # nobody ever asked for one
        try:
            found = self.wireguard
        except KernelError:
            return
        for name in ALL:
            found.remove(name)

    def _made(self, nl: Netlink, row: Crypt) -> Device:
        found = self.wireguard
        try:
            device = found.get(row.name)
        except KernelError as error:
            if error.errno != ETIMEDOUT:
                raise
            found.remove(row.name)  # it hangs
            device = None
        if device is None:
            _refuse_foreign(route.link(nl, row.name), row)
            found.make(row.name)
            device = found.get(row.name)
        if device is None:
            raise Missing(f"device {row.name} vanished; it comes back by itself", field="encrypt")
        return device

    def _check(self, row: Crypt, peers: dict[str, CryptPeer], link: LinkInfo | None, own: set[int]) -> list[Drift]:
        try:
            device = self.wireguard.get(row.name) if link else None
        except KernelError as error:
            return [Drift(table=TABLE, key=row.name, kind="different", want="an answer", have=str(error))]
        if device is None or link is None:
            missing = [Drift(table=TABLE, key=row.name, kind="missing", want=f"port {row.port}, key {row.public}")]
            return missing + [
                Drift(table=PEERS, key=one.key, kind="missing", want=f"{one.node} at {one.endpoint}") for one in peers.values()
            ]
        keyed = device.private == self._secret(row.public)
        want = {"up": True, "mtu": row.mtu, "group": GROUP, "port": row.port, "key": row.public, "address": True}
        have = {
            "up": link.up,
            "mtu": link.mtu,
            "group": link.group,
            "port": device.port,
            "key": row.public if keyed else "another",
            "address": link.index in own,
        }
        drift = [
            Drift(table=TABLE, key=row.name, kind="different", want=f"{name} {want[name]}", have=f"{name} {have[name]}")
            for name in want
            if want[name] != have[name]
        ]
        return drift + _check_peers(row.name, peers, device)


def _check_peers(name: str, peers: dict[str, CryptPeer], device: Device) -> list[Drift]:
    drift = []
    for public, row in peers.items():
        found = device.peers.get(public)
        if found is None:
            drift.append(Drift(table=PEERS, key=row.key, kind="missing", want=f"{row.node} at {row.endpoint}"))
        elif not _same(_peer(row), found):
            drift.append(Drift(table=PEERS, key=row.key, kind="different", want=_shown(_peer(row)), have=_shown(found)))
    return drift + [
        Drift(table=PEERS, key=f"{name} {public}", kind="unexpected", have=_shown(one))
        for public, one in device.peers.items()
        if public not in peers
    ]


def _same(want: Peer, have: Peer) -> bool:
    """Where it is does not count, once it is known: WireGuard follows a peer that proves itself from elsewhere."""
    return have.endpoint is not None and want.allowed == have.allowed and want.keepalive == have.keepalive


def _peer(row: CryptPeer) -> Peer:
    return Peer(row.public, (row.endpoint, row.port), frozenset(row.allowed), KEEPALIVE if row.calls else 0)


def _shown(peer: Peer) -> str:
    where = f"{peer.endpoint[0]}:{peer.endpoint[1]}" if peer.endpoint else "nowhere"
    return f"{where} with {', '.join(sorted(peer.allowed)) or 'nothing'}"


def _filter(name: str) -> str:
    return f"net.ipv4.conf.{name}.rp_filter"


def _refuse_foreign(link: LinkInfo | None, row: Crypt) -> None:
    if link is not None and link.group != GROUP:
        raise Conflict(f"the host has an interface {row.name} that Fairlead did not make", field="encrypt")
