"""The signals of a process that runs engines: stop, end at once, reload.

    SIGINT SIGTERM   the first: stop; the next: end at once
    SIGHUP           reload; but stop where it says that the terminal has gone (not under nohup)

What these mean is their owner's: a single engine, or the supervisor of several.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

__all__ = ["Signals"]

DOUBLED_S = 0.5
"""A wrapper often passes on a Ctrl-C that the terminal has sent to all of its group already: what comes
within this time is still the first."""


class Signals:
    """Installed on construction."""

    def __init__(
        self,
        *,
        stop: Callable[[], object],
        end: Callable[[signal.Signals], object],
        reload: Callable[[], object],
    ) -> None:
        self._stop, self._end, self._reload = stop, end, reload
        self._loop = asyncio.get_running_loop()
        self._doubled_until: float | None = None
        self._hung_up_on = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._asked_to_stop, number)
        self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _asked_to_stop(self, number: signal.Signals) -> None:
        now = self._loop.time()
        if self._doubled_until is None:
            self._doubled_until = now + DOUBLED_S
            self._stop()
        elif now > self._doubled_until:
            self._end(number)

    def _hung_up(self) -> None:
        if self._hung_up_on and not _has_terminal():
            if self._doubled_until is None:
                self._asked_to_stop(signal.SIGHUP)
        else:
            self._reload()


def _has_terminal() -> bool:
    return any(os.isatty(fd) for fd in (0, 1, 2))
