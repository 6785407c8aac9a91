"""Notices that the event loop stands still, and tells which step holds it and where.

    no sign of life for    what follows
    BLOCKED_BEATS          one warning with the step and its stack
    the beats of `arm`     the stacks of all threads are logged, and who armed it is told who holds the loop

A thread asks the loop for a sign of life and counts its own beats until one comes; no clocks are compared: a
process that was stopped, or a machine that slept, accuses nobody. It costs the loop four callbacks a second.
C code that keeps the interpreter's lock stops this thread too.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

from msgspec import Struct

from iii.errors import LoopStuck
from iii.handling.ambient import running
from iii.handling.context import Context

__all__ = ["BEAT_S", "BLOCKED_BEATS", "Stuck", "Watchdog"]

BEAT_S = 0.25
BLOCKED_BEATS = 4
"""A loop that gives no sign of life for so many beats (1 s) is blocked."""

_CALLS = "iii.running.invoke"

log = logging.getLogger("iii.watchdog")


class Stuck(Struct, frozen=True):
    """`message_ids`: of the messages that are to blame, none where a request holds the loop; None where it is
    not known who does."""

    error: LoopStuck
    message_ids: tuple[int, ...] | None


class Watchdog:
    """Made on the loop that it watches; `stop` ends its thread."""

    def __init__(self, *, beat_s: float = BEAT_S) -> None:
        self.loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()
        self._beat_s = beat_s
        self._stuck_beats = 0
        self._on_stuck: Callable[[Stuck], object] = _ignore
        self._alive, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="iii-watchdog", daemon=True)
        self._thread.start()

    def arm(self, stuck_after_ms: int, on_stuck: Callable[[Stuck], object]) -> None:
        """Call `on_stuck`, in a thread, whenever the loop has stood still for so long; 0 = never."""
        self._on_stuck = on_stuck
        self._stuck_beats = round(stuck_after_ms / (1000 * self._beat_s))

    def stop(self) -> None:
        """Does not wait for the thread: it may be logging, and ends at its next beat."""
        self._stopping.set()
        self._alive.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._beat_s):
            self._alive.clear()
            try:
                self.loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            self._await_sign()

    def _await_sign(self) -> None:
        beats, asked_s = 0, time.monotonic()
        while not self._alive.wait(self._beat_s):
            beats += 1
            if beats == BLOCKED_BEATS:
                self._warn(BLOCKED_BEATS * self._beat_s)
            if beats == self._stuck_beats:
                self._give_up(beats * self._beat_s)
        if beats >= BLOCKED_BEATS and not self._stopping.is_set():
            log.info("the event loop goes on, after %.1f s", time.monotonic() - asked_s)

    def _warn(self, seconds: float) -> None:
        frames = _outermost_first(sys._current_frames().get(self._thread_id))
        at = _call(frames)
        step = _step_of(self._holder(frames, at))
        stack = traceback.StackSummary.extract((each, each.f_lineno) for each in frames[at + 1 :])
        log.warning(
            "%s blocks the event loop for over %.1f s: no request is answered and no other handler goes on "
            "here meanwhile; await what takes long, or write the handler as a plain `def`\n%s",
            f"step {step}" if step else "something",
            seconds,
            "".join(stack.format()).rstrip(),
            extra={"iii_step": step} if step else {},
        )

    def _give_up(self, seconds: float) -> None:
        frames = _outermost_first(sys._current_frames().get(self._thread_id))
        ctx = self._holder(frames, _call(frames))
        step = _step_of(ctx)
        holder = f"step {step}" if step else f"the loop's own thread, {_place(frames)},"
        error = LoopStuck(f"{holder} holds the event loop: it has not turned for {seconds:.0f} s")
        context = {"iii_step": step} if step else {}
        log.critical("%s. All threads:\n%s", error, _stacks(), extra=context)
        if not self._alive.is_set():
            self._on_stuck(Stuck(error, None if ctx is None else _messages_of(ctx)))

    def _holder(self, frames: list[FrameType], at: int) -> Context | None:
        """Of the handler that holds the loop. Where no frame of ours calls it, it has a task of its own."""
        if at >= 0:
            return _context_in(frames[at])
        task = asyncio.current_task(self.loop)
        frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
        if frame is None or _name(frame).startswith("iii."):
            return None
        variables = (each for each in gc.get_referents(task) if isinstance(each, contextvars.Context))
        ctx = next((each.get(running) for each in variables), None)
        return ctx if isinstance(ctx, Context) else None


def _ignore(stuck: Stuck) -> object:
    """It is not armed."""


def _call(frames: list[FrameType]) -> int:
    """Where the innermost frame of ours that calls a handler is; -1 = there is none."""
    return max((index for index, each in enumerate(frames) if _name(each) == _CALLS), default=-1)


def _outermost_first(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _context_in(frame: FrameType) -> Context | None:
    """Of the handler that this frame of invoke.py calls."""
    ctx = frame.f_locals.get("ctx")
    if ctx is None and (waiting := frame.f_locals.get("waiting")) is not None:
        ctx = waiting.variables.get(running)
    return ctx if isinstance(ctx, Context) else None


def _step_of(ctx: Context | None) -> str | None:
    return None if ctx is None else ctx.step.name


def _messages_of(ctx: Context) -> tuple[int, ...]:
    return () if ctx.message is None else (ctx.message.lease.id,)


def _place(frames: list[FrameType]) -> str:
    """Where the innermost frame stands."""
    if not frames:
        return "which is gone"
    code = frames[-1].f_code
    return f"in {code.co_name} ({code.co_filename}:{frames[-1].f_lineno})"


def _stacks() -> str:
    """Of all threads but this one."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    )
