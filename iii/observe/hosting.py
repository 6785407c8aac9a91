"""The log of an engine that is embedded: the host's, where it set one up; else the engine's own.

    the root logger has handlers    they get all lines: the engine adds, changes and removes none
    it has none, nor has `iii`      what the engine says, and what is logged while a handler runs, is written
                                    as `iii run` would, at the configured level, by a last resort: handlers
                                    that the host adds later take its place, and no line is written twice
    what else the host logs         goes where it went, in either case

Owns what it changes of the logging module, and puts it back.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from iii.config import Config
from iii.observe.floods import is_own
from iii.observe.log_file import log_file_of
from iii.observe.logs import floods_of, log

__all__ = ["hosted"]


@contextmanager
def hosted(config: Config) -> Iterator[None]:
    """While an engine runs. Engines that run at once share the log of the first of them."""
    root, before = logging.getLogger(), logging.lastResort
    if root.handlers or log.handlers or before is None or sys.stderr is None:
        yield
        return
    if isinstance(before, _LastResort):
        own = before
    else:
        own = logging.lastResort = _LastResort(config, before)
    own.users += 1
    try:
        yield
    finally:
        own.users -= 1
        if not own.users:
            own.give_back()


class _LastResort(logging.Handler):
    """`logging.lastResort`: asked for records that no handler took."""

    def __init__(self, config: Config, before: logging.Handler) -> None:
        super().__init__()
        self.users, self._before = 0, before
        self._file = log_file_of(config)
        self._floods = floods_of(config.log.format, config.log.redact, file=self._file)
        self._level = config.log.threshold
        self._lowered = [each for each in (log, *_quiet_root(self._level)) if _lower(each, self._level)]

    def handle(self, record: logging.LogRecord) -> bool:
        if is_own(record) or "iii_step" in vars(record):
            return self._floods.handle(record)
        if record.levelno >= self._before.level:
            self._before.handle(record)
        return True

    def give_back(self) -> None:
        for logger in self._lowered:
            if logger.level == self._level and not logger.handlers:  # else the host set it up meanwhile
                logger.setLevel(logging.WARNING if logger is logging.root else logging.NOTSET)
        if logging.lastResort is self:
            logging.lastResort = self._before
        self._floods.close()
        if self._file is not None:
            self._file.close()


def _lower(logger: logging.Logger, level: int) -> bool:
    """Whether its level was nobody's choice, and is `level` now."""
    if logger.level != (logging.WARNING if logger is logging.root else logging.NOTSET):
        return False
    logger.setLevel(level)
    return True


def _quiet_root(level: int) -> list[logging.Logger]:
    """The root logger, unless a logger of the host's that has handlers would write more by its level."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] != "iii":
            writes = any(not isinstance(each, logging.NullHandler) for each in logger.handlers)
            if writes and level < logging.WARNING and _level_from_root(logger):
                return []
    return [logging.root]


def _level_from_root(logger: logging.Logger) -> bool:
    at: logging.Logger | None = logger
    while at is not None and at is not logging.root:
        if at.level:
            return False
        at = at.parent
    return True
