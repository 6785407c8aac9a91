"""Logs on the standard library: text on a terminal, one JSON object a line otherwise.

`configure` is called by whoever owns the process (the command line), never by the engine: an application that
embeds it keeps its own logging. Every record may carry `fields`; the values of redacted names never leave.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

__all__ = ["JsonFormatter", "StepLogger", "TextFormatter", "configure", "log"]

log = logging.getLogger("iii")
"""The engine's own logger; handlers log below it, as iii.step.<name>."""

HIDDEN = "[redacted]"
DEPTH_MAX = 8
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}
_PLAIN = "\x1b[0m"


class StepLogger:
    """`ctx.logger`: a message and its fields, as a mapping or as keywords. Costs nothing when not wanted."""

    __slots__ = ("_context", "_log")

    def __init__(self, step: str, attempt: int, trace_id: str) -> None:
        self._log = logging.getLogger(f"iii.step.{step}")
        self._context = {"step": step, "attempt": attempt, "trace_id": trace_id}

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

    def _write(
        self, level: int, message: str, fields: Mapping[str, Any] | None, more: dict[str, Any]
    ) -> None:
        if not self._log.isEnabledFor(level):
            return
        exc_info = more.pop("exc_info", None)
        own = fields if isinstance(fields, Mapping) else {} if fields is None else {"value": fields}
        extra = {"context": self._context, "fields": {**own, **more}}
        self._log.log(level, "%s", message, extra=extra, exc_info=exc_info, stacklevel=3)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, step, trace, the fields, the traceback."""

    def __init__(self, redact: Iterable[str] = ()) -> None:
        super().__init__()
        self._hidden = _folded(redact)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "context", {}),
        }
        if fields := getattr(record, "fields", None):
            line["fields"] = _redacted(fields, self._hidden)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _json(line)


class TextFormatter(logging.Formatter):
    """A line for people: `12:00:01.250 info  SendMessage  Received message  messageId=msg-1`."""

    def __init__(self, redact: Iterable[str] = (), *, colour: bool = False) -> None:
        super().__init__()
        self._hidden, self._colour = _folded(redact), colour

    def format(self, record: logging.LogRecord) -> str:
        context = getattr(record, "context", {})
        fields = _redacted(getattr(record, "fields", None) or {}, self._hidden)
        who = context.get("step") or record.name
        if context.get("attempt", 1) > 1:
            who += f" (attempt {context['attempt']})"
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        told = "".join(f"  {name}={_text(value)}" for name, value in fields.items())
        line = f"{at} {record.levelname.lower():<7} {who}  {record.getMessage()}{told}"
        if self._colour and record.levelname in _COLOURS:
            line = f"{_COLOURS[record.levelname]}{line}{_PLAIN}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str, format: str, redact: Iterable[str], stream: TextIO | None = None) -> None:
    """Send everything below `iii` to `stream` (stderr). format: text, json, or auto (text on a terminal)."""
    out = stream if stream is not None else sys.stderr
    terminal = out.isatty()
    handler = logging.StreamHandler(out)
    if format == "json" or (format == "auto" and not terminal):
        handler.setFormatter(JsonFormatter(redact))
    else:
        handler.setFormatter(TextFormatter(redact, colour=terminal))
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_fold, names))


def _fold(name: object) -> str:
    return str(name).lower().replace("_", "").replace("-", "")


def _redacted(value: Any, hidden: frozenset[str], depth: int = 0) -> Any:
    """`value` with what lies under a hidden name replaced, at any level; apiKey and api_key are one name."""
    if depth == DEPTH_MAX:
        return "..."
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if _fold(key) in hidden else _redacted(item, hidden, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(item, hidden, depth + 1) for item in value]
    return value


def _text(value: Any) -> str:
    if isinstance(value, str) and value and not any(c.isspace() or c in '"=' for c in value):
        return value
    return _json(value)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, repr, orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer over 64 bits, a surrogate, nested too deeply: a log line never fails
        return orjson.dumps(_told(value)).decode()


def _told(value: Any) -> Any:
    """`value` with everything as text that JSON might not take."""
    if isinstance(value, Mapping):
        return {_text_of(key): _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return value if value is None or isinstance(value, bool | float) else _text_of(value)


def _text_of(value: Any) -> str:
    return (value if isinstance(value, str) else repr(value)).encode(errors="replace").decode()
