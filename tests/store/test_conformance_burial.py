"""A process that stood still for long: its peers took it for dead, and it goes on all the same."""

from __future__ import annotations

import pytest
from store_kit import StoreKit, commit, counts, enqueue, take_one, until, work

from iii.errors import LeaseLost
from iii.model import Ack, Put


async def test_05_who_was_taken_for_dead_settles_nothing_and_goes_on_as_a_new_session(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    await enqueue(one)
    lost, session = await take_one(one), one.session
    one.start(lost.lease)
    await kit.bury(one, two)
    with pytest.raises(LeaseLost):
        await commit(one, Put("ns", "key", b"1"), Ack(lost.lease))
    assert one.get("ns", "key") is None and counts(two) == (1, 0, 0, 0)
    await until(lambda: one.session not in (0, session), "a new session")
    again = await take_one(one)
    assert (again.lease.session, again.crashes, again.attempt) == (one.session, 1, 1)
    await commit(one, Put("ns", "key", b"1"), Ack(again.lease))
    assert [row.id for row in two.sessions()] == [two.session, one.session]
