"""Calls in the future, on the engine's delay clock: a TimerWheel driven by the event loop.

Owns the one loop timer that wakes the wheel. A FakeClock wakes it by being turned instead. Not durable: what
must survive a restart is a row in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from iii.clock import Clock, FakeClock
from iii.core import TimerWheel

__all__ = ["Timers"]

SLEEP_MS_MAX = 60_000  # the loop's clock stands still while the machine sleeps, the delay clock does not

log = logging.getLogger("iii.running.timers")


class Timers:
    """For one event loop; made on it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._wheel: TimerWheel[Callable[[], object]] = TimerWheel(clock.delay_ms())
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ms: int | None = None
        self._turned_by_hand = isinstance(clock, FakeClock)
        self._undo = clock.on_jump(self._wake)

    def after(self, delay_ms: int, call: Callable[[], object]) -> int:
        """Call `call()` on the loop in `delay_ms`; returns the handle for `cancel`."""
        due_ms = self._clock.delay_ms() + delay_ms
        handle = self._wheel.schedule(due_ms, call)
        if self._armed_ms is None or due_ms < self._armed_ms:
            self._arm()
        return handle

    def cancel(self, handle: int) -> bool:
        """False if it was called or cancelled before."""
        return self._wheel.cancel(handle)

    async def sleep(self, delay_ms: int) -> None:
        done: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        handle = self.after(delay_ms, wake)
        try:
            await done
        finally:
            self._wheel.cancel(handle)

    def close(self) -> None:
        """Forget every timer."""
        self._undo()
        if self._timer is not None:
            self._timer.cancel()
        self._wheel = TimerWheel(self._clock.delay_ms())

    def _wake(self) -> None:
        self._armed_ms = None
        for call in self._wheel.advance(self._clock.delay_ms()):
            try:
                call()
            except Exception:
                log.exception("a timer's call failed")
        self._arm()

    def _arm(self) -> None:
        due_ms = self._wheel.next_ms()
        if due_ms is None or self._turned_by_hand:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ms = due_ms
        wait_ms = min(max(due_ms - self._clock.delay_ms(), 0), SLEEP_MS_MAX)
        self._timer = self._loop.call_later(wait_ms / 1000, self._wake)
