"""A handler that forks: its child must not come back into the engine, where it would go on as a second one.

It has copies of the parent's sockets, queue and event loop, would answer the parent's requests, and may write
nothing (the store is closed to it). So it is ended where it comes back: when the function that forked returns
or awaits, or in the loop's next turn; until then its loop hears nothing of the parent's sockets. A child that
ends itself (`os._exit`, exec, multiprocessing, subprocess) is left alone.
"""

from __future__ import annotations

import asyncio
import os
import select
import weakref
from concurrent.futures import thread

__all__ = ["EXIT_CODE", "Forks", "keep_out"]

EXIT_CODE = 70  # EX_SOFTWARE

_MESSAGE = b"iii: process %d, forked by a handler, came back into the engine: ended. End it with os._exit()\n"


class Forks:
    """`count`: how often the processes between the first one and this one were forked."""

    count = 0

    @staticmethod
    def end() -> None:
        """In a child that came back: leave, without the exit handlers and buffers that are the parent's."""
        os.write(2, _MESSAGE % os.getpid())
        os._exit(EXIT_CODE)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
"""Event loops that engines run on, and the epoll that each of them listens at."""


def keep_out(loop: asyncio.AbstractEventLoop) -> None:
    """An engine runs on this loop: a child forked from here on must not run it."""
    selector = getattr(loop, "_selector", None)
    heard_at = getattr(loop, "_get_backend_id", getattr(selector, "fileno", None))  # uvloop's, asyncio's
    if heard_at is not None:
        _loops[loop] = heard_at()


def _in_child() -> None:
    Forks.count += 1
    # What multiprocessing runs at the end of a child would join the threads of pools: they were not forked
    # along, and the one that forked would wait for itself.
    getattr(thread, "_threads_queues", {}).clear()
    for loop, heard_at in tuple(_loops.items()):
        if not loop.is_closed():
            with select.epoll() as silence:
                os.dup2(silence.fileno(), heard_at, inheritable=False)
            loop.call_soon(Forks.end)


os.register_at_fork(after_in_child=_in_child)
