"""NodeState: replacing an owner's rows twice does nothing, shares what it does not touch, forgets the way there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.desired.state import Bridge, Limit, Link, NodeState, Publication, Rows, Segment
from fairlead.model.address import Address, Interface, InterfaceName, Mac, Prefix
from fairlead.model.endpoint import Bandwidth, Protocol
from fairlead.model.errors import Conflict

TABLES: tuple[Any, ...] = NodeState.TABLES
OWNERS = ("network/blue", "network/red", "c1:eth0", "c2:eth0", "c3:eth0")


def network_rows(name: str, mtu: int = 1500, *, internal: bool = False) -> Rows:
    device = InterfaceName(f"fl-{name}")
    prefix = Prefix("10.88.0.0/24")
    gateways = (Interface("10.88.0.1/24"),)
    return (
        Bridge(name=device, mac=Mac("02:00:00:00:00:01"), mtu=mtu, gateways=gateways, network=name),
        Segment(bridge=device, internal=internal, isolated=True, inter_container=True, masquerade=True, prefixes=(prefix,)),
    )


def endpoint_rows(name: str, address: str = "10.88.0.2", ports: tuple[int, ...] = (), rate: int = 0) -> Rows:
    number = OWNERS.index(name) if name in OWNERS else 9
    host = InterfaceName(f"flv{number}")
    link = Link(
        key=name,
        host=host,
        bridge=InterfaceName("fl-blue"),
        path=f"/run/netns/{number}",
        cookie=number,
        name=InterfaceName("eth0"),
        mac=Mac("02:00:00:00:00:02"),
        mtu=1500,
        addresses=(Interface(f"{address}/24"),),
    )
    limits = (Limit(host=host, ifb=InterfaceName(f"fli{number}"), bandwidth=Bandwidth(ingress_rate=rate)),) if rate else ()
    return (link, *limits, *(publication(name, port, address) for port in ports))


def publication(owner: str, port: int, target: str = "10.88.0.2") -> Publication:
    return Publication(
        owner=owner,
        protocol=Protocol.TCP,
        family=4,
        host=None,
        first=port,
        count=1,
        target=Address(target),
        target_first=80,
    )


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Rows]:
    """An owner and its new rows; ports are the owner's own, as the agent sees to."""
    owner = draw(st.sampled_from(OWNERS))
    if draw(st.booleans()) and draw(st.booleans()):
        return owner, ()
    if owner.startswith("network/"):
        return owner, network_rows(owner.partition("/")[2], draw(st.sampled_from([1400, 1500])), internal=draw(st.booleans()))
    own = OWNERS.index(owner) * 10
    ports = draw(st.lists(st.integers(own, own + 3), unique=True, max_size=3))
    return owner, endpoint_rows(owner, f"10.88.0.{draw(st.integers(2, 5))}", tuple(ports), draw(st.sampled_from([0, 8000])))


def everything(state: NodeState) -> dict[str, dict[object, object]]:
    return {table.__name__: dict(state.table(table)) for table in TABLES}


def rebuilt(owners: dict[str, Rows]) -> NodeState:
    state = NodeState()
    for owner, rows in owners.items():
        state = state.replace(owner, rows)
    return state


@given(st.lists(changes(), max_size=25))
def test_any_way_there_gives_the_same_state(steps: list[tuple[str, Rows]]) -> None:
    state, owners = NodeState(), dict[str, Rows]()
    for owner, rows in steps:
        state = state.replace(owner, rows)
        owners[owner] = rows
    there = {owner: rows for owner, rows in owners.items() if rows}
    assert dict(state.owners()) == there
    assert everything(state) == everything(rebuilt(there)) == everything(rebuilt(dict(sorted(there.items(), reverse=True))))
    held = {(type(row).__name__, row.key): row for rows in there.values() for row in rows}
    assert {(table, key): row for table, rows in everything(state).items() for key, row in rows.items()} == held


@given(st.lists(changes(), min_size=1, max_size=10))
def test_the_same_again_changes_nothing(steps: list[tuple[str, Rows]]) -> None:
    state = NodeState()
    for owner, rows in steps:
        state = state.replace(owner, rows)
        assert state.replace(owner, rows) is state


@given(st.lists(changes(), max_size=10), changes())
def test_a_state_once_made_never_changes(steps: list[tuple[str, Rows]], last: tuple[str, Rows]) -> None:
    state = NodeState()
    for owner, rows in steps:
        state = state.replace(owner, rows)
    before, owners = everything(state), dict(state.owners())
    state.replace(*last)
    assert (everything(state), dict(state.owners())) == (before, owners)


def test_tables_that_do_not_change_are_shared() -> None:
    before = NodeState().replace("network/blue", network_rows("blue")).replace("c1:eth0", endpoint_rows("c1:eth0"))
    after = before.replace("c2:eth0", endpoint_rows("c2:eth0", "10.88.0.3"))
    assert after._tables[Bridge] is before._tables[Bridge]
    assert after._tables[Publication] is before._tables[Publication]
    assert after._tables[Link] is not before._tables[Link]
    assert after.table(Link)["c1:eth0"] is before.table(Link)["c1:eth0"]


def test_an_owner_without_rows_is_gone() -> None:
    state = NodeState().replace("c1:eth0", endpoint_rows("c1:eth0", ports=(80, 81)))
    assert len(state.owned("c1:eth0")) == 3
    gone = state.replace("c1:eth0", ())
    assert gone.owned("c1:eth0") == ()
    assert everything(gone) == everything(NodeState())
    assert NodeState().replace("nobody", ()).owners() == {}


def test_a_row_has_one_owner() -> None:
    state = NodeState().replace("c1:eth0", endpoint_rows("c1:eth0", ports=(80,)))
    with pytest.raises(Conflict, match=r"Publication \('tcp', 4, '', 80\) of c2:eth0 is already held by c1:eth0"):
        state.replace("c2:eth0", endpoint_rows("c2:eth0", ports=(80,)))
    with pytest.raises(Conflict, match="held by c2:eth0"):
        state.replace("c2:eth0", (publication("c2:eth0", 90), publication("c2:eth0", 90)))
    freed = state.replace("c1:eth0", endpoint_rows("c1:eth0"))
    assert (
        freed.replace("c2:eth0", endpoint_rows("c2:eth0", ports=(80,))).table(Publication)["tcp", 4, "", 80].owner == "c2:eth0"
    )


def test_a_table_cannot_be_written_to() -> None:
    state = NodeState().replace("network/blue", network_rows("blue"))
    with pytest.raises(TypeError):
        state.table(Bridge)["x"] = None  # type: ignore[index]  # the point of the test
    with pytest.raises(TypeError):
        state.owners()["x"] = ()  # type: ignore[index]  # the point of the test
