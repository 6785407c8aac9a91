"""A steady pace on an event loop, finer than its timers: a timerfd wakes it. What is overdue comes at once.

Each offer carries the time it was *meant* for. Latencies counted from that time hold the waiting that a slow
system causes (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

CLOCK_MONOTONIC = 1
LATE_START_NS = 1_000_000

_libc = ctypes.CDLL(None, use_errno=True)


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "first_s", "first_ns")]


async def pace(per_s: float, count: int, offer: Callable[[int, int], object]) -> None:
    """Call offer(i, meant_ns) for i in 0..count-1, `per_s` a second; meant_ns is time.monotonic_ns()'s."""
    fd = _libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    step_ns = 1e9 / per_s
    start_ns = time.monotonic_ns() + LATE_START_NS
    offered = 0

    def tick() -> None:
        nonlocal offered
        try:
            os.read(fd, 8)
        except BlockingIOError:
            return
        due = min(count, int((time.monotonic_ns() - start_ns) / step_ns) + 1)
        while offered < due:
            offer(offered, start_ns + int(offered * step_ns))
            offered += 1
        if offered == count:
            ended.set()

    interval_ns = max(1, int(step_ns))
    spec = _Spec(*divmod(interval_ns, 10**9), *divmod(LATE_START_NS, 10**9))
    _libc.timerfd_settime(fd, 0, ctypes.byref(spec), None)
    loop.add_reader(fd, tick)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
