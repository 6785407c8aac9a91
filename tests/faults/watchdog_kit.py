"""What the watchdog tells, for tests to wait for."""

from __future__ import annotations

import logging
import threading

__all__ = ["Told"]


class Told(logging.Handler):
    """What the watchdog says; `blocked` is set with its first warning, `critical` when it gives the loop up,
    both from its thread."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked, self.critical = threading.Event(), threading.Event()
        self.records = list[logging.LogRecord]()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.levelno == logging.WARNING:
            self.blocked.set()
        if record.levelno == logging.CRITICAL:
            self.critical.set()

    @property
    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno == logging.WARNING]
