"""Logs on the standard library: text on a terminal, one JSON object a line otherwise.

`configure` and `take_root` are called by whoever owns the process (the command line), never by the engine: an
application that embeds it keeps its own logging (hosting.py). A record of ours carries `iii_fields`,
`iii_below` (a text of several lines) and what step_logger.py tells of its run. No secret leaves
(redaction.py), nothing forges a line (lines.py), and no flood drowns the rest (floods.py).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from iii.formats.printable import printable_json
from iii.observe.floods import STEPS, Floods, ForOthers, is_own
from iii.observe.lines import line_of, traceback_of
from iii.observe.messages import told_of
from iii.observe.redaction import Redaction, to_json

__all__ = ["JsonFormatter", "TextFormatter", "chosen", "configure", "floods_of", "log", "retake", "take_root"]

log = logging.getLogger("iii")
"""The engine's own logger; handlers log below it, as iii.step.<name>."""

_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}
_PLAIN = "\x1b[0m"
_format_exception = logging.Formatter().formatException
_ORIGIN = ("iii_step", "iii_attempt", "iii_trace_id")


class _Formatter(logging.Formatter):
    def __init__(self, redact: Iterable[str] = ()) -> None:
        super().__init__()
        self._redaction = Redaction(redact)

    def _parts(self, record: logging.LogRecord) -> tuple[str, dict[Any, Any], str]:
        """The message; its fields; and what stands below it: the traceback, or the further lines of one that
        the engine wrote in several (stacks)."""
        message, fields = told_of(record, self._redaction.shallow)
        below = vars(record).get("iii_below", "")
        if is_own(record) and not record.name.startswith(STEPS) and "\n" in str(record.msg):
            message, _, below = message.partition("\n")
        if record.exc_info or record.stack_info:
            below = self._redaction.traceback(_stacks(record))
        elif below:
            below = self._redaction.text(below)
        return self._redaction.text(message), self._redaction.fields(fields) if fields else {}, below


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, logger, message, step, trace, the fields, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields, below = self._parts(record)
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        own = vars(record)
        for name in _ORIGIN:
            if name in own:
                line[name[4:]] = own[name]
        if fields:
            line["fields"] = fields
        if below:
            line["error"] = below
        return printable_json(to_json(line).decode())


class TextFormatter(_Formatter):
    """A line for people (lines.py), its traceback below."""

    def __init__(self, redact: Iterable[str] = (), *, colour: bool = False) -> None:
        super().__init__(redact)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        message, fields, below = self._parts(record)
        own = vars(record)
        line = line_of(
            datetime.fromtimestamp(record.created),
            record.levelname.lower(),
            own.get("iii_step") or record.name,
            own.get("iii_attempt", 1),
            message,
            fields,
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
    """Send everything below `iii` to `stream`; see floods_of."""
    floods = floods_of(format, redact, stream, colour=colour, file=file)
    _take_own(floods, level)
    return floods


def floods_of(
    format: str,
    redact: Iterable[str],
    stream: TextIO | None = None,
    *,
    colour: bool | None = None,
    file: logging.Handler | None = None,
) -> Floods:
    """What writes lines to `stream` (stderr). format: text, json, or auto (text on a terminal).

    colour: None = where `stream` is a terminal. file: takes everything too, as JSON (log_file.py)."""
    out = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(out)
    if chosen(format, out) == "json":
        handler.setFormatter(JsonFormatter(redact))
    else:
        handler.setFormatter(TextFormatter(redact, colour=out.isatty() if colour is None else colour))
    if file is not None:
        file.setFormatter(JsonFormatter(redact))
    return Floods([handler] if file is None else [handler, file])


def take_root(floods: Floods, level: str) -> None:
    """Send what all other loggers say the same way, in a process that is the engine's. What a step set up on
    the root logger stays."""
    root = logging.getLogger()
    logging.lastResort = ForOthers(floods)
    if not root.handlers:
        root.addHandler(logging.lastResort)
        root.setLevel(level.upper())


def retake(floods: Floods, level: str) -> bool:
    """After code of others ran: what it set up for itself stays, but the engine's loggers are not its to
    silence (`logging.config` disables each that it does not know). Whether something was amiss."""
    own = [
        each for name, each in list(logging.root.manager.loggerDict.items()) if f"{name}.".startswith("iii.")
    ]
    silenced = [each for each in own if isinstance(each, logging.Logger) and each.disabled]
    for each in silenced:
        each.disabled = False
    amiss = bool(silenced) or log.handlers != [floods] or log.propagate or not logging.root.handlers
    if amiss:
        _take_own(floods, level)
        take_root(floods, level)
    return amiss


def _take_own(floods: Floods, level: str) -> None:
    log.handlers[:] = [floods]
    log.setLevel(level.upper())
    log.propagate = False


def chosen(format: str, out: TextIO) -> Literal["text", "json"]:
    """What `auto` means on `out`."""
    return "json" if format == "json" or (format == "auto" and not out.isatty()) else "text"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _stacks(record: logging.LogRecord) -> str:
    """Of the error, and of the call where that asked for it. `exc_info` may hold anything."""
    told = [record.stack_info or ""]
    if isinstance(record.exc_info, tuple) and isinstance(error := record.exc_info[1], BaseException):
        try:
            told.insert(0, _format_exception((type(error), error, record.exc_info[2])))
        except Exception as broken:
            told.insert(0, f"(the traceback cannot be told: {type(broken).__name__})")
    return "\n".join(each.rstrip("\n") for each in told if each)
