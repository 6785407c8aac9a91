"""Waiting for the end of a session, over every store."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from store_kit import StoreKit, enqueue, until, work

from iii.errors import StoreClosed, StoreError
from iii.store.contract import Store


async def waiting(store: Store, session: int) -> asyncio.Task[None]:
    task = asyncio.create_task(store.gone(session))
    await asyncio.wait((task,), timeout=0.01)
    assert not task.done(), "the session is still there"
    return task


async def test_gone_returns_when_a_session_leaves(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    wait = await waiting(two, one.session)
    await enqueue(one)
    await enqueue(two)
    await asyncio.wait((wait,), timeout=0.01)
    assert not wait.done(), "other commits end nothing"
    await one.close_session()
    await asyncio.wait_for(wait, 20)


async def test_gone_returns_with_the_commit_that_recovers_a_dead_session(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    wait = await waiting(two, one.session)
    await kit.kill(one)
    for _ in range(10):
        await asyncio.sleep(0)
    assert wait.done()


async def test_gone_returns_at_once_for_a_session_that_never_was_or_has_gone(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    session = one.session
    await kit.close(one)
    async with asyncio.timeout(20):
        await two.gone(session)
        await two.gone(0)
        await two.gone(999)


async def test_gone_returns_when_the_store_of_who_waits_closes(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    wait = await waiting(two, one.session)
    await kit.close(two)
    await asyncio.wait_for(wait, 20)
    with pytest.raises(StoreClosed):
        await two.gone(one.session)


async def test_a_store_knows_its_session_and_a_buried_one_gets_another(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    assert {row.id for row in one.sessions()} == {one.session, two.session}
    first = one.session
    wait = await waiting(two, first)
    await kit.bury(one, two)
    await asyncio.wait_for(wait, 20)
    await enqueue(one)
    with contextlib.suppress(StoreError):  # the enqueue found it already: none until the next is open
        await one.credit({})
    await until(lambda: {row.id for row in two.sessions()} == {one.session, two.session}, "a new session")
    assert one.session not in (0, first)
    await one.close_session()
    assert one.session == 0
