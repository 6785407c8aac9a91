"""`ctx.logger`: the calls of the logging module, with fields as keywords, for the lines of one run.

A call never raises, whatever it is given, and costs nothing where its level is not wanted. Owns what a line
of a step carries: `iii_step`, `iii_attempt`, `iii_trace_id`, `iii_fields` and, for lines of the engine's own,
`iii_kind` (floods.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from iii.observe.capture import CapturedLines, Fields
from iii.observe.messages import ExcInfo, error_of, said, sorted_out, text_of, values_of

__all__ = ["LogCalls", "StepLogger"]


class LogCalls:
    """A message, its `%s` arguments, and fields: keywords, or one mapping. `extra` is fields too."""

    __slots__ = ()

    def debug(
        self,
        message: object,
        /,
        *args: object,
        exc_info: ExcInfo = None,
        extra: Mapping[str, Any] | None = None,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        self._write(logging.DEBUG, message, args, fields, exc_info, extra, stacklevel)

    def info(
        self,
        message: object,
        /,
        *args: object,
        exc_info: ExcInfo = None,
        extra: Mapping[str, Any] | None = None,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        self._write(logging.INFO, message, args, fields, exc_info, extra, stacklevel)

    def warning(
        self,
        message: object,
        /,
        *args: object,
        exc_info: ExcInfo = None,
        extra: Mapping[str, Any] | None = None,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        self._write(logging.WARNING, message, args, fields, exc_info, extra, stacklevel)

    warn = warning

    def error(
        self,
        message: object,
        /,
        *args: object,
        exc_info: ExcInfo = None,
        extra: Mapping[str, Any] | None = None,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        self._write(logging.ERROR, message, args, fields, exc_info, extra, stacklevel)

    def exception(
        self,
        message: object,
        /,
        *args: object,
        exc_info: ExcInfo = True,
        extra: Mapping[str, Any] | None = None,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        """As `error`, with the traceback of the exception being handled."""
        self._write(logging.ERROR, message, args, fields, exc_info, extra, stacklevel)

    def critical(
        self,
        message: object,
        /,
        *args: object,
        exc_info: ExcInfo = None,
        extra: Mapping[str, Any] | None = None,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        self._write(logging.CRITICAL, message, args, fields, exc_info, extra, stacklevel)

    if TYPE_CHECKING:  # whose calls these are

        def _write(
            self,
            level: int,
            message: object,
            args: tuple[object, ...],
            fields: dict[str, Any],
            exc_info: object,
            extra: object,
            stacklevel: int,
        ) -> None: ...


class StepLogger(LogCalls, Struct, frozen=True, eq=False):
    """trace_id: tells it; asked when the first line is shown. captured: takes each line too, for the run's
    record."""

    _step: str
    _attempt: int
    _trace_id: Callable[[], str]
    _captured: CapturedLines | None = None

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
        self._write(level, message or kind, (), dict(fields or {}), exc_info, None, 1, kind)

    def record(self, level: int, text: object, args: Any, fields: Fields) -> None:
        """Have the run's record tell a line."""
        captured = self._captured
        if captured is not None and level >= captured.level:
            if isinstance(args, Mapping):
                captured.add(level, text_of(text), fields, dict(args))
            else:
                captured.add(level, said(text, args), fields)

    def origin(self) -> dict[str, Any]:
        """What a record of this run carries."""
        return {"iii_step": self._step, "iii_attempt": self._attempt, "iii_trace_id": self._trace_id()}

    def _write(
        self,
        level: int,
        message: object,
        args: tuple[object, ...],
        fields: dict[str, Any],
        exc_info: object,
        extra: object,
        stacklevel: int,
        kind: str | None = None,
        above: int = 0,
    ) -> None:
        """above: how many calls lie between the one of the logger and this."""
        captured, logger = self._captured, _logger(self._step)
        is_shown = logger.isEnabledFor(level)
        if not is_shown and (captured is None or level < captured.level):
            return
        text, told = text_of(message), fields
        if args or extra is not None:
            args, told = sorted_out(text, args, extra, fields)
        if captured is not None:
            self.record(level, text, values_of(args), told)
        if not is_shown:
            return
        carried = self.origin()
        carried["iii_fields"], carried["iii_kind"] = told, kind
        if isinstance(stacklevel, int):
            above += stacklevel - 1
        error = error_of(exc_info) if exc_info else None
        logger.log(level, text, *args, extra=carried, exc_info=error, stacklevel=3 + above)


@lru_cache(maxsize=1024)
def _logger(step: str) -> logging.Logger:
    """Asking logging itself takes a lock."""
    return logging.getLogger(f"iii.step.{step}")
