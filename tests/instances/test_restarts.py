"""When a dead instance is started again, and when that is given up."""

from __future__ import annotations

from iii.instances.restarts import (
    AT_ONCE_MAX,
    ENDED_PAUSE_MAX_S,
    LATER_STARTS_MAX,
    LIVED_S,
    PAUSE_MAX_S,
    PAUSE_S,
    STARTS_MAX,
    Restarts,
)


def test_one_that_lived_is_started_again_soon_however_often_it_dies() -> None:
    restarts = Restarts()
    for _ in range(100):
        restarts.ready()
        assert restarts.died(LIVED_S) == PAUSE_S
        assert not restarts.hopeless(any_ran=True)


def test_deaths_in_a_row_wait_twice_as_long_each_up_to_a_limit() -> None:
    restarts = Restarts()
    pauses = [restarts.died(0.0) if n % 2 else restarts.died_at_start() for n in range(30)]
    assert pauses[:4] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S, 8 * PAUSE_S]
    assert pauses[-1] == PAUSE_MAX_S
    assert restarts.died(LIVED_S) == PAUSE_S


def test_it_is_given_up_after_some_starts_and_later_when_others_ran() -> None:
    restarts = Restarts()
    for died in range(1, LATER_STARTS_MAX + 1):
        restarts.died_at_start()
        assert restarts.hopeless(any_ran=False) == (died >= STARTS_MAX)
        assert restarts.hopeless(any_ran=True) == (died >= LATER_STARTS_MAX)
    restarts.ready()
    assert not restarts.hopeless(any_ran=False)


def test_one_that_is_killed_again_and_again_while_it_starts_is_never_given_up_once_any_ran() -> None:
    restarts = Restarts()
    pauses = [
        restarts.died(0.0, outside=True) if n % 2 else restarts.died_at_start(outside=True)
        for n in range(100)
    ]
    assert (pauses[0], pauses[-1]) == (PAUSE_S, ENDED_PAUSE_MAX_S)
    assert restarts.hopeless(any_ran=False)
    assert not restarts.hopeless(any_ran=True)


def test_an_end_from_outside_waits_a_second_at_most_whatever_deaths_came_before() -> None:
    restarts = Restarts()
    own = [restarts.died(0.0) for _ in range(10)]
    assert own[-1] == PAUSE_MAX_S
    ended = [restarts.died(0.0, outside=True) for _ in range(10)]
    assert (ended[0], ended[1], max(ended)) == (PAUSE_S, 2 * PAUSE_S, ENDED_PAUSE_MAX_S)
    restarts.died(LIVED_S, outside=True)
    assert restarts.died(0.0, outside=True) == 2 * PAUSE_S


def test_an_end_from_outside_makes_no_death_of_its_own_wait_longer() -> None:
    restarts = Restarts()
    for _ in range(10):
        restarts.died(0.0, outside=True)
    assert [restarts.died(0.0) for _ in range(2)] == [PAUSE_S, 2 * PAUSE_S]


def test_what_is_wrong_for_good_is_tried_once_before_anything_ran() -> None:
    restarts = Restarts()
    restarts.died_at_start(for_good=True)
    assert restarts.hopeless(any_ran=False)
    assert not restarts.hopeless(any_ran=True)


def test_the_last_one_starts_at_once_unless_it_dies_again_and_again_or_cannot_start() -> None:
    restarts = Restarts()
    for _ in range(AT_ONCE_MAX):
        restarts.died(0.0, outside=True)
        assert restarts.may_be_at_once
    restarts.died(0.0)
    assert not restarts.may_be_at_once, "it waits longer and longer, as any other"
    restarts.died(LIVED_S)
    assert restarts.may_be_at_once, "it lived"
    restarts.died_at_start(outside=True)
    assert restarts.may_be_at_once, "somebody ended it"
    restarts.died_at_start()
    assert not restarts.may_be_at_once, "it would fail again"
    restarts.ready()
    assert restarts.may_be_at_once
