"""Under another key all numbers are others: what they stand for takes the place of what is there, and nobody slips in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fairlead.datapath.ebpf.plane import Ebpf
from fairlead.desired.state import Guard, Judgement, NodeState, Peer, Row, Ruling, Span, Subject
from fairlead.kernel.bpf.map import Map
from fairlead.model.address import Mac, Prefix
from tests.bpf.conftest import LINKS, Kernel
from tests.bpf.packets import ACK, SYN, Side, tcp

pytestmark = pytest.mark.kernel("ebpf")

FOE, FRIEND, STRANGER, SERVER = (Side(f"10.0.0.{at}", 40000 + at) for at in (2, 3, 4, 9))
SERVER = Side(SERVER.address, 80)


def world(key: int) -> NodeState:
    """Everybody but foes may begin a connection, but not at port 22; friends have a judgement of their own, foes another."""
    own, foe, friend, yes, no, rule = (key + at for at in range(1, 7))
    rows: tuple[Row, ...] = (
        Ruling(
            number=yes,
            spans=(
                Span(protocol=6, first=22, last=22, allow=False, rule=rule),
                Span(protocol=0, first=0, last=65535, allow=True, rule=rule),
            ),
        ),
        Ruling(number=no, spans=(Span(protocol=0, first=0, last=65535, allow=False, rule=rule),)),
        Judgement(policy=own, peer=0, ruling=yes),
        Judgement(policy=own, peer=foe, ruling=no),
        Judgement(policy=own, peer=friend, ruling=yes),
        Peer(prefix=Prefix(f"{FOE.address}/32"), peer=foe),
        Peer(prefix=Prefix(f"{FRIEND.address}/32"), peer=friend),
        Peer(prefix=Prefix("10.1.0.0/16"), peer=friend),
    )
    link = (
        Subject(host=LINKS[0], ingress=own),
        Guard(host=LINKS[0], mac=Mac("02:00:00:00:00:01"), addresses=(), checked=False),
    )
    return NodeState().replace("policies", rows).replace("link", link)


@pytest.mark.parametrize("room", [64, 4], ids=["beside", "in place"])
def test_other_numbers_let_nobody_in(make: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    kernel = make(judgements=room, rulings=room)
    plane = Ebpf(kernel.loaded)
    plane.apply(world(1000))
    ports = iter(range(50000, 60000))

    def begins(who: Side) -> bool:  # at a port that nobody was asked about before: answers are remembered
        return kernel.passes(tcp(who, Side(SERVER.address, next(ports)), SYN), hook="to_pod")

    def goes_on(who: Side) -> bool:
        return kernel.passes(tcp(who, SERVER, ACK), hook="to_pod")

    def opens(who: Side) -> None:
        assert kernel.passes(tcp(who, SERVER, SYN), hook="to_pod")
        assert kernel.passes(tcp(SERVER, who, SYN | ACK))
        assert goes_on(who)

    opens(FRIEND)
    opens(STRANGER)
    assert not begins(FOE)
    friends = (Side(f"10.1.{at >> 8}.{at & 255}", 40000) for at in range(1, 10000))

    seen, idle = [], []

    def look() -> None:
        shut = kernel.passes(tcp(next(friends), Side(SERVER.address, 22), SYN), hook="to_pod")
        seen.append((begins(FOE), shut, goes_on(FRIEND)))
        idle.append(goes_on(STRANGER))

    kernel.tables.bump()
    assert goes_on(FRIEND)
    for name in ("write", "remove", "update"):
        monkeypatch.setattr(Map, name, _watched(getattr(Map, name), look))
    plane.apply(world(2000))
    monkeypatch.undo()
    assert len(seen) > 10
    assert set(seen) == {(False, False, True)}
    assert not begins(FOE)
    assert begins(STRANGER)
    assert not all(idle), "which had sent nothing since the last change, and is asked about in the midst of this one"
    assert goes_on(STRANGER)
    assert plane.check(world(2000)) == []
    plane.close()


def _watched(act: Callable[..., None], look: Callable[[], None]) -> Callable[..., None]:
    def watched(*arguments: object) -> None:
        act(*arguments)
        look()

    return watched
