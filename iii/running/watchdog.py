"""Notices that the event loop stands still, and tells which step blocks it and where.

A thread asks the loop for a sign of life and counts its own beats until one comes; no clocks are compared: a
process that was stopped, or a machine that slept, accuses nobody. It costs the loop four callbacks a second.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from iii.handling.ambient import running
from iii.handling.context import Context

__all__ = ["BEAT_S", "BLOCKED_BEATS", "Watchdog"]

BEAT_S = 0.25
BLOCKED_BEATS = 4
"""A loop that gives no sign of life for so many beats (1 s) is blocked."""

_CALLS = "iii.running.invoke"

log = logging.getLogger("iii.watchdog")


class Watchdog:
    """Made on the loop that it watches; `stop` ends its thread."""

    def __init__(self, *, beat_s: float = BEAT_S) -> None:
        self._loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()
        self._beat_s = beat_s
        self._alive, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="iii-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for the thread: it may be logging, and ends at its next beat."""
        self._stopping.set()
        self._alive.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._beat_s):
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            self._await_sign()

    def _await_sign(self) -> None:
        beats, asked_s = 0, time.monotonic()
        while not self._alive.wait(self._beat_s):
            beats += 1
            if beats == BLOCKED_BEATS:
                _tell(sys._current_frames().get(self._thread_id), BLOCKED_BEATS * self._beat_s)
        if beats >= BLOCKED_BEATS and not self._stopping.is_set():
            log.info("the event loop goes on, after %.1f s", time.monotonic() - asked_s)


def _tell(frame: FrameType | None, seconds: float) -> None:
    frames = _outermost_first(frame)
    at = max((index for index, each in enumerate(frames) if _name(each) == _CALLS), default=-1)
    step = _step_of(frames[at]) if at >= 0 else None
    stack = traceback.StackSummary.extract((each, each.f_lineno) for each in frames[at + 1 :])
    log.warning(
        "%s blocks the event loop for over %.1f s: no request is answered and no other handler goes on here "
        "meanwhile; await what takes long, or write the handler as a plain `def`\n%s",
        f"step {step}" if step else "something",
        seconds,
        "".join(stack.format()).rstrip(),
        extra={"context": {"step": step} if step else {}},
    )


def _outermost_first(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _step_of(frame: FrameType) -> str | None:
    """The name of the step whose function this frame of invoke.py calls."""
    ctx = frame.f_locals.get("ctx")
    if ctx is None and (waiting := frame.f_locals.get("waiting")) is not None:
        ctx = waiting.variables.get(running)
    return ctx.step.name if isinstance(ctx, Context) else None
