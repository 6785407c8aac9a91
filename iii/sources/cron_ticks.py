"""Which ticks of a schedule are due: on time, or missed and made up for. Pure."""

from __future__ import annotations

from iii.formats.cron_expression import Schedule
from iii.step import Missed

__all__ = ["MISSED_MAX", "ON_TIME_MS", "left_out", "ticks"]

ON_TIME_MS = 5_000  # a tick this late, of a source that was there, was not missed
MISSED_MAX = 1_000


def ticks(schedule: Schedule, missed: Missed, mark_ms: int, now_ms: int, since_ms: int) -> list[int]:
    """The ticks in (mark, now] that are due messages.

    On time are those after `since_ms`, from when on somebody was there, and at most ON_TIME_MS late. The
    others were missed: "last" keeps the newest of them unless one is on time, "skip" none, "all" as many that
    there are MISSED_MAX at most.
    """
    edge_ms = max(mark_ms, min(since_ms, now_ms), now_ms - ON_TIME_MS)
    on_time = schedule.between(edge_ms, now_ms, MISSED_MAX)
    if missed == "skip" or edge_ms <= mark_ms or (missed == "last" and on_time):
        return on_time
    made_up = _newest(schedule, mark_ms, edge_ms, 1 if missed == "last" else MISSED_MAX)
    return (made_up + on_time)[-MISSED_MAX:]


def left_out(schedule: Schedule, missed: Missed, mark_ms: int, due: list[int]) -> int:
    """How many ticks after the mark are older than the due ones that "all" keeps."""
    return schedule.count(mark_ms, due[0] - 1) if missed == "all" and len(due) >= MISSED_MAX else 0


def _newest(schedule: Schedule, after_ms: int, until_ms: int, count: int) -> list[int]:
    """The newest `count` fires in (after, until]: the last, and before it window by window.

    A window grows while it holds few fires and shrinks when it holds more than are looked at.
    """
    last_ms = schedule.previous_ms(until_ms)
    if last_ms is None or last_ms <= after_ms:
        return []
    fires, end_ms, window_ms = [last_ms], last_ms - 1_000, 1_000
    while len(fires) < count and end_ms > after_ms:
        start_ms = max(after_ms, end_ms - window_ms)
        found = schedule.between(start_ms, end_ms, MISSED_MAX)
        if len(found) == MISSED_MAX and end_ms - start_ms > MISSED_MAX * 1_000:
            window_ms = (end_ms - start_ms) // 4
            continue
        fires, end_ms = found + fires, start_ms
        if 4 * len(found) < MISSED_MAX:
            window_ms *= 4
    return fires[-count:]
