"""Logs on the standard library: text on a terminal, one JSON object a line otherwise.

`configure` is called by whoever owns the process (the command line), never by the engine: an application that
embeds it keeps its own logging. A record may carry `fields`, and `below`, a text of several lines. No secret
leaves (redaction.py), nothing forges a line (lines.py), and no flood drowns the rest (floods.py).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TextIO

from msgspec import Struct

from iii.formats.printable import printable_json
from iii.observe.capture import CapturedLines
from iii.observe.floods import Floods
from iii.observe.lines import line_of, traceback_of
from iii.observe.redaction import Redaction, to_json

__all__ = ["JsonFormatter", "StepLogger", "TextFormatter", "chosen", "configure", "log"]

log = logging.getLogger("iii")
"""The engine's own logger; handlers log below it, as iii.step.<name>."""

_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}
_PLAIN = "\x1b[0m"


class StepLogger(Struct, frozen=True, eq=False):
    """`ctx.logger`: a message and its fields, as a mapping or as keywords. Costs nothing when not wanted.

    trace_id: tells it; asked when the first line is shown. captured: takes each line too, for the run's
    record."""

    _step: str
    _attempt: int
    _trace_id: Callable[[], str]
    _captured: CapturedLines | None = None

    def debug(self, message: str, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        self._write(logging.DEBUG, message, fields, more)

    def info(self, message: str, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        self._write(logging.INFO, message, fields, more)

    def warning(self, message: str, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        self._write(logging.WARNING, message, fields, more)

    warn = warning

    def error(self, message: str, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        self._write(logging.ERROR, message, fields, more)

    def exception(self, message: str, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        """As `error`, with the traceback of the exception being handled."""
        self._write(logging.ERROR, message, fields, {"exc_info": True, **more})

    def tell(
        self,
        level: int,
        kind: str,
        fields: Mapping[str, Any] | None = None,
        *,
        message: str = "",
        exc_info: BaseException | None = None,
    ) -> None:
        """A line of the engine's own about this step. Many of a kind are counted (floods.py). `message`: the
        kind itself where it is not given."""
        self._write(level, message or kind, fields, {"exc_info": exc_info} if exc_info else {}, kind)

    def _write(
        self,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None,
        more: dict[str, Any],
        kind: str | None = None,
    ) -> None:
        captured, logger = self._captured, _logger(self._step)
        is_shown = logger.isEnabledFor(level)
        if not is_shown and (captured is None or level < captured.level):
            return
        exc_info = more.pop("exc_info", None)
        own = fields if isinstance(fields, Mapping) else {} if fields is None else {"value": fields}
        told = {**own, **more}
        if captured is not None and level >= captured.level:
            captured.add(level, str(message), told)
        if not is_shown:
            return
        context = {"step": self._step, "attempt": self._attempt, "trace_id": self._trace_id()}
        extra = {"context": context, "fields": told, "kind": kind}
        logger.log(level, "%s", message, extra=extra, exc_info=exc_info, stacklevel=3)


class _Formatter(logging.Formatter):
    def __init__(self, redact: Iterable[str] = ()) -> None:
        super().__init__()
        self._redaction = Redaction(redact)

    def _parts(self, record: logging.LogRecord) -> tuple[str, str]:
        """The message; and what stands below it: the traceback, or the further lines of one that the engine
        wrote in several (stacks)."""
        message, below = record.getMessage(), getattr(record, "below", "")
        if "\n" in str(record.msg) and record.name.startswith("iii."):
            message, _, below = message.partition("\n")
        if record.exc_info:
            return self._redaction.text(message), self._redaction.traceback(
                self.formatException(record.exc_info)
            )
        return self._redaction.text(message), self._redaction.text(below) if below else ""


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, logger, message, step, trace, the fields, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        message, below = self._parts(record)
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            **getattr(record, "context", {}),
        }
        if fields := getattr(record, "fields", None):
            line["fields"] = self._redaction.fields(fields)
        if below:
            line["error"] = below
        return printable_json(to_json(line).decode())


class TextFormatter(_Formatter):
    """A line for people (lines.py), its traceback below."""

    def __init__(self, redact: Iterable[str] = (), *, colour: bool = False) -> None:
        super().__init__(redact)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        message, below = self._parts(record)
        context = getattr(record, "context", {})
        fields = getattr(record, "fields", None)
        line = line_of(
            datetime.fromtimestamp(record.created),
            record.levelname.lower(),
            context.get("step") or record.name,
            context.get("attempt", 1),
            message,
            self._redaction.fields(fields) if fields else {},
        )
        if self._colour and record.levelname in _COLOURS:
            line = f"{_COLOURS[record.levelname]}{line}{_PLAIN}"
        return f"{line}\n{traceback_of(below)}" if below else line


def configure(
    level: str,
    format: str,
    redact: Iterable[str],
    stream: TextIO | None = None,
    *,
    colour: bool | None = None,
    file: logging.Handler | None = None,
) -> Floods:
    """Send everything below `iii` to `stream` (stderr). format: text, json, or auto (text on a terminal).

    colour: None = where `stream` is a terminal. file: takes everything too, as JSON (log_file.py)."""
    out = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(out)
    if chosen(format, out) == "json":
        handler.setFormatter(JsonFormatter(redact))
    else:
        handler.setFormatter(TextFormatter(redact, colour=out.isatty() if colour is None else colour))
    if file is not None:
        file.setFormatter(JsonFormatter(redact))
    floods = Floods([handler] if file is None else [handler, file])
    log.handlers[:] = [floods]
    log.setLevel(level.upper())
    log.propagate = False
    return floods


def chosen(format: str, out: TextIO) -> Literal["text", "json"]:
    """What `auto` means on `out`."""
    return "json" if format == "json" or (format == "auto" and not out.isatty()) else "text"


@lru_cache(maxsize=1024)
def _logger(step: str) -> logging.Logger:
    """Asking logging itself takes a lock."""
    return logging.getLogger(f"iii.step.{step}")


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
