"""A duty of the engine lasts as long as the engine: cancelled by others it goes on, ended it is a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from iii.errors import IIIError
from iii.running.duty import Duty
from iii.threads import in_thread


class Work:
    """Begins, and ends when it is told how."""

    def __init__(self) -> None:
        self.begun = 0
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reasons: list[IIIError] = []

    async def __call__(self) -> None:
        self.begun += 1
        await asyncio.shield(self.end)

    def duty(self, until: asyncio.Event | None = None) -> Duty:
        return Duty("cron", self, lost="no schedule starts", failed=self.reasons.append, until=until)


async def turns(look: Callable[[], object]) -> None:
    for _ in range(100):
        if look():
            return
        await asyncio.sleep(0)
    raise AssertionError("not within 100 turns of the loop")


def cancel_all_others() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_one_that_is_cancelled_by_others_begins_anew_however_often_and_before_its_first_step() -> None:
    work = Work()
    duty = work.duty()
    cancel_all_others()
    for begun in range(1, 10):
        await turns(lambda begun=begun: work.begun == begun)
        cancel_all_others()
    await turns(lambda: work.begun == 10)
    assert work.reasons == []
    await duty.cancel()
    assert work.begun == 10


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda end: end.set_result(None), "it ended"),
        (lambda end: end.set_exception(ValueError("broken")), "ValueError: broken"),
        (lambda end: end.cancel(), "it ended"),
    ],
)
async def test_one_that_ends_before_it_should_has_failed_and_says_why(
    end: Callable[[asyncio.Future[None]], object], why: str
) -> None:
    work = Work()
    work.duty()
    await turns(lambda: work.begun)
    end(work.end)
    await turns(lambda: work.reasons)
    assert [str(reason) for reason in work.reasons] == [f"cron failed: no schedule starts ({why})"]


async def test_one_that_is_told_to_end_ends_and_is_not_cut_short_by_a_cancellation() -> None:
    work, until = Work(), asyncio.Event()
    duty = work.duty(until)
    until.set()
    await turns(lambda: work.begun)
    ended = asyncio.ensure_future(duty.ended())
    (first,) = asyncio.all_tasks() - {asyncio.current_task(), ended}
    first.cancel()
    await turns(lambda: work.begun == 2)
    assert not ended.done()
    work.end.set_result(None)
    await ended
    assert work.reasons == []


def test_a_loop_that_is_closed_without_a_stop_is_not_waited_for() -> None:
    async def main() -> Coroutine[Any, Any, None] | None:
        Work().duty()
        await asyncio.sleep(0)
        return None

    asyncio.run(main())


async def test_what_the_engine_runs_in_a_thread_needs_no_pool_of_the_loop() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)
