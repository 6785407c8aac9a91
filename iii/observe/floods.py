"""Lines that anybody can cause are told once a minute for each kind; the others are counted.

    kind                    a line of the log by the code it comes from, never by what it says: a bad request,
                            a refused token, an error within a library that reads what clients send; of a
                            step's failures each place by itself
    of the first minute     the first line; of a step's failures, and of what else the engine says of itself,
                            LINES_MAX, the first of them with its traceback
    at the end of it        one line for those that were left out: "… 4,120 more like this in the last minute"
    for as long as it goes on, one such line a minute; at the engine's stop the rest

What a handler logs itself is never left out. Knows no formats: it stands before the handlers that write. Any
thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from types import TracebackType

from msgspec import Struct

from iii.observe.messages import text_of, told_of

__all__ = ["LINES_MAX", "STEPS", "Floods", "ForOthers", "is_own"]

MINUTE_S = 60.0
KINDS_MAX = 256
LINES_MAX = 60
TEXT_CHARS_MAX = 300
"""Of what a line says, where it is not the first of its kind."""
FRAMES_MAX = 40

ANYBODYS = frozenset(("iii.http", "iii.console"))
"""The loggers of the rooms that read what clients send."""
LIBRARIES = frozenset(
    ["asyncio", "concurrent", "h11", "h2", "hpack", "hypercorn", "python_multipart", "starlette", "wsproto"]
)

STEPS = "iii.step."
"""What the loggers of steps begin with."""
_SUPERVISOR = "iii.instances"
_OTHERS = "others"


class _Kind(Struct, eq=False):
    """`most`: how many of a minute are shown. began_s: when its minute did; `shown`, `more` (left out): since
    then. `last`: the last that was left out, as its summary tells it."""

    most: int
    began_s: float
    shown: int = 0
    more: int = 0
    last: logging.LogRecord | None = None


class Floods(logging.Handler):
    """Before `handlers`. now_s: a clock that never goes back."""

    def __init__(
        self,
        handlers: Sequence[logging.Handler],
        now_s: Callable[[], float] = time.monotonic,
        minute_s: float = MINUTE_S,
    ) -> None:
        super().__init__()
        self.handlers, self._now_s, self._minute_s = tuple(handlers), now_s, minute_s
        self._kinds: dict[Hashable, _Kind] = {}
        self._turn = threading.RLock()  # the text of an argument may log in its turn
        self._timer: threading.Timer | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        kind = _kind_of(record)
        if kind is not None:
            with self._turn:
                admitted = self._admitted(record, kind)
            if admitted is None:
                return False
            record = admitted
        self._pass_on(record)
        return True

    def tell(self, *, all: bool = False) -> None:
        """Tell of those whose minute is over how many were left out; of `all` at a stop."""
        now_s = self._now_s()
        told: list[logging.LogRecord] = []
        with self._turn:
            self._timer = None
            for kind in self._kinds.values():
                if kind.more and (all or now_s - kind.began_s >= self._minute_s):
                    told.append(_summary(kind, now_s))
                    # its line of the minute that begins is the next summary; a failure is shown anew
                    kind.began_s, kind.shown, kind.more = now_s, int(kind.most == 1), 0
            self._forget_idle(now_s)
            self._arm(now_s)
        for record in told:
            self._pass_on(record)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.tell(all=True)
        super().close()

    def _pass_on(self, record: logging.LogRecord) -> None:
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)

    def _admitted(self, record: logging.LogRecord, named: tuple[Hashable, int]) -> logging.LogRecord | None:
        name, most = named
        now_s = self._now_s()
        kind = self._kinds.get(name)
        if kind is None:
            if len(self._kinds) >= KINDS_MAX:
                self._forget_idle(now_s)
            if len(self._kinds) >= KINDS_MAX:
                name, most = _OTHERS, 1
            kind = self._kinds.setdefault(name, _Kind(most, now_s))
        if now_s - kind.began_s >= self._minute_s and not kind.more:
            kind.began_s, kind.shown = now_s, 0
        kind.shown += 1
        if kind.shown == 1:
            return record
        if kind.shown <= kind.most:
            return _short(record)
        kind.more += 1
        kind.last = _plain(record)
        if self._timer is None:
            self._arm(now_s)
        return None

    def _forget_idle(self, now_s: float) -> None:
        held = self._kinds.items()
        self._kinds = {
            name: kind for name, kind in held if kind.more or now_s - kind.began_s < self._minute_s
        }

    def _arm(self, now_s: float) -> None:
        """Have `tell` called when the first of the minutes ends in which a line was left out."""
        began_s = min((kind.began_s for kind in self._kinds.values() if kind.more), default=None)
        if began_s is not None:
            self._timer = threading.Timer(max(began_s + self._minute_s - now_s, 0.05), self.tell)
            self._timer.daemon = True
            self._timer.start()


class ForOthers(logging.Handler):
    """For all that is not below `iii`, in a process that is the engine's. Closed by whoever sets up logging
    anew, it leaves `floods` open."""

    def __init__(self, floods: Floods) -> None:
        super().__init__()
        self._floods = floods

    def handle(self, record: logging.LogRecord) -> bool:
        return self._floods.handle(record)


def is_own(record: logging.LogRecord) -> bool:
    """Whether a logger of ours made it; a name may be missing in what was made elsewhere."""
    name = record.name
    return isinstance(name, str) and (name.startswith("iii.") or name == "iii")


def _kind_of(record: logging.LogRecord) -> tuple[Hashable, int] | None:
    """Its kind, and how many of it are shown in a minute; None: all are."""
    name = record.name
    if not is_own(record):
        if isinstance(name, str) and name.partition(".")[0] in LIBRARIES:
            return (name, record.pathname, record.lineno, _place(record)), 1
        return None
    if (own := record.__dict__.get("iii_kind")) is not None:
        return (name, own, _place(record)), LINES_MAX
    if name.startswith(STEPS):
        return None
    if name in ANYBODYS:
        return (name, record.pathname, record.lineno, _place(record)), 1
    if name != _SUPERVISOR and record.levelno > logging.DEBUG:
        return (name, record.pathname, record.lineno, _place(record)), LINES_MAX
    return None


def _place(record: logging.LogRecord) -> Hashable:
    """Which code failed, of a line that has a traceback."""
    if not record.exc_info or record.exc_info[1] is None:
        return None
    error = record.exc_info[1]
    places: set[tuple[str, int]] = set()
    at: TracebackType | None = error.__traceback__
    while at is not None and len(places) < FRAMES_MAX:
        places.add((at.tb_frame.f_code.co_filename, at.tb_lineno))
        at = at.tb_next
    return type(error).__qualname__, frozenset(places)


def _plain(record: logging.LogRecord) -> logging.LogRecord:
    """Without its error. It holds nothing that the caller had."""
    plain = logging.LogRecord.__new__(logging.LogRecord)
    message, fields = told_of(record)
    held = {name: value for name, value in vars(record).items() if name not in fields}
    plain.__dict__ = held | {
        "msg": _cut(message),
        "args": None,
        "exc_info": None,
        "iii_fields": {
            name: value if isinstance(value, int | float | None) else _cut(text_of(value))
            for name, value in fields.items()
        },
    }
    return plain


def _short(record: logging.LogRecord) -> logging.LogRecord:
    """Without its traceback: the first of its kind had the same one."""
    short = _plain(record)
    if record.exc_info and record.exc_info[1] is not None:
        told = _told(record.exc_info[1])
        said = "" if told in short.msg else f"{told} "
        short.__dict__["iii_below"] = f"{said}(its traceback: above, within the minute)"
    return short


def _summary(kind: _Kind, now_s: float) -> logging.LogRecord:
    assert kind.last is not None
    record = copy(kind.last)
    seconds = round(now_s - kind.began_s)
    since = "minute" if 55 <= seconds <= 65 else f"{seconds} s"
    record.msg = f"{record.msg} … {kind.more:,} more like this in the last {since}"
    record.created = time.time()
    return record


def _told(error: BaseException) -> str:
    try:
        return _cut(f"{type(error).__name__}: {error}")
    except Exception:  # its text cannot be had
        return type(error).__name__


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}..."
