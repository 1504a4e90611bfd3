"""What a comparison expects of the kernel while changes wait for their turn."""

from __future__ import annotations

from fairlead.agent.underway import UnderWay
from fairlead.desired.state import Guest, NodeState
from fairlead.model.address import InterfaceName


def guest(name: str) -> Guest:
    return Guest(endpoint=name, host=InterfaceName("fl1"), addresses=())


FIRST, SECOND, THIRD = ((guest(name),) for name in ("a", "b", "c"))


def test_what_has_had_no_turn_is_not_expected_yet() -> None:
    under_way = UnderWay()
    number = under_way.begin({"one": ()})
    state = NodeState().replace_all({"one": FIRST, "two": SECOND})
    assert under_way.without(state, ()).owners() == {"two": SECOND}
    under_way.end(number)
    assert under_way.without(state, ()) is state
    under_way.end(number)


def test_of_several_changes_the_first_knows_what_there_was() -> None:
    under_way = UnderWay()
    first, second = under_way.begin({"one": FIRST}), under_way.begin({"one": SECOND})
    state = NodeState().replace("one", THIRD)
    assert under_way.without(state, ()).owned("one") == FIRST
    under_way.end(first)
    assert under_way.without(state, ()).owned("one") == SECOND
    under_way.end(second)
    assert under_way.without(state, ()).owned("one") == THIRD


def test_who_leaves_is_not_expected_back() -> None:
    under_way = UnderWay()
    under_way.begin({"one": FIRST})
    assert not under_way.without(NodeState(), {"one"}).owners()
    assert under_way.without(NodeState(), ()).owned("one") == FIRST


def test_a_place_that_was_given_on_stays_with_whom_it_was_given_to() -> None:
    under_way = UnderWay()
    under_way.begin({"one": FIRST})
    state = NodeState().replace("two", FIRST)
    assert under_way.without(state, ()) is state
