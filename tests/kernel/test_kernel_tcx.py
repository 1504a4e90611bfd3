"""Programs at an interface by tcx links: what packets see of them, what holds them there, and that no packet is lost by it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from fairlead.datapath.ebpf.pins import Pins
from fairlead.kernel import route
from fairlead.kernel.bpf import Program, fs, tcx
from fairlead.kernel.errors import Gone, Unsupported
from fairlead.kernel.events import Events
from fairlead.kernel.netlink import Netlink
from tests.kernel.hooks import dropping, entered
from tests.kernel.room import Room, run
from tests.kernel.traffic import Traffic
from tests.net import Node, Outside
from tests.wait import eventually

pytestmark = pytest.mark.kernel("tcx")


class Hook:
    """An interface of the room, and programs for it."""

    def __init__(self, cleanup: ExitStack, index: int) -> None:
        self._cleanup, self.index = cleanup, index
        self.passing, self.dropping = (self.kept(one) for one in (Program.passing(), dropping()))

    def kept(self, one: Program) -> Program:
        return self._cleanup.enter_context(closing(one))

    def attach(self, program: Program) -> tcx.Link:
        return self._cleanup.enter_context(closing(tcx.Link.attach(self.index, tcx.RECEIVED, program.fd)))

    def programs(self) -> list[int]:
        return [one.program for one in tcx.attached(self.index)]


@pytest.fixture
def hook(room: Room, nl: Netlink) -> Iterator[Hook]:
    _, fd = room.child()
    nl.do(*route.new_veth("v0", "eth0", fd), route.set_link("lo", up=True))
    with ExitStack() as cleanup:
        yield Hook(cleanup, socket.if_nametoindex("v0"))


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Pins]:
    """In a bpffs of their own."""
    fs.mount(tmp_path / "bpf")
    try:
        yield Pins(tmp_path, "from_net")
    finally:
        fs.unmount(tmp_path / "bpf")


def _hears() -> bool:
    """Whether what comes in by loopback arrives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        taker.bind(("127.0.0.1", 0))
        taker.settimeout(0.2)
        sender.sendto(b"x", taker.getsockname())
        with suppress(TimeoutError):
            return taker.recv(9) == b"x"
        return False


def test_a_program_decides_until_it_is_taken_off(hook: Hook) -> None:
    hook.index = socket.if_nametoindex("lo")
    link = hook.attach(hook.dropping)
    assert link.info == tcx.LinkInfo(link.info.id, hook.dropping.info.id, hook.index, tcx.RECEIVED)
    assert tcx.attached(hook.index) == [tcx.AttachedInfo(hook.dropping.info.id, link.info.id)]
    assert not _hears()
    link.update(hook.passing.fd)
    assert hook.programs() == [hook.passing.info.id]
    assert _hears()
    link.update(hook.dropping.fd)
    assert not _hears()
    link.detach()
    assert _hears()
    assert (link.info.index, hook.programs()) == (0, [])
    link.detach()


def test_programs_are_asked_in_their_order(hook: Hook) -> None:
    first, second = hook.attach(hook.passing), hook.attach(hook.dropping)
    assert hook.programs() == [hook.passing.info.id, hook.dropping.info.id]
    assert not tcx.attached(hook.index, tcx.SENT)
    first.detach()
    assert [one.link for one in tcx.attached(hook.index)] == [second.info.id]


def test_a_link_outlives_its_interface(hook: Hook, nl: Netlink) -> None:
    link = hook.attach(hook.passing)
    nl.do(route.del_link(hook.index))
    assert link.info.index == 0
    link.detach()
    with pytest.raises(Gone):
        tcx.attached(hook.index)


def test_the_kernel_tells_nobody(hook: Hook) -> None:
    """So a comparison finds what somebody took off, and nothing else does."""
    with closing(Events()) as events:
        link = hook.attach(hook.passing)
        link.update(hook.dropping.fd)
        link.detach()
        assert events.read() == []


def test_a_kernel_that_has_no_such_place_says_so(hook: Hook) -> None:
    with pytest.raises(Unsupported, match=r"takes Linux 6\.6"):
        tcx.attached(hook.index, 9999)
    with pytest.raises(Unsupported, match=r"takes Linux 6\.6"):
        tcx.Link.attach(hook.index, 9999, hook.passing.fd)


def test_a_pin_holds_it_and_is_taken_away(hook: Hook, pins: Pins, tmp_path: Path) -> None:
    link = hook.attach(hook.dropping)
    pins.put(hook.index, hook.passing)
    assert pins.standing() == {hook.index: hook.passing.info.id}
    assert hook.programs() == [hook.dropping.info.id, hook.passing.info.id], "behind whoever was there"
    (number,) = {one.link for one in tcx.attached(hook.index)} - {link.info.id}
    other = hook.kept(Program.passing())
    pins.put(hook.index, other)
    assert pins.standing() == {hook.index: other.info.id}
    assert tcx.attached(hook.index)[-1] == tcx.AttachedInfo(other.info.id, number), "the same link"
    pins.clear()
    assert hook.programs() == [hook.dropping.info.id], "others stay"
    assert list((tmp_path / "bpf/links").iterdir()) == []


def test_a_pin_without_its_place_does_not_count(hook: Hook, pins: Pins, room: Room, nl: Netlink) -> None:
    """Somebody detached the link; the interface went to another namespace; it is gone."""
    pins.put(hook.index, hook.passing)
    with closing(tcx.Link.numbered(tcx.attached(hook.index)[0].link)) as link:
        link.detach()
    assert pins.standing() == {}
    pins.put(hook.index, hook.passing)
    assert pins.standing() == {hook.index: hook.passing.info.id}
    other, _ = room.child()
    run("ip", "link", "set", "v0", "netns", other)
    assert (pins.standing(), pins.astray()) == ({}, {hook.index: hook.passing.info.id})
    pins.tidy()
    assert pins.astray(), "it is there still, and must be taken off"
    pins.take(hook.index)
    assert pins.astray() == {}
    nl.do(*route.new_ifb("ifb7"))
    index = socket.if_nametoindex("ifb7")
    pins.put(index, hook.passing)
    nl.do(route.del_link(index))
    assert (pins.standing(), pins.astray()) == ({}, {})
    pins.tidy()
    pins.take(index)


def test_a_pin_that_somebody_removed(hook: Hook, pins: Pins, tmp_path: Path) -> None:
    """Who holds the link keeps it there; it is ours again."""
    pins.put(hook.index, hook.passing)
    with closing(tcx.Link.numbered(tcx.attached(hook.index)[0].link)) as held:
        (tmp_path / f"bpf/links/from_net-{hook.index}").unlink()
        assert pins.standing() == {}
        assert hook.programs() == [hook.passing.info.id]
        pins.put(hook.index, hook.passing)
        assert [one.link for one in tcx.attached(hook.index)] == [held.info.id]
    assert pins.standing() == {hook.index: hook.passing.info.id}
    (tmp_path / f"bpf/links/from_net-{hook.index}").unlink()
    eventually(lambda: not hook.programs(), what="nobody holds it")


@pytest.mark.alone
def test_no_packet_is_lost(node: Node, outside: Outside, record_figures: list[str]) -> None:
    """While a program is attached, replaced and taken off."""
    traffic = Traffic(outside, node, node.v4)
    turns = 40
    with entered(node), closing(Program.passing()) as one, closing(Program.passing()) as other:
        index = socket.if_nametoindex(node.uplink)
        for _ in range(turns):
            with closing(tcx.Link.attach(index, tcx.RECEIVED, one.fd)) as link:
                link.update(other.fd)
                link.detach()
        assert not tcx.attached(index)
    lost = traffic.stop()
    assert lost.nothing, lost
    record_figures.append(f"a tcx program came and went {turns} times: {lost}")
