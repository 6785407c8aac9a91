"""What a step is: its triggers, its handler, what a handler may return, and the words users write it with.

Helpers (`http`, `queue`, `cron`, `state_trigger`) return plain dicts, the same a user may write by hand;
step_config.py turns a user's config into a `Step` and checks everything. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct
from msgspec.structs import force_setattr

from iii.config import QueueConfig
from iii.errors import StepError
from iii.formats.units import duration_ms
from iii.model import Lane
from iii.schema import Validator

__all__ = [
    "METHODS",
    "SSE",
    "Cancel",
    "CronTrigger",
    "Fire",
    "HttpTrigger",
    "Missed",
    "OnError",
    "Overlap",
    "QueueTrigger",
    "Raw",
    "Response",
    "Schemas",
    "Snooze",
    "StateTrigger",
    "Step",
    "StepConfig",
    "Trigger",
    "TriggerConfig",
    "cron",
    "http",
    "queue",
    "state_trigger",
]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

Callback: TypeAlias = Callable[..., Any]
Missed: TypeAlias = Literal["last", "skip", "all"]
Overlap: TypeAlias = Literal["queue", "skip"]
Fire: TypeAlias = Literal["enter", "every"]
OnError: TypeAlias = Literal["keep", "keep_all", "discard"]
TriggerConfig: TypeAlias = dict[str, Any]


# ---------------------------------------------------------------------------------- what starts a step


class HttpTrigger(Struct, frozen=True):
    """A route. `path` has its parameters as {name}; `shape` is the path without their names."""

    method: str
    path: str
    body_schema: object = None
    response_schema: object = None
    query_params: object = None
    middleware: tuple[Callback, ...] = ()
    condition: Callback | None = None

    @property
    def shape(self) -> tuple[str, str]:
        """Equal for two triggers exactly when they claim the same requests."""
        segments = ("{}" if part.startswith("{") else part for part in self.path.split("/"))
        return self.method, "/".join(segments)


class QueueTrigger(Struct, frozen=True):
    topic: str
    input: object = None
    config: QueueConfig | None = None
    condition: Callback | None = None


class CronTrigger(Struct, frozen=True):
    """`missed`: what happens to ticks nobody was there for; `overlap`: to one while the last still runs."""

    expression: str
    timezone: str = "UTC"
    missed: Missed = "last"
    overlap: Overlap = "queue"
    condition: Callback | None = None


class StateTrigger(Struct, frozen=True):
    """namespace None = every namespace; filter None = every change. `fire`: see filters.py."""

    namespace: str | None = None
    filter: dict[str, Any] | None = None
    fire: Fire = "enter"
    condition: Callback | None = None


Trigger: TypeAlias = HttpTrigger | QueueTrigger | CronTrigger | StateTrigger


class Schemas(Struct, frozen=True):
    """The compiled schemas of one trigger; None = anything goes. `responses`: by status."""

    body: Validator | None = None
    query: Validator | None = None
    input: Validator | None = None
    responses: dict[int, Validator] = {}


class Step(Struct, frozen=True):
    """A checked step. `schemas` runs parallel to `triggers`; `arity`: positional arguments of the handler."""

    name: str
    triggers: tuple[Trigger, ...]
    handler: Callback
    is_async: bool
    arity: int
    file: str
    schemas: tuple[Schemas, ...]
    description: str = ""
    enqueues: frozenset[str] | None = None  # None = any topic
    flows: tuple[str, ...] = ()
    on_error: OnError = "keep"

    def lanes(self) -> list[tuple[Lane, int]]:
        """The lanes this step works on, with the index of the trigger that feeds each.

        All crons share one lane and all state triggers another; the index is then that of the first.
        """
        lanes: dict[Lane, int] = {}
        for index, trigger in enumerate(self.triggers):
            match trigger:
                case QueueTrigger():
                    lanes.setdefault(Lane(trigger.topic, self.name), index)
                case CronTrigger():
                    lanes.setdefault(Lane(f"$cron/{self.name}", self.name), index)
                case StateTrigger():
                    lanes.setdefault(Lane(f"$state/{self.name}", self.name), index)
        return list(lanes.items())


# ------------------------------------------------------------------------------ what a handler returns


class Response(Struct, frozen=True):
    """An HTTP answer. body: JSON value, str, bytes or an async generator (streamed); None = empty.

    headers: a list is sent as that many headers of the name (`{"set-cookie": ["a=1", "b=2"]}`).
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str | Sequence[str]] | None = None


class SSE(Struct, frozen=True, kw_only=True):
    """An event of a `text/event-stream` body. StepError where a client would read another one.

    data     a str: its lines; anything else as JSON; left out: no data, so browsers tell nobody of it
    event    its name; id: what a client that comes back sends as Last-Event-ID. One line each
    retry    milliseconds before a client that lost the stream comes back
    comment  what no client shows: `SSE(comment="ping")` keeps a quiet connection open
    """

    data: Any = UNSET
    event: str | None = None
    id: str | int | None = None
    retry: int | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("event", str), ("id", (str, int)), ("comment", str)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise StepError(f"SSE {name}: expected text, got {value!r:.60} ({type(value).__name__})")
        for name in ("event", "id"):
            if not _ENDS_A_LINE.isdisjoint(str(getattr(self, name))):
                raise StepError(f"SSE {name}: {getattr(self, name)!r:.60} may hold no CR, LF or NUL")
        retry = self.retry
        if retry is not None and (type(retry) is not int or not 0 <= retry <= RETRY_MS_MAX):
            raise StepError(f"SSE retry: expected milliseconds, 0 to {RETRY_MS_MAX}, got {retry!r:.60}")


_ENDS_A_LINE = frozenset("\r\n\0")
RETRY_MS_MAX = (1 << 31) - 1


class Raw(Struct, frozen=True):
    """A chunk of a streamed body that is sent as it is, in a `text/event-stream` too: what another server
    framed already. Never what a client sent: it could hold events of its own."""

    content: bytes | str

    def __post_init__(self) -> None:
        if not isinstance(self.content, bytes | bytearray | memoryview | str):
            raise StepError(f"Raw: expected bytes or a str, got {type(self.content).__name__}")


class Snooze(Struct, frozen=True):
    """Give the message back and deliver it again after `ms` (or "5s"); counts no attempt."""

    ms: int

    def __post_init__(self) -> None:
        force_setattr(self, "ms", duration_ms(self.ms))


class Cancel(Struct, frozen=True):
    """Done, for this reason: no further tries, no dead letter. What the handler wrote is kept."""

    reason: str = "cancelled by the handler"


# --------------------------------------------------------------------------------- what users write with


@dataclass(frozen=True, slots=True)
class StepConfig:
    """A step's `config` where a dict is not wanted. No `name`: send_mail_step.py is called SendMail."""

    name: str | None = None
    description: str | None = None
    triggers: Sequence[Mapping[str, Any]] = ()
    enqueues: Sequence[str | Mapping[str, Any]] | None = None
    flows: Sequence[str] | None = None
    on_error: OnError | None = None


def http(
    method: str,
    path: str,
    *,
    body_schema: object = None,
    response_schema: object = None,
    query_params: object = None,
    middleware: Iterable[Callback] = (),
    condition: Callback | None = None,
) -> TriggerConfig:
    """Start on a request: `http("POST", "/orders/:id")`. Schemas: see schema/__init__.py."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "body_schema": body_schema,
        "response_schema": response_schema,
        "query_params": query_params,
        "middleware": middleware,
        "condition": condition,
    }


def queue(
    topic: str,
    *,
    input: object = None,
    config: Mapping[str, Any] | QueueConfig | None = None,
    condition: Callback | None = None,
) -> TriggerConfig:
    """Start on each message of `topic`. `config`: the knobs of `queues:` in iii-config.yaml, which win."""
    return {"type": "queue", "topic": topic, "input": input, "config": config, "condition": condition}


def cron(
    expression: str,
    *,
    timezone: str = "UTC",
    missed: Missed = "last",
    overlap: Overlap = "queue",
    condition: Callback | None = None,
) -> TriggerConfig:
    """Start on a schedule of 5, 6 (seconds first) or 7 (year last) fields: `cron("0 0 2 * * * *")`."""
    return {
        "type": "cron",
        "expression": expression,
        "timezone": timezone,
        "missed": missed,
        "overlap": overlap,
        "condition": condition,
    }


def state_trigger(
    *,
    namespace: str | None = None,
    filter: Mapping[str, Any] | None = None,
    fire: Fire = "enter",
    condition: Callback | None = None,
) -> TriggerConfig:
    """Start when a state value comes to match `filter` (fire="every": on each change that matches)."""
    return {
        "type": "state",
        "namespace": namespace,
        "filter": filter,
        "fire": fire,
        "condition": condition,
    }
