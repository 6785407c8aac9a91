"""The signals of a process that runs engines: stop, end at once, reload.

    SIGINT SIGTERM   the first: stop; the next: end at once, also where the event loop stands still
    SIGHUP           reload; but stop where it says that the terminal has gone (not under nohup)

A handler that sets one of them anew, to nothing or to a function of its own, keeps it for LOOK_S at most.

What these mean is their owner's: a single engine, or the supervisor of several. They mean it however the
process was started: a shell script starts its background jobs with SIGINT ignored, and others block signals.
To leave them so, as programs once did, would make a stop that is asked for by SIGINT pass unheard.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

__all__ = ["Signals", "hear_all"]

LOOK_S = 1.0
DOUBLED_S = 0.5
"""A wrapper often passes on a Ctrl-C that the terminal has sent to all of its group already: what comes
within this time is still the first."""

DEFAULTS = {signal.SIGINT: signal.default_int_handler}
"""Where it is not SIG_DFL."""

log = logging.getLogger("iii.instances")


def hear_all() -> None:
    """First of all: the start, too, can be interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})


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
        self._told_to_stop = False
        self._hung_up_on = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()
        self._set: dict[signal.Signals, object] = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._take(number)
        self._loop.call_later(LOOK_S, self._look)
        self._mask = threading.local()
        os.register_at_fork(before=self._hold, after_in_parent=self._let, after_in_child=self._leave_child)

    def _take(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._loop.add_signal_handler(number, self._hung_up)
        else:
            self._loop.add_signal_handler(number, self._asked_to_stop)
            signal.signal(number, self._arrived)
            signal.siginterrupt(number, False)
        self._set[number] = signal.getsignal(number)

    def _hold(self) -> None:
        """A handler forks: what the child is sent at once waits until that is rid of our functions."""
        self._mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, self._set)

    def _let(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before)

    def _leave_child(self) -> None:
        """Signals end a process that a handler forked, as any: else it would take no notice of them, and its
        parent's loop would hear of them and stop."""
        signal.set_wakeup_fd(-1)
        for number, ours in self._set.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, DEFAULTS.get(number, signal.SIG_DFL))
        self._let()

    def _look(self) -> None:
        self._loop.call_later(LOOK_S, self._look)
        for number, ours in self._set.items():
            if signal.getsignal(number) is not ours:
                log.warning("%s was set anew by a handler: it is taken back", number.name)
                self._take(number)

    def _arrived(self, number: int, frame: object) -> None:
        """At once, in whatever the main thread does; the loop hears of it when it turns."""
        now = time.monotonic()
        if self._doubled_until is None:
            self._doubled_until = now + DOUBLED_S
        elif now > self._doubled_until:
            self._end(signal.Signals(number))

    def _asked_to_stop(self) -> None:
        if not self._told_to_stop:
            self._told_to_stop = True
            self._stop()

    def _hung_up(self) -> None:
        if self._hung_up_on and not _has_terminal():
            self._doubled_until = self._doubled_until or time.monotonic() + DOUBLED_S
            self._asked_to_stop()
        else:
            self._reload()


def _has_terminal() -> bool:
    return any(os.isatty(fd) for fd in (0, 1, 2))
