"""Timers on a clock turned by hand and on the real one."""

from __future__ import annotations

import asyncio
import logging

import pytest

from iii.clock import FakeClock, SystemClock
from iii.running.timers import Timers


async def test_calls_come_in_order_when_the_clock_is_turned() -> None:
    clock = FakeClock()
    timers = Timers(clock)
    called: list[str] = []
    timers.after(20, lambda: called.append("b"))
    timers.after(10, lambda: called.append("a"))
    cancelled = timers.after(15, lambda: called.append("never"))
    assert timers.cancel(cancelled) and not timers.cancel(cancelled)
    clock.advance(9)
    assert called == []
    clock.advance(11)
    assert called == ["a", "b"]
    timers.close()


async def test_a_call_that_fails_is_told_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    timers = Timers(clock)
    called: list[int] = []
    timers.after(1, lambda: 1 / 0)
    timers.after(1, lambda: called.append(1))
    with caplog.at_level(logging.ERROR, logger="iii"):
        clock.advance(1)
    assert called == [1] and "ZeroDivisionError" in caplog.text
    timers.close()


async def test_sleep_ends_on_time_and_leaves_nothing_when_cancelled() -> None:
    clock = FakeClock()
    timers = Timers(clock)
    sleeping = asyncio.ensure_future(timers.sleep(1_000))
    await asyncio.sleep(0)
    clock.advance(999)
    await asyncio.sleep(0)
    assert not sleeping.done()
    clock.advance(1)
    await sleeping
    other = asyncio.ensure_future(timers.sleep(1_000))
    await asyncio.sleep(0)
    other.cancel()
    await asyncio.wait((other,))
    clock.advance(1_000)
    timers.close()


async def test_on_the_real_clock_an_earlier_timer_set_later_comes_first() -> None:
    timers = Timers(SystemClock())
    called: list[str] = []
    done = asyncio.Event()
    timers.after(60_000, lambda: called.append("much later"))
    timers.after(20, lambda: (called.append("second"), done.set()))
    timers.after(1, lambda: called.append("first"))
    async with asyncio.timeout(10):
        await done.wait()
    assert called == ["first", "second"]
    timers.close()
