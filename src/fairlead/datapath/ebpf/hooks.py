"""Programs on the host's side of every container's link: what it receives was sent by the container, and the reverse."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Drift
from fairlead.datapath.base import HOOKS
from fairlead.desired.state import Link, NodeState, Row, Subject
from fairlead.kernel import route
from fairlead.kernel.errors import Exists, Gone
from fairlead.kernel.netlink import Netlink

from .programs import Programs
from .tables import Tables

_PLACES = {route.RECEIVED: "from_pod", route.SENT: "to_pod"}


class TrafficHooks:
    """Holds one rtnetlink socket; not for several threads at once."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._tables = Tables(programs)
        self._netlink = Netlink()

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Into the maps and out of them."""
        self._tables.change(add, remove)

    def ensure(self, rows: Iterable[Row]) -> None:
        """Seat subjects, then attach to links, or replace what is attached."""
        rows = list(rows)
        for subject in rows:
            if isinstance(subject, Subject):
                self._tables.seat(self._index(subject.host), subject)
        for row in rows:
            if isinstance(row, Link):
                self._attach(self._index(row.host))

    def forget(self, rows: Iterable[Row]) -> None:
        """Unseat the subjects of links that are about to go."""
        for row in rows:
            if isinstance(row, Subject) and (link := route.link(self._netlink, row.host)):
                self._tables.unseat(link.index)

    def apply(self, state: NodeState) -> None:
        """Bring the maps in line."""
        self._tables.apply(state, self._links())

    def check(self, state: NodeState) -> list[Drift]:
        """Compare what is attached with the programs in use."""
        links = self._links()
        want = {name: self._programs.programs[name].info.id for name in _PLACES.values()}
        drift = []
        for row in state.table(Link).values():
            found = route.programs(self._netlink, links[row.host]) if row.host in links else []
            have = {_PLACES[one.place]: one.program for one in found}
            drift += [_drift(row, name, want[name], have.get(name)) for name in want if have.get(name) != want[name]]
        return [*drift, *self._tables.check(state, links)]

    def purge(self) -> None:
        """Forget the pins."""
        self._programs.unpin()

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _links(self) -> dict[str, int]:
        return {one.name: one.index for one in route.links(self._netlink)}

    def _index(self, host: str) -> int:
        link = route.link(self._netlink, host)
        if link is None:
            raise Gone(0, f"put programs on {host}", "the interface is gone")
        return link.index

    def _attach(self, index: int) -> None:
        loaded = self._programs.programs
        attach = [route.new_program(index, place, loaded[name].fd, name) for place, name in _PLACES.items()]
        try:
            self._netlink.do(route.new_clsact(index), *attach)
        except Exists:
            if not any(one.kind == "clsact" for one in route.qdiscs(self._netlink) if one.index == index):
                self._widen(index)
            self._netlink.do(*attach)

    def _widen(self, index: int) -> None:
        """A limit made a plain ingress, which has no place for what is sent: put a clsact there with the same redirects."""
        redirects = route.filters(self._netlink, index)
        self._netlink.do(
            route.del_qdisc(index, ingress=True),
            route.new_clsact(index),
            *(route.new_redirect(index, one.target, one.priority) for one in redirects),
        )


def detach() -> None:
    """Take our programs off every interface."""
    with Netlink() as nl:
        for one in {one.index for one in route.qdiscs(nl) if one.kind == "clsact"}:
            ours = (found for found in route.programs(nl, one) if found.name in _PLACES.values())
            nl.do(*(route.del_program(one, found.place) for found in ours))


def _drift(row: Link, name: str, want: int, have: int | None) -> Drift:
    return Drift(
        table=HOOKS,
        key=row.key,
        kind="missing" if have is None else "different",
        want=f"program {name} (id {want}) on {row.host}",
        have="" if have is None else f"id {have}",
    )
