"""Waits grow, stay below the limit, differ from one another, and begin anew after a success."""

from __future__ import annotations

from fairlead.kit.backoff import Backoff


def test_waits_double_up_to_the_limit() -> None:
    backoff = Backoff(0.1, 1.0, chance=lambda: 1.0)
    assert [round(backoff.next(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next() == 0.1


def test_a_wait_is_at_least_half_of_its_step() -> None:
    backoff = Backoff(0.1, 1.0, chance=lambda: 0.0)
    assert [round(backoff.next(), 3) for _ in range(3)] == [0.05, 0.1, 0.2]


def test_two_who_wait_do_not_wait_alike() -> None:
    one, other = Backoff(0.1, 10.0), Backoff(0.1, 10.0)
    assert [one.next() for _ in range(5)] != [other.next() for _ in range(5)]
