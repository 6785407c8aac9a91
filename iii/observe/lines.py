"""A line of the log as people read it: `12:00:01.250 info    SendMessage  Received message  messageId=msg-1`.

One shape for the log as it is written and for `iii logs`. What it shows is escaped: whatever a message, a
field or a traceback holds, a line of the log begins where the engine began one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from iii.formats.printable import indented, printable, printable_json
from iii.observe.redaction import to_json

__all__ = ["line_of", "traceback_of"]


def line_of(
    at: datetime | None, level: str, who: str, attempt: int, message: str, fields: Mapping[str, Any]
) -> str:
    """Without its traceback. `at`: local time, where it is known; `who`: the step, or the logger."""
    again = f" (attempt {attempt})" if attempt > 1 else ""
    told = "".join(f"  {printable(str(name))}={_text(value)}" for name, value in fields.items())
    clock = at.strftime("%H:%M:%S.%f")[:-3] if at is not None else ""
    return f"{clock} {level:<7} {printable(who)}{again}  {printable(message)}{told}"


def traceback_of(text: str) -> str:
    """What stands below such a line."""
    return indented(text)


def _text(value: Any) -> str:
    """JSON, but for a text of one word."""
    if isinstance(value, str) and value and value.isprintable() and not any(c in value for c in ' "='):
        return value
    return printable_json(to_json(value).decode())
