"""Links that another CNI plugin made: the little that they need for a published port to be reached at 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Drift
from fairlead.desired.state import Chain
from fairlead.kernel import route, sysctl
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo
from fairlead.kit import fault
from fairlead.model.errors import Missing

TABLE = "chains"


def ensure(nl: Netlink, row: Chain) -> None:
    """Accept on the way back what belongs to a loopback address. The interface is not ours, so this is never taken back."""
    near = route.link(nl, row.host)
    if near is None:
        raise Missing(f"interface {row.host}, which another plugin made, is gone", field="ports")
    bridge = route.link(nl, near.master) if near.master else None
    sysctl.write(_key(bridge.name if bridge else near.name), "1")
    fault.point("chain.set")


def check(rows: Iterable[Chain], links: dict[str, LinkInfo]) -> list[Drift]:
    """Whether it still does. A link that is gone is its own plugin's to restore."""
    names = {one.index: one.name for one in links.values()}
    drift = []
    for row in rows:
        near = links.get(row.host)
        via = names.get(near.master, near.name) if near else ""
        if via and sysctl.read(_key(via)) != "1":
            drift.append(Drift(table=TABLE, key=row.key, kind="different", want=f"{_key(via)} 1", have=f"{_key(via)} 0"))
    return drift


def _key(name: str) -> str:
    return f"net.ipv4.conf.{name}.route_localnet"
