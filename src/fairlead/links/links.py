"""The face of this package: bridges, veths and limits brought to what the rows say.

Host-side interfaces are compared in a few listings for all rows together; what is inside a container is compared one
container at a time, so that a caller can spread the work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from errno import ENODEV
from typing import Any

from fairlead.api.schema import Drift
from fairlead.desired.state import Bridge, Chain, Inside, Limit, Link, NodeState, Row, Sub
from fairlead.desired.ways import Crypt, CryptPeer, Detour, Path, Tunnel, Vtep
from fairlead.kernel import route
from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo
from fairlead.kernel.wireguard import Device
from fairlead.kit import fault

from . import bridges, chains, inside, limits, paths, subs, tunnels, veths
from .crypts import Crypts
from .mark import DOOMED, GROUP

_ENSURE: dict[type[Row], Callable[[Netlink, Any], None]] = {
    Bridge: bridges.ensure,
    Tunnel: tunnels.ensure,
    Path: paths.ensure,
    Detour: paths.lead,
    Limit: limits.ensure,
    Chain: chains.ensure,
}
_ORDER: tuple[set[type[Row]], ...] = ({Bridge, Tunnel, Crypt}, {Vtep, CryptPeer}, {Link, Sub, Path}, {Detour, Limit, Chain})
"""What stands on what."""


class Links:
    """Holds one rtnetlink socket in the agent's namespace; not for several threads at once."""

    def __init__(self, crypts: Crypts) -> None:
        self._netlink = Netlink()
        self._crypts = crypts
        self._behind: dict[int, set[str]] = {}
        self._nsid: dict[str, int] = {}

    def ensure(self, rows: Iterable[Row], gate: veths.Gate) -> None:
        """Make what the rows say; what is there already is brought in line, in the order of ``_ORDER``.

        A container's link carries nothing before ``gate`` has returned for it.
        """
        rows = list(rows)
        for kinds in _ORDER:
            if peers := [one for one in rows if isinstance(one, CryptPeer) and CryptPeer in kinds]:
                self._crypts.join(peers)
            if ends := [one for one in rows if isinstance(one, Vtep) and Vtep in kinds]:
                tunnels.join(self._netlink, ends)
            for row in (one for one in rows if type(one) in kinds and not isinstance(one, CryptPeer | Vtep)):
                if isinstance(row, Link):
                    self._note(row, veths.ensure(self._netlink, row, gate))
                elif isinstance(row, Sub):
                    self._note(row, subs.ensure(self._netlink, row))
                elif isinstance(row, Crypt):
                    self._crypts.ensure(self._netlink, row)
                else:
                    _ENSURE[type(row)](self._netlink, row)

    def remove(self, rows: Iterable[Row]) -> None:
        """Remove what the rows made; what is gone already is no error. All interfaces go in one grace period."""
        rows = list(rows)
        self._part(rows)
        names: list[str] = [row.host for row in rows if isinstance(row, Link)]
        for row in rows:
            if isinstance(row, Limit):
                names += limits.release(self._netlink, row)
        self._doom(names)
        for row in rows:
            if isinstance(row, Bridge):
                bridges.remove(self._netlink, row)
                fault.point("bridge.removed")
            elif isinstance(row, Tunnel):
                tunnels.remove(self._netlink, row)
            elif isinstance(row, Crypt):
                self._crypts.remove(row.name)
            elif isinstance(row, Sub):
                subs.remove(row)

    def _part(self, rows: Collection[Row]) -> None:
        """Routes go before what they lead through."""
        for row in rows:
            if isinstance(row, Path):
                paths.remove(self._netlink, row)
            elif isinstance(row, Detour):
                paths.unlead(self._netlink, row.prefix)
            elif isinstance(row, Vtep):
                tunnels.part(self._netlink, row)
        self._crypts.part(row for row in rows if isinstance(row, CryptPeer))

    def check(self, state: NodeState) -> list[Drift]:
        """Compare the host's side of every row, and name interfaces of ours that no row asks for."""
        return [one for check in self.checks for one in check(state)]

    @property
    def checks(self) -> Sequence[Callable[[NodeState], list[Drift]]]:
        """The same in parts, which may be of states one after the other."""
        return self._check_interfaces, self._check_tunnels, self._check_paths

    def _check_interfaces(self, state: NodeState) -> list[Drift]:
        links = self._listed()
        addresses = route.addresses(self._netlink)
        drift = bridges.check(state.table(Bridge).values(), links, addresses)
        routed = any(row.bridge is None for row in state.table(Link).values())
        host = veths.Host.read(self._netlink, links, routed=routed)
        for row in state.table(Link).values():
            drift += veths.check_host(row, host)
        drift += chains.check(state.table(Chain).values(), links)
        drift += limits.check(self._netlink, state.table(Limit).values(), links)
        drift += self._crypts.check(state.table(Crypt).values(), state.table(CryptPeer).values(), links, addresses)
        return drift + [
            Drift(table="interfaces", key=one.name, kind="unexpected", have=f"{one.kind} {one.name}")
            for one in self._strays(state, links.values())
        ]

    def _check_tunnels(self, state: NodeState) -> list[Drift]:
        rows = state.table(Tunnel).values()
        devices = {one.name: one for row in rows if (one := route.link(self._netlink, row.name))}
        return tunnels.check(self._netlink, rows, state.table(Vtep).values(), devices)

    def _check_paths(self, state: NodeState) -> list[Drift]:
        routed = [row.host for row in state.table(Link).values() if row.bridge is None]
        return paths.check(self._netlink, state.table(Path).values(), state.table(Detour).values(), self._listed(), routed)

    def _listed(self) -> dict[str, LinkInfo]:
        return {one.name: one for one in route.links(self._netlink)}

    def check_inside(self, row: Inside) -> list[Drift]:
        """Compare what is inside one container."""
        drift, nsid = inside.check(self._netlink, row)
        self._note(row, nsid)
        return drift

    def behind(self, nsid: int) -> frozenset[str]:
        """The links whose container has this namespace id, by which the kernel's events name it."""
        return frozenset(self._behind.get(nsid, ()))

    def devices(self, names: Iterable[str]) -> dict[str, Device]:
        """WireGuard devices as they are, those that there are."""
        return {name: found for name in names if (found := self._crypts.get(name))}

    def call(self, peers: Iterable[CryptPeer]) -> None:
        """Begin a handshake with each."""
        self._crypts.call(peers)

    def forget(self, key: str) -> None:
        """The link ``key`` is leaving; what is heard of its namespace is none of its business any more."""
        nsid = self._nsid.pop(key, None)
        if nsid is not None and (keys := self._behind.get(nsid)):
            keys.discard(key)
            if not keys:
                self._behind.pop(nsid, None)

    def _note(self, row: Inside, nsid: int | None) -> None:
        if nsid is not None and self._nsid.get(row.key) != nsid:
            self.forget(row.key)
            self._nsid[row.key] = nsid
            self._behind.setdefault(nsid, set()).add(row.key)

    def near(self, path: str, interface: str) -> str | None:
        """The host's end of an interface that somebody else made inside a container."""
        return veths.near(self._netlink, path, interface)

    def prune(self, state: NodeState) -> int:
        """Remove interfaces of ours, and limits on others, that no row asks for; return how many."""
        links = list(route.links(self._netlink))
        strays = self._strays(state, links)
        self._doom([one.name for one in strays])
        tunnels.prune(self._netlink, state.table(Tunnel).values(), state.table(Vtep).values())
        hosts = [row.host for row in state.table(Link).values()]
        paths.prune(self._netlink, state.table(Path).values(), state.table(Detour).values(), hosts)
        self._crypts.prune(state.table(Crypt).values(), state.table(CryptPeer).values())
        return len(strays) + limits.prune(self._netlink, (row.host for row in state.table(Limit).values()), links)

    def purge(self) -> None:
        """Remove every interface that Fairlead made."""
        links = list(route.links(self._netlink))
        limits.prune(self._netlink, (), links)
        paths.prune(self._netlink, (), (), ())
        self._crypts.purge(links)
        self._netlink.do(route.del_group(GROUP).accepting(ENODEV))

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _strays(self, state: NodeState, links: Iterable[LinkInfo]) -> list[LinkInfo]:
        wanted = {row.name for row in state.table(Bridge).values()}
        wanted |= {row.name for row in state.table(Tunnel).values()}
        wanted |= {row.name for row in state.table(Crypt).values()}
        wanted |= {row.host for row in state.table(Link).values()}
        wanted |= {row.ifb for row in state.table(Limit).values()}
        return [one for one in links if one.group in {GROUP, DOOMED} and one.name not in wanted]

    def _doom(self, names: Iterable[str]) -> None:
        """Delete interfaces in one batch: into one group, then that group at once."""
        doomed = 0
        for name in names:
            try:
                self._netlink.do(route.set_link(name, group=DOOMED))
                doomed += 1
            except KernelError as error:
                if route.link(self._netlink, name) is not None:
                    raise error from None
        fault.point("links.doomed")
        if doomed:
            self._netlink.do(route.del_group(DOOMED).accepting(ENODEV))  # another thread's deletion may have taken them along
