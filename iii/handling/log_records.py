"""What the standard library's loggers say while a handler runs: with its step, attempt and trace id.

Each record gets `iii_step`, `iii_attempt` and `iii_trace_id`, whoever writes it, in whatever format, and is
a line of the run's record. Owns the factory of log records while an engine runs: it adds to what the one
before it makes. A run is told by the context variables, which the tasks that a handler starts inherit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from iii.config import Config
from iii.handling.ambient import running
from iii.handling.context import Context
from iii.observe.floods import is_own
from iii.observe.hosting import hosted

__all__ = ["logging_of"]


@contextmanager
def logging_of(config: Config) -> Iterator[None]:
    """While an engine runs, in whatever process."""
    before = logging.getLogRecordFactory()
    own = before if isinstance(before, _RunRecords) else _RunRecords(before)
    logging.setLogRecordFactory(own)
    own.users += 1
    try:
        with hosted(config):
            yield
    finally:
        own.users -= 1
        if not own.users and logging.getLogRecordFactory() is own:
            logging.setLogRecordFactory(own.before)


class _RunRecords:
    """A factory of log records that adds to those of `before`. users: the engines that run."""

    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self.before, self.users = before, 0

    def __call__(self, *args: Any, **named: Any) -> logging.LogRecord:
        record = self.before(*args, **named)
        ctx = running.get(None)
        if ctx is not None and not is_own(record) and "iii_step" not in vars(record):
            _tell(record, ctx)
        return record


def _tell(record: logging.LogRecord, ctx: Context) -> None:
    logger = ctx.logger
    vars(record).update(logger.origin())
    logger.record(record.levelno, record.msg, record.args, record)
