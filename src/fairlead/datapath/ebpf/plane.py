"""The eBPF plane: programs on the host's side of every container's link, which decide by the maps that are written here.

What the host's side receives was sent by the container, and the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import byteorder

from fairlead.api.schema import Drift
from fairlead.datapath.base import PLANE, Answer, Question
from fairlead.desired.state import Judgement, Link, NodeState, Peer, Row, Ruling, Subject
from fairlead.kernel import route
from fairlead.kernel.errors import Exists, Gone
from fairlead.kernel.netlink import Netlink

from .layout import REASONS, Direction, Reason
from .programs import Programs
from .question import packet
from .tables import Tables, describe

LINKS, MAPS = f"{PLANE} links", f"{PLANE} maps"
_PLACES = {route.RECEIVED: "from_pod", route.SENT: "to_pod"}


class Ebpf:
    """Holds one rtnetlink socket; not for several threads at once."""

    name = "ebpf"

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._tables = Tables(programs.maps)
        self._netlink = Netlink()
        self._indexes: dict[str, int] = {}
        """Of the links that have an endpoint: when one is to be forgotten it may be gone."""

    def ensure(self, rows: Iterable[Row]) -> None:
        """Say under which policies each endpoint is; then attach to each link, or replace what is attached."""
        rows = list(rows)
        subjects = [row for row in rows if isinstance(row, Subject)]
        found = {row.host: self._index(row.host) for row in rows if isinstance(row, Link | Subject)}
        self._tables.put({found[row.host]: (row.ingress, row.egress) for row in subjects})
        self._indexes |= {row.host: found[row.host] for row in subjects}
        for row in rows:
            if isinstance(row, Link):
                self._attach(found[row.host])

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Write what policies say, then remove what they no longer say."""
        self._tables.change(add, remove)

    def forget(self, rows: Iterable[Row]) -> None:
        """Links without their endpoints carry nothing."""
        indexes = []
        for row in rows:
            if isinstance(row, Subject):
                known = self._indexes.pop(row.host, None)
                link = route.link(self._netlink, row.host)
                indexes += [one for one in (known, link.index if link else None) if one is not None]
        self._tables.drop(dict.fromkeys(indexes))

    def apply(self, state: NodeState) -> None:
        """Make the maps say what ``state`` does; programs stay as they are."""
        links = {one.name: one.index for one in route.links(self._netlink)}
        subjects = [row for row in state.table(Subject).values() if row.host in links]
        self._tables.apply(_policies(state), {links[row.host]: (row.ingress, row.egress) for row in subjects})
        self._indexes = {row.host: links[row.host] for row in subjects}

    def ask(self, question: Question) -> Answer | None:
        """Run the program that goes the way of those on the links, with their maps."""
        direction = Direction.FROM_POD if question.sends else Direction.TO_POD
        program, index = self._programs.programs["ask"], self._index(question.host)
        said, data = program.ask(packet(question), ifindex=index, mark=direction)
        reason = Reason(said)
        rule = 0 if reason is Reason.NO_ENDPOINT else int.from_bytes(data[:8], byteorder)
        return Answer(reason is Reason.NONE, REASONS.get(reason, ""), rule)

    def fill(self) -> dict[str, tuple[int, int]]:
        """By map: how many entries it holds, and how many it can hold."""
        return self._tables.fill()

    def check(self, state: NodeState) -> list[Drift]:
        """Compare what is attached with the programs in use, and the maps with the rows."""
        links = {one.name: one.index for one in route.links(self._netlink)}
        want = {name: self._programs.programs[name].info.id for name in _PLACES.values()}
        drift = []
        for row in state.table(Link).values():
            found = route.programs(self._netlink, links[row.host]) if row.host in links else []
            have = {_PLACES[one.place]: one.program for one in found}
            drift += [_drift(row, name, want[name], have.get(name)) for name in want if have.get(name) != want[name]]
        return drift + self._check_tables(state, links)

    def purge(self) -> None:
        """Forget the pins."""
        self._programs.unpin()

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _check_tables(self, state: NodeState, links: dict[str, int]) -> list[Drift]:
        """A link that is missing is for others to name; what is left of one does no harm."""
        subjects = [row for row in state.table(Subject).values() if row.host in links]
        sets = {links[row.host]: (row.ingress, row.egress) for row in subjects}
        existing = {index.to_bytes(4, byteorder) for index in links.values()}
        drift = []
        for name, (want, have) in self._tables.differences(_policies(state), sets).items():
            keys = [key for key in want | have if name != "endpoints" or key in existing]
            drift += [_entry_drift(describe(name, key), want.get(key), have.get(key)) for key in keys]
        return drift

    def _index(self, host: str) -> int:
        link = route.link(self._netlink, host)
        if link is None:
            raise Gone(0, f"attach programs to {host}", "the interface is gone")
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
        table=LINKS,
        key=row.key,
        kind="missing" if have is None else "different",
        want=f"program {name} (id {want}) on {row.host}",
        have="" if have is None else f"id {have}",
    )


def _policies(state: NodeState) -> list[Row]:
    return [*state.table(Ruling).values(), *state.table(Judgement).values(), *state.table(Peer).values()]


def _entry_drift(key: str, want: bytes | None, have: bytes | None) -> Drift:
    kind = "missing" if have is None else "unexpected" if want is None else "different"
    return Drift(table=MAPS, key=key, kind=kind, want=(want or b"").hex(), have=(have or b"").hex())
