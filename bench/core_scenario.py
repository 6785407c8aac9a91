"""`core`: nanoseconds an operation of the native structures, in batches as the engine uses them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from iii.core import Batch, Dispatcher, PriorityQueue, TimerWheel

COUNT = 100_000


def run(*, quick: bool) -> dict[str, float]:
    """{metric: ns per operation}, each the median of several rounds over 100,000 operations."""
    rounds = 3 if quick else 9
    cases: dict[str, Callable[[], None]] = {
        "queue_push_pop_ns": queue_push_pop,
        "queue_batch_push_pop_ns": queue_batch,
        "wheel_schedule_fire_ns": wheel_schedule_fire,
        "wheel_schedule_cancel_ns": wheel_schedule_cancel,
        "dispatch_push_take_done_ns": dispatch,
        "batch_append_swap_ns": batch_append_swap,
    }
    return {name: _median_ns(case, rounds) for name, case in cases.items()}


def _median_ns(case: Callable[[], None], rounds: int) -> float:
    spent = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        case()
        spent.append((time.perf_counter_ns() - started) / COUNT)
    return statistics.median(spent)


def queue_push_pop() -> None:
    queue = PriorityQueue()
    for i in range(COUNT):
        queue.push(i, i & 255)
    for _ in range(COUNT):
        queue.pop()


def queue_batch() -> None:
    queue = PriorityQueue()
    items = list(range(256))
    for _ in range(COUNT // 256):
        queue.push_many(items)
        queue.pop_many(256)


def wheel_schedule_fire() -> None:
    wheel = TimerWheel(0)
    for i in range(COUNT):
        wheel.schedule((i * 7919) % 600_000, i)
    for now in range(0, 600_001, 1000):
        wheel.advance(now)
    assert len(wheel) == 0


def wheel_schedule_cancel() -> None:
    wheel = TimerWheel(0)
    handles = [wheel.schedule(30_000 + (i & 1023), i) for i in range(COUNT)]
    for handle in handles:
        wheel.cancel(handle)


def dispatch() -> None:
    lanes = 8
    dispatcher = Dispatcher()
    for lane in range(lanes):
        dispatcher.add_lane(lane, 128)
    for _ in range(COUNT // 1024):
        for i in range(1024):
            dispatcher.push(i % lanes, i)
        for taken in dispatcher.take(1024):
            dispatcher.done(taken[0])


def batch_append_swap() -> None:
    batch = Batch()
    for _ in range(COUNT // 1000):
        for i in range(1000):
            batch.append(i)
        batch.swap()
