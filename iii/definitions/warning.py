"""What may be meant and is probably a mistake: it is told at start and by `iii check`, and stops nothing."""

from __future__ import annotations

import logging

__all__ = ["SetupWarning", "log_warning"]

log = logging.getLogger("iii.steps")


class SetupWarning:
    """`file` and `field` say where, the message what is in doubt and what to do; as of a StepError."""

    def __init__(self, message: str, *, file: str = "", field: str = "") -> None:
        self.message, self.file, self.field = message, file, field

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.field, self.message) if part)


def log_warning(warning: SetupWarning) -> None:
    log.warning("%s", warning)
