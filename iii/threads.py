"""The engine's own slow calls, each in its own thread: a handler may fill the loop's pool or shut it down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["in_thread", "started"]

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """What `call` returns, on the running loop. Nobody waits for the thread when the process ends."""
    return asyncio.wrap_future(started(call, "iii-own"))


def started(call: Callable[[], T], name: str) -> Future[T]:
    """`call`, begun in a thread of that name that no pool counts."""
    job: Future[T] = Future()
    threading.Thread(target=_run, args=(job, call), name=name, daemon=True).start()
    return job


def _run(job: Future[T], call: Callable[[], T]) -> None:
    if job.set_running_or_notify_cancel():
        try:
            job.set_result(call())
        except BaseException as error:
            job.set_exception(error)
