"""Who waits on the loop, and until when: on the store's clock, so a clock that is turned asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from iii.clock import Clock
from iii.errors import StoreError

T = TypeVar("T")
TIMER_S_MAX = 3600.0


class Deadline:
    """Calls `expire` once, on the loop, when `wait_ms` have passed on the clock."""

    def __init__(self, clock: Clock, wait_ms: int, expire: Callable[[], None]) -> None:
        self._clock, self._expire = clock, expire
        self._at_ms = clock.delay_ms() + wait_ms
        self._timer: asyncio.TimerHandle | None = None
        self.check()

    def check(self) -> None:
        self.cancel()
        left_ms = self._at_ms - self._clock.delay_ms()
        if left_ms <= 0:
            self._expire()
        else:
            left_s = min(left_ms / 1000, TIMER_S_MAX)
            self._timer = asyncio.get_running_loop().call_later(left_s, self.check)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Waiter(Generic[T]):
    """Waits until `look` finds something, or until its deadline (None = for ever): then []."""

    def __init__(self, look: Callable[[], list[T]], clock: Clock, wait_ms: int | None) -> None:
        self._look = look
        self.future: asyncio.Future[list[T]] = asyncio.get_running_loop().create_future()
        self.deadline = None if wait_ms is None else Deadline(clock, wait_ms, lambda: self.answer([]))

    def look(self) -> None:
        """An error of the store is the answer too."""
        try:
            if not self.future.done() and (found := self._look()):
                self.answer(found)
        except StoreError as error:
            self.future.set_exception(error)

    def answer(self, found: list[T]) -> None:
        if not self.future.done():
            self.future.set_result(found)
        if self.deadline is not None:
            self.deadline.cancel()

    def end(self) -> None:
        """Nobody waits any more. The deadline refers back to this: apart, both are free at once."""
        deadline, self.deadline = self.deadline, None
        if deadline is not None:
            deadline.cancel()


class Waiters(Generic[T]):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[Waiter[T]] = []

    async def wait(self, look: Callable[[], list[T]], wait_ms: int | None, look_s: float | None) -> list[T]:
        """`look_s`: look by itself that often, where nobody is told of what others do."""
        waiter = Waiter(look, self._clock, wait_ms)
        self._waiting.append(waiter)
        try:
            waiter.look()  # what came while nobody waited
            while not waiter.future.done():
                await asyncio.wait((waiter.future,), timeout=look_s)
                waiter.look()
            return waiter.future.result()
        finally:
            self._waiting.remove(waiter)
            waiter.end()

    def look(self) -> None:
        for waiter in tuple(self._waiting):
            waiter.look()

    def check_deadlines(self) -> None:
        for waiter in tuple(self._waiting):
            if waiter.deadline is not None and not waiter.future.done():
                waiter.deadline.check()

    def answer_all(self) -> None:
        """With nothing: the store closes."""
        for waiter in tuple(self._waiting):
            waiter.answer([])
