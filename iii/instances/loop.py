"""Runs an engine's event loop to the end of its main task, whatever handlers do to the loop.

    a handler                                                                   the engine
    stops the loop                                                              goes on, with a warning
    leaves a callback or task behind that raises SystemExit, KeyboardInterrupt  goes on, with an error
    cancels all tasks                                                           `until` waits on

Closing a loop that runs raises in whoever tries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

__all__ = ["run", "until"]

log = logging.getLogger("iii.engine")


def run(main: Coroutine[Any, Any, None]) -> None:
    """As uvloop.run."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        task.add_done_callback(lambda _: loop.stop())
        while not task.done():
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                if not task.done():
                    told = "%s in a callback, or in a task that a handler left behind: the engine goes on"
                    log.error(told, type(error).__name__, exc_info=error)
            else:
                if not task.done():
                    log.warning("the event loop was stopped, by a handler: it goes on")
        task.result()


async def until(*events: asyncio.Event) -> None:
    """Wait for one of them."""
    task = asyncio.current_task()
    assert task is not None
    while not any(event.is_set() for event in events):
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            log.warning("the engine's main task was cancelled, by a handler: it goes on")
            while task.cancelling():
                task.uncancel()
        finally:
            for wait in waits:
                wait.cancel()
