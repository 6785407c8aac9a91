"""What a log call was given, taken apart: the text with its arguments, the fields, the error. Never raises.

    arguments    as the logging module has them: `"sent %s to %s", kind, name`
    one mapping  is fields; where the text has `%(name)s` it is what the text takes from
    what fits    no format stands in the text as it is, its arguments in the field "args"

Both for `ctx.logger` (step_logger.py) and for records of any logger, whose formatter raises for none of them.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

__all__ = [
    "ExcInfo",
    "Hide",
    "error_of",
    "extras_of",
    "said",
    "sorted_out",
    "text_of",
    "told_of",
    "values_of",
]

ExcInfo: TypeAlias = "BaseException | bool | tuple[Any, Any, Any] | None"
Hide: TypeAlias = Callable[[Mapping[Any, Any]], Mapping[Any, Any]]

FORMAT_CHARS_MAX = 4_096
"""A longer text is no format: it was made of what somebody sent."""
_WIDE = re.compile(r"%(?:\([^()%]*\))?[-+ #.0-9]*[0-9]{4}")
"""`%99999999d` would fill the memory, and the text may be a client's."""
_SHOWS_WHOLE = re.compile(r"%[sra]")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def sorted_out(
    text: str, args: tuple[object, ...], extra: object, fields: dict[str, Any]
) -> tuple[tuple[object, ...], dict[Any, Any]]:
    """The arguments that `text` takes, and all fields of the line: later ones win."""
    told: dict[Any, Any] = {}
    if extra is not None:
        told |= _fields(extra, "extra")
    if len(args) == 1 and "%(" not in text:
        if isinstance(args[0], Mapping):
            told |= _fields(args[0], "value")
            args = args if _SHOWS_WHOLE.search(text) and _formatted(text, args) is not None else ()
        elif args[0] is None and "%" not in text:
            args = ()
    if args and _formatted(text, args) is None:
        told["args"], args = list(args), ()
    return args, told | fields if told else fields


def text_of(message: object) -> str:
    """`message` as a text."""
    try:
        return str(message)
    except Exception as error:
        return f"({type(message).__name__}: its text fails with {type(error).__name__})"


def values_of(args: Any) -> Any:
    """The arguments as a LogRecord has them: one mapping is what the text takes from."""
    if isinstance(args, tuple) and len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
        return args[0]
    return args


def said(text: object, args: object, hide: Hide | None = None) -> str:
    """The whole message. hide: takes the secrets out of a mapping that the text takes from."""
    text = text_of(text)
    if not args:
        return text
    formatted = _formatted(text, _hidden(args, hide))
    return text if formatted is None else formatted


def told_of(record: logging.LogRecord, hide: Hide | None = None) -> tuple[str, Mapping[Any, Any]]:
    """The message of a record and its fields: those of a step's line, or what `extra` gave any other."""
    fields = vars(record).get("iii_fields")
    if not isinstance(fields, Mapping):
        fields = extras_of(record)
    text = text_of(record.msg)
    if not record.args:
        return text, fields
    formatted = _formatted(text, _hidden(record.args, hide))
    if formatted is not None:
        return formatted, fields
    left = list(record.args) if isinstance(record.args, tuple) else [record.args]
    return text, {**fields, "args": left}


def extras_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a call of the logging module gave as `extra`."""
    own = vars(record)
    if len(own) <= len(_STANDARD) and own.keys() <= _STANDARD:
        return {}
    return {n: v for n, v in own.items() if n not in _STANDARD and not str(n).startswith("iii_")}


def error_of(exc_info: object) -> BaseException | None:
    """What `exc_info` means: an error, one in the three of sys.exc_info(), or True: the one being handled."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if not exc_info:
        return None
    if isinstance(exc_info, tuple):
        return next((each for each in exc_info if isinstance(each, BaseException)), None)
    return sys.exc_info()[1]


def _hidden(args: Any, hide: Hide | None) -> Any:
    if hide is None or not isinstance(args, Mapping):
        return args
    try:
        return hide(args)
    except Exception:  # a mapping that cannot be read
        return {}


def _formatted(text: str, args: object) -> str | None:
    """None where the format and its arguments do not fit, or it is none."""
    if len(text) > FORMAT_CHARS_MAX or _WIDE.search(text):
        return None
    try:
        return str(text % values_of(args))
    except Exception:  # also what the text of an argument raises
        return None


def _fields(given: object, name: str) -> dict[Any, Any]:
    """`given` where it is a mapping; else the field `name` with it."""
    try:
        return dict(given) if isinstance(given, Mapping) else {name: given}
    except Exception:
        return {name: text_of(given)}
