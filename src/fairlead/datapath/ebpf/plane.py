"""The eBPF plane: programs on the host's side of every container's link, which decide by the maps that are written here.

What the host's side receives was sent by the container, and the reverse. ``uplinks`` has what comes from other nodes.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path as Directory
from sys import byteorder

from fairlead.api.schema import OUTDATED, Drift
from fairlead.datapath.base import PLANE, Answer, Comparison, Hits, Look, Question, at_once
from fairlead.datapath.seen import REASONS, Direction, Reason
from fairlead.desired.state import Guard, Guest, Judgement, Link, Local, NodeState, Peer, Realm, Row, Ruling, Subject
from fairlead.desired.ways import Path, Vtep
from fairlead.kernel import route
from fairlead.kernel.errors import Exists, Gone
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo
from fairlead.kit.gently import gently, rest

from .entries import Found, describe, entries, interface_of
from .hooks import Hooks
from .layout import HITS, NUMBER
from .programs import Programs
from .question import packet
from .tables import Read, Tables
from .uplinks import Uplinks

LINKS, MAPS = f"{PLANE} links", f"{PLANE} maps"
_PLACES = {route.RECEIVED: "from_pod", route.SENT: "to_pod"}


class Ebpf:
    """Holds one rtnetlink socket; not for several threads at once."""

    name = "ebpf"

    def __init__(self, programs: Programs, *, node_access: bool = True, short_way: bool = True, tcx: bool = True) -> None:
        """``node_access``: whether this node reaches its containers whatever policies say.

        ``short_way``: whether two containers of a network may reach each other past the bridge, or past the nodes' stacks.
        ``tcx``: whether what comes from other nodes is seen by tcx links, where the kernel can.
        """
        self._programs = programs
        self._tables = Tables(programs.maps, node_reaches_pods=node_access)
        self._short_way = short_way
        self._netlink = Netlink()
        self._uplinks = Uplinks(self._netlink, programs, Hooks(self._netlink, programs.run_dir, tcx=tcx))

    def ensure(self, rows: Iterable[Row]) -> None:
        """Say what there is to know of each link; then attach to it, or replace what is attached."""
        rows = list(rows)
        hosts: set[str] = {row.host for row in rows if isinstance(row, Link | Subject | Guard | Guest | Local)}
        found = {host: self._index(host) for host in hosts}
        self._tables.put(self._entries(rows, found))
        self._programs.links.update(found)
        for row in rows:
            if isinstance(row, Link):
                self._attach(found[row.host])

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Write what the rows say, then remove what they no longer say; of links that there are not, nothing."""
        links = self._programs.links
        self._tables.change(self._entries(add, links), self._entries(remove, links))

    def forget(self, rows: Iterable[Row]) -> None:
        """Links of which nothing is known carry nothing."""
        rows, known = list(rows), self._programs.links
        hosts = {row.host for row in rows if isinstance(row, Link)}
        for host in hosts:
            if link := route.link(self._netlink, host):
                known[host] = link.index
        rows += [Subject(host=host) for host in hosts]
        self._tables.change(self._entries((), known), self._entries(rows, known))
        for host in hosts:
            known.pop(host, None)

    def apply(self, state: NodeState) -> None:
        """Make the maps say what ``state`` does; programs stay as they are."""
        links = self._links()
        self._tables.apply(self._want(_rows(state), links, self._uplinks.entries(self._ways(state), links)))
        self._uplinks.apply(self._ways(state), links)
        known: dict[str, int] = {row.host: links[row.host].index for row in state.table(Link).values() if row.host in links}
        self._programs.links.clear()
        self._programs.links.update(known)

    def lead(self, state: NodeState, rows: Iterable[Row]) -> None:
        """Attach the program to devices over which ways lead now, and take it off where none does any more."""
        if self._short_way and self._uplinks.is_news(state, rows):
            links = self._links()
            for name, wanted in self._uplinks.entries(state, links).items():
                self._tables.align(name, wanted)
            self._uplinks.apply(state, links)

    def holds(self, index: int) -> bool:
        """Links of containers, and the devices by which other nodes are reached."""
        return index in self._uplinks.held or index in self._programs.links.copy().values()

    def ask(self, question: Question) -> Answer | None:
        """Run the program that goes the way of those on the links, with their maps."""
        direction = Direction.FROM_POD if question.sends else Direction.TO_POD
        program, index = self._programs.programs["ask"], self._index(question.host)
        said, data = program.ask(packet(question), ifindex=index, mark=direction)
        reason = Reason(said)
        rule = 0 if reason is Reason.NO_ENDPOINT else int.from_bytes(data[:8], byteorder)
        return Answer(reason is Reason.NONE, REASONS.get(reason, ""), rule)

    def hits(self) -> dict[int, Hits]:
        """By the number of a rule, all CPUs together."""
        found, since = {}, time.time() - time.monotonic()
        for key, values in self._programs.maps["hits"].entries().items():
            connections, drops, last = zip(*HITS.iter_unpack(values), strict=True)
            found[int(NUMBER.unpack(key)[0])] = Hits(sum(connections), sum(drops), max(last) / 1e9 + since)
        return found

    def forget_hits(self, rules: Iterable[int]) -> None:
        """Rules that are no more."""
        self._programs.maps["hits"].remove(NUMBER.pack(rule) for rule in rules)

    def fill(self) -> dict[str, tuple[int, int]]:
        """By map: how many entries it held when it was last compared, and how many it can hold."""
        return self._tables.fill()

    def check(self, state: NodeState) -> list[Drift]:
        """Compare what is attached with the programs in use, and the maps with the rows."""
        return [one for look in self.looks for one in look(state)(rest)]

    @property
    def looks(self) -> Sequence[Look]:
        """What is attached, which is compared at once, and the maps."""
        return at_once(self._check_attached), self._look_at_maps

    def _check_attached(self, state: NodeState) -> list[Drift]:
        links = self._links()
        return [*self._check_programs(state, links), *self._uplinks.check(self._ways(state), links)]

    def _look_at_maps(self, state: NodeState) -> Comparison:
        """The maps are read, which takes milliseconds; what they should hold takes half a second of fifty thousand rows."""
        links = self._links()
        ways, read = self._uplinks.entries(self._ways(state), links), self._tables.read()
        return lambda rest: self._check_tables(self._want(gently(_rows(state), rest), links, ways), links, read)

    def _check_programs(self, state: NodeState, links: dict[str, LinkInfo]) -> list[Drift]:
        want = {name: self._programs.programs[name].info.id for name in _PLACES.values()}
        drift = []
        for row in state.table(Link).values():
            found = route.programs(self._netlink, links[row.host].index) if row.host in links else []
            have = {_PLACES[one.place]: one.program for one in found}
            wrong = [name for name in want if have.get(name) != want[name]]
            drift += [_drift(row, name, want[name], have.get(name), self._programs.former) for name in wrong]
        return drift

    def check_links(self, rows: Iterable[Row]) -> list[Drift]:
        """Compare with these rows alone; what else is there is others'."""
        known = tuple(row for row in rows if isinstance(row, Link | Subject | Guard | Guest | Local))
        state, links = NodeState().replace("links", known), self._links()
        want = self._want(_rows(state), links, self._uplinks.entries(self._ways(state), links))
        found = [*self._check_programs(state, links), *self._check_tables(want, links, self._tables.read())]
        return [one for one in found if one.kind != "unexpected"]

    def purge(self) -> None:
        """Take the programs off devices that stay, and forget the pins."""
        self._uplinks.clear()
        self._programs.unpin()

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _entries(self, rows: Iterable[Row], links: dict[str, int]) -> Found:
        """Without the short way nobody is reached by it."""
        return entries((row for row in rows if self._short_way or not isinstance(row, Local | Realm | Path | Vtep)), links)

    def _want(self, rows: Iterable[Row], links: Mapping[str, LinkInfo], uplinks: Found) -> Found:
        return self._entries(rows, {name: one.index for name, one in links.items()}) | uplinks

    def _ways(self, state: NodeState) -> NodeState:
        """Without the short way none to other nodes is looked at."""
        return state if self._short_way else NodeState()

    def _links(self) -> dict[str, LinkInfo]:
        return {one.name: one for one in route.links(self._netlink)}

    def _check_tables(self, wanted: Found, links: dict[str, LinkInfo], read: Read) -> list[Drift]:
        """A link that is missing is for others to name; what is left of one does no harm."""
        existing: set[int | None] = {*(one.index for one in links.values()), None}
        drift = []
        for name, (want, have) in self._tables.differences(wanted, read).items():
            keys = (key for key in want | have if interface_of(name, key, want.get(key) or have[key]) in existing)
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


def detach(run_dir: Directory) -> None:
    """Take the programs of this run directory off every interface."""
    with Netlink() as nl:
        for one in {one.index for one in route.qdiscs(nl) if one.kind == "clsact"}:
            ours = (found for found in route.programs(nl, one) if found.name in _PLACES.values())
            nl.do(*(route.del_program(one, found.place) for found in ours))
        Hooks(nl, run_dir).detach()


def _drift(row: Link, name: str, want: int, have: int | None, former: Collection[int]) -> Drift:
    return Drift(
        table=LINKS,
        key=row.key,
        kind="missing" if have is None else OUTDATED if have in former else "different",
        want=f"program {name} (id {want}) on {row.host}",
        have="" if have is None else f"id {have}",
    )


def _rows(state: NodeState) -> Iterable[Row]:
    yield from state.table(Ruling).values()
    yield from state.table(Judgement).values()
    yield from state.table(Peer).values()
    yield from state.table(Subject).values()
    yield from state.table(Guard).values()
    yield from state.table(Guest).values()
    yield from state.table(Local).values()
    yield from state.table(Realm).values()
    yield from state.table(Path).values()
    yield from state.table(Vtep).values()


def _entry_drift(key: str, want: bytes | None, have: bytes | None) -> Drift:
    kind = "missing" if have is None else "unexpected" if want is None else "different"
    return Drift(table=MAPS, key=key, kind=kind, want=(want or b"").hex(), have=(have or b"").hex())
