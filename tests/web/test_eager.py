"""Coroutines that begin at once: what waits goes on in a task, which was theirs from the beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from iii.web.lane.eager import Eager


async def begun(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What `begin` gives, called from the loop as a transport does; its exception as a value."""
    eager: Eager[Any] = Eager()
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def begin() -> None:
        try:
            found.set_result(eager.begin(make))
        except Exception as error:
            found.set_result(error)

    asyncio.get_running_loop().call_soon(begin)
    try:
        return await found
    finally:
        await eager.aclose()


async def test_what_never_waits_is_done_at_once() -> None:
    async def work() -> str:
        return "done"

    assert await begun(work) == "done"


async def test_what_fails_at_once_raises_at_once() -> None:
    async def work() -> None:
        raise ValueError("no")

    assert isinstance(await begun(work), ValueError)


async def test_what_waits_goes_on_in_a_task_that_was_its_own_from_the_beginning() -> None:
    seen = []

    async def work() -> str:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        return "done"

    task = await begun(work)
    assert await task == "done"
    assert seen == [task, task]


async def test_a_timeout_that_begins_at_once_ends_what_waits() -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "never"

    assert await (await begun(work)) == "late"


async def test_a_timeout_of_no_time_at_all_ends_what_waits() -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "never"

    assert await (await begun(work)) == "late"


async def test_work_that_cancels_itself_before_it_waits_meets_the_cancellation() -> None:
    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task.uncancel()
            return "cancelled"
        return "never"

    assert await (await begun(work)) == "cancelled"


async def test_work_that_cancels_itself_and_ends_leaves_a_sound_task_for_the_next() -> None:
    async def cancels() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    async def waits() -> str:
        await asyncio.sleep(0)
        return "waited"

    eager: Eager[str] = Eager()
    found: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(
        lambda: found.set_result([eager.begin(cancels), eager.begin(waits), eager.begin(waits)])
    )
    first, *tasks = await found
    assert first == "done"
    assert await asyncio.gather(*tasks) == ["waited", "waited"]
    await eager.aclose()


async def test_a_task_that_is_cancelled_cancels_what_it_waits_for() -> None:
    inner: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended = []

    async def work() -> None:
        try:
            await inner
        finally:
            ended.append(True)

    task = await begun(work)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.cancelled() and ended


async def test_a_task_that_is_cancelled_before_its_turn_runs_its_finally_blocks() -> None:
    """Cancelled in the turn of the loop in which they began; the task of the second has not run at all."""
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    eager: Eager[None] = Eager()
    found: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def begin() -> None:
        tasks = [eager.begin(work), eager.begin(work)]
        for task in tasks:
            assert isinstance(task, asyncio.Task)
            task.cancel()
        found.set_result(tasks)

    asyncio.get_running_loop().call_soon(begin)
    done, _ = await asyncio.wait(await found, timeout=10)
    assert [task.cancelled() for task in done] == [True, True]
    assert ended == [True, True]
    await eager.aclose()
