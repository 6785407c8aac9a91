"""What a run did, gathered while it runs: the lines it logs, the keys it writes, the messages it sends.

Owns the bounds. Nothing is encoded here until the record is made, which most runs never need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import orjson

from iii.model import Delete, Enqueue, Merge, Op, Put
from iii.observe.messages import said, told_of
from iii.observe.redaction import Redaction
from iii.observe.runs import ChangedKey, LogEntry, SentMessage

__all__ = ["CapturedLines", "Fields", "NamedEffects", "told_traceback"]

Fields: TypeAlias = "Mapping[Any, Any] | logging.LogRecord"

LINES_MAX = 100
LINE_CHARS_MAX = 2_000
LOG_BYTES_MAX = 12 << 10
EFFECTS_MAX = 50
NAMES_BYTES_MAX = 4 << 10
TRACEBACK_CHARS_MAX = 6_000

_OPS: dict[type, Literal["set", "update", "delete"]] = {Put: "set", Merge: "update", Delete: "delete"}


class CapturedLines:
    """The first LINES_MAX lines of one run, of `level` and above; `count`: and those after. Any thread."""

    __slots__ = ("_lines", "_wall_ms", "count", "level")

    def __init__(self, wall_ms: Callable[[], int], level: int) -> None:
        self._wall_ms, self.level = wall_ms, level
        self._lines: list[tuple[int, int, str, Fields, Mapping[Any, Any] | None]] = []
        self.count = 0

    def add(self, level: int, text: str, fields: Fields, values: Mapping[Any, Any] | None = None) -> None:
        """fields: or the record that is given them later. values: what `text` takes from by their names."""
        self.count += 1
        if self.count <= LINES_MAX:
            self._lines.append((self._wall_ms(), level, text, fields, values))

    def entries(self, redaction: Redaction) -> tuple[LogEntry, ...]:
        """The lines that fit into LOG_BYTES_MAX, without what is not to be seen."""
        found: list[LogEntry] = []
        left = LOG_BYTES_MAX
        for at_ms, level, text, fields, values in self._lines:
            message = said(text, values, redaction.shallow)
            message = redaction.text(_plain(message))[:LINE_CHARS_MAX]
            if isinstance(fields, logging.LogRecord):
                fields = told_of(fields)[1]
            encoded = redaction.json(fields) if fields else b""
            if len(encoded) > LINE_CHARS_MAX:
                encoded = orjson.dumps({"left out": f"fields of {len(encoded)} bytes"})
            left -= len(message) + len(encoded) + 60
            if left < 0:
                break
            name = logging.getLevelName(level).lower()
            found.append(LogEntry(at_ms, name, message, orjson.loads(encoded) if encoded else {}))
        return tuple(found)


class NamedEffects:
    """The keys that were written and the messages that were sent, by name."""

    __slots__ = ("_changes", "_left_bytes", "_sent", "changes_left_out", "sent_left_out")

    def __init__(self) -> None:
        self._changes: dict[tuple[str, str], ChangedKey] = {}
        self._sent: list[SentMessage] = []
        self._left_bytes = NAMES_BYTES_MAX
        self.changes_left_out = self.sent_left_out = 0

    @property
    def changes(self) -> tuple[ChangedKey, ...]:
        return tuple(self._changes.values())

    @property
    def sent(self) -> tuple[SentMessage, ...]:
        return tuple(self._sent)

    def note(self, ops: Iterable[Op]) -> None:
        for op in ops:
            if isinstance(op, Put | Merge | Delete):
                self._note_change(op)
            elif isinstance(op, Enqueue):
                if len(self._sent) < EFFECTS_MAX:
                    self._sent.append(SentMessage(op.topic, len(op.payload), op.delay_ms))
                else:
                    self.sent_left_out += 1

    def _note_change(self, op: Put | Merge | Delete) -> None:
        at = op.namespace, op.key
        if at not in self._changes:
            size = len(op.namespace) + len(op.key)
            if len(self._changes) >= EFFECTS_MAX or size > self._left_bytes:
                self.changes_left_out += 1
                return
            self._left_bytes -= size
        self._changes[at] = ChangedKey(op.namespace, op.key, _OPS[type(op)])


def told_traceback(error: BaseException) -> str:
    """The traceback as text; of a long one the first lines and, above all, the last."""
    import traceback

    try:
        text = "".join(traceback.format_exception(error))
    except Exception as broken:  # an error's own __str__ may raise
        text = f"(the traceback cannot be told: {type(broken).__name__})"
    text = _plain(text)
    if len(text) > TRACEBACK_CHARS_MAX:
        text = f"{text[:1_000]}\n  ...\n{text[1_000 - TRACEBACK_CHARS_MAX :]}"
    return text


def _plain(text: str) -> str:
    return text.encode(errors="replace").decode()
