"""The processes that steps started with multiprocessing, pools among them: they end with their engine's.

Python would wait for them when it ends, or, ended at once, leave them behind: a worker of a pool waits for
its next call for ever. What runs in one of them then was left there by a handler that has ended.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, wait
from typing import TYPE_CHECKING

from iii.threads import started

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["end_children", "kill_children"]

IDLE_S = 0.2
"""What workers of a pool that is shut down have before they are asked."""
ASKED_S = 1.0
"""What they have then before they are killed."""
PATIENCE_S = 5.0

log = logging.getLogger("iii.instances")


def end_children() -> None:
    """Ask them to end, and see that they do. Any thread, more than once."""
    if "multiprocessing.util" in sys.modules:
        wait([started(_end, "iii-children")], PATIENCE_S)


def kill_children() -> None:
    """At once, for a signal handler."""
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import active_children

        for each in active_children():
            each.kill()


def _end() -> None:
    from multiprocessing import active_children, util

    for executor in _executors():
        executor.shutdown(wait=False, cancel_futures=True)
    children = active_children()
    left = _left(children, IDLE_S)
    if left:
        log.info("Ending %d processes that steps left running", len(left))
    # What multiprocessing itself runs at the end: its pools start a worker anew for each that ends.
    finalized = started(lambda: getattr(util, "_run_finalizers", _nothing)(0), "iii-children")
    for each in left:
        each.terminate()
    for each in _left(children, ASKED_S):
        each.kill()
    wait([finalized], ASKED_S)
    for each in active_children():
        each.kill()


def _executors() -> list[Executor]:
    """A pool is known by the thread that minds it, for as long as it has workers."""
    references = (getattr(each, "executor_reference", None) for each in threading.enumerate())
    found = (each() for each in references if each is not None)
    return [each for each in found if isinstance(each, Executor)]


def _left(children: Sequence[BaseProcess], wait_s: float) -> list[BaseProcess]:
    """Those that have not ended within `wait_s`."""
    until = time.monotonic() + wait_s
    for each in children:
        each.join(max(0.0, until - time.monotonic()))
    return [each for each in children if each.is_alive()]


def _nothing(priority: int) -> None:
    """Where multiprocessing has no such function any more."""
