"""Time as an argument: the two clocks of the engine, and the fake one tests turn by hand.

`delay_ms` counts delays, leases and retries: it never goes back and goes on while the machine
sleeps. `wall_ms` is the calendar: cron, dates shown to people. Nothing else in iii reads a clock
to decide something; durations for logs, and how long the loop was busy, may use
time.perf_counter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def delay_ms(self) -> int:
        """Milliseconds on a clock that never goes back (CLOCK_BOOTTIME)."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    def on_jump(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` whenever the clock is turned by hand (a real one never is); returns what undoes it."""
        ...


class SystemClock:
    """CLOCK_BOOTTIME and the wall clock of this machine."""

    def delay_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def on_jump(self, call: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class FakeClock:
    """A clock that stands still until `advance` or `set_wall` turns it (2026-01-01T00:00:00Z at first)."""

    def __init__(self, wall_ms: int = 1_767_225_600_000, delay_ms: int = 1_000_000) -> None:
        self._wall_ms, self._delay_ms = wall_ms, delay_ms
        self._listeners: list[Callable[[], None]] = []

    def delay_ms(self) -> int:
        return self._delay_ms

    def wall_ms(self) -> int:
        return self._wall_ms

    def advance(self, ms: int) -> None:
        """Both clocks go forward by `ms` >= 0 milliseconds."""
        if ms < 0:
            raise ValueError(f"advance({ms}): time goes forward; set_wall() turns the wall clock alone")
        self._delay_ms += ms
        self._wall_ms += ms
        self._tell()

    def set_wall(self, wall_ms: int) -> None:
        """Set the wall clock alone, as an administrator or NTP would; delays do not notice."""
        self._wall_ms = wall_ms
        self._tell()

    def on_jump(self, call: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(call)
        return lambda: self._listeners.remove(call) if call in self._listeners else None

    def _tell(self) -> None:
        for call in tuple(self._listeners):
            call()
