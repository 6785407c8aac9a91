"""The native structures under pyperf, in batches as the engine uses them.

    python -m bench.programs.core -o FILE

Each case does COUNT operations; what it sets up and checks is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from iii.core import Batch, Dispatcher, PriorityQueue, TimerWheel

COUNT = 100_000
LANES = 8


def queue_push_pop() -> float:
    queue: PriorityQueue[int] = PriorityQueue()
    started = time.perf_counter()
    for i in range(COUNT):
        queue.push(i, i & 255)
    for _ in range(COUNT):
        queue.pop()
    return _spent(started, len(queue) == 0)


def queue_batch_push_pop() -> float:
    queue: PriorityQueue[int] = PriorityQueue()
    items, popped = list(range(250)), 0
    started = time.perf_counter()
    for _ in range(COUNT // 250):
        queue.push_many(items)
        popped += len(queue.pop_many(250))
    return _spent(started, popped == COUNT)


def wheel_schedule_fire() -> float:
    wheel: TimerWheel[int] = TimerWheel(0)
    fired = 0
    started = time.perf_counter()
    for i in range(COUNT):
        wheel.schedule((i * 7919) % 600_000, i)
    for now in range(0, 600_001, 1000):
        fired += len(wheel.advance(now))
    return _spent(started, fired == COUNT)


def wheel_schedule_cancel() -> float:
    wheel: TimerWheel[int] = TimerWheel(0)
    started = time.perf_counter()
    handles = [wheel.schedule(30_000 + (i & 1023), i) for i in range(COUNT)]
    for handle in handles:
        wheel.cancel(handle)
    return _spent(started, len(wheel) == 0)


def dispatch_push_take_done() -> float:
    dispatcher: Dispatcher[int, int] = Dispatcher()
    for lane in range(LANES):
        dispatcher.add_lane(lane, 125)
    taken = 0
    started = time.perf_counter()
    for _ in range(COUNT // 1000):
        for i in range(1000):
            dispatcher.push(i % LANES, i)
        for lane, _, _ in dispatcher.take(1000):
            dispatcher.done(lane)
            taken += 1
    return _spent(started, taken == COUNT)


def batch_append_swap() -> float:
    batch: Batch[int] = Batch()
    swapped = 0
    started = time.perf_counter()
    for _ in range(COUNT // 1000):
        for i in range(1000):
            batch.append(i)
        swapped += len(batch.swap())
    return _spent(started, swapped == COUNT)


def _spent(started: float, right: bool) -> float:
    spent = time.perf_counter() - started
    if not right:
        raise AssertionError("operations were lost or doubled")
    return spent


CASES: dict[str, Callable[[], float]] = {
    "queue_push_pop_ns": queue_push_pop,
    "queue_batch_push_pop_ns": queue_batch_push_pop,
    "wheel_schedule_fire_ns": wheel_schedule_fire,
    "wheel_schedule_cancel_ns": wheel_schedule_cancel,
    "dispatch_push_take_done_ns": dispatch_push_take_done,
    "batch_append_swap_ns": batch_append_swap,
}


def main() -> None:
    import pyperf  # type: ignore[import-untyped]

    runner = pyperf.Runner()
    for name, case in CASES.items():
        runner.bench_time_func(
            name, lambda loops, case=case: sum(case() for _ in range(loops)), inner_loops=COUNT
        )


if __name__ == "__main__":
    main()
