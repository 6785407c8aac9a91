"""iii: background workers on one durable store. HTTP, queues, cron and state triggers start your steps.

    from iii import StepConfig, http, queue, cron, state

Public names are loaded when first used, so that `import iii` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iii.config import Config
    from iii.engine import Engine
    from iii.errors import (
        BadMerge,
        BadName,
        ConfigError,
        Conflict,
        HandlerEnded,
        IIIError,
        InputError,
        LeaseLost,
        QueueFull,
        StepError,
        StoreError,
        StoreFull,
        TooLarge,
        UndeclaredTopic,
        ValidationError,
    )
    from iii.handling.ambient import enqueue, logger, state
    from iii.handling.blocking import BlockingContext
    from iii.handling.context import Context
    from iii.handling.draft import StateEntry
    from iii.handling.inputs import CronTick, StateChange
    from iii.step import SSE, Cancel, Raw, Response, Snooze, StepConfig, cron, http, queue
    from iii.web.request import Request

__version__ = "0.1.0"

__all__ = [
    "SSE",
    "BadMerge",
    "BadName",
    "BlockingContext",
    "Cancel",
    "Config",
    "ConfigError",
    "Conflict",
    "Context",
    "CronTick",
    "Engine",
    "HandlerEnded",
    "IIIError",
    "InputError",
    "LeaseLost",
    "QueueFull",
    "Raw",
    "Request",
    "Response",
    "Snooze",
    "StateChange",
    "StateEntry",
    "StepConfig",
    "StepError",
    "StoreError",
    "StoreFull",
    "TooLarge",
    "UndeclaredTopic",
    "ValidationError",
    "__version__",
    "cron",
    "enqueue",
    "http",
    "logger",
    "queue",
    "state",
]

_HOMES = {
    "iii.handling.ambient": ("enqueue", "logger", "state"),
    "iii.handling.blocking": ("BlockingContext",),
    "iii.config": ("Config",),
    "iii.handling.context": ("Context",),
    "iii.handling.draft": ("StateEntry",),
    "iii.engine": ("Engine",),
    "iii.errors": (
        *("BadMerge", "BadName", "ConfigError", "Conflict", "HandlerEnded", "IIIError", "InputError"),
        *("LeaseLost", "QueueFull", "StepError", "StoreError", "StoreFull", "TooLarge", "UndeclaredTopic"),
        "ValidationError",
    ),
    "iii.handling.inputs": ("CronTick", "StateChange"),
    "iii.step": ("SSE", "Cancel", "Raw", "Response", "Snooze", "StepConfig", "cron", "http", "queue"),
    "iii.web.request": ("Request",),
}
_home = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _home:
        raise AttributeError(f"module 'iii' has no attribute {name!r}")
    value = getattr(import_module(_home[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
