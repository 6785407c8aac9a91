"""What handlers of state and cron triggers get as their input, and how it travels as a message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import orjson
from msgspec import Struct

from iii.model import Change
from iii.schema import Validator, compile

__all__ = ["CRON_INPUT", "STATE_INPUT", "CronTick", "StateChange", "encode_change", "encode_tick"]


class StateChange(Struct, frozen=True):
    """A change of a state value. created: old_value is None; deleted: value is None."""

    namespace: str
    key: str
    type: Literal["created", "updated", "deleted"]
    value: Any
    old_value: Any
    version: int


class CronTick(Struct, frozen=True):
    """A tick of a schedule. `manual`: started by hand, between the ticks."""

    scheduled_at: datetime
    expression: str
    manual: bool = False


def _compiled(kind: type) -> Validator:
    validator = compile(kind)
    assert validator is not None
    return validator


STATE_INPUT = _compiled(StateChange)
CRON_INPUT = _compiled(CronTick)


def encode_change(change: Change) -> bytes:
    """The payload of a state trigger's message; the stored values go in as they are."""
    kind = "created" if change.old is None else "updated" if change.new is not None else "deleted"
    return orjson.dumps(
        {
            "namespace": change.namespace,
            "key": change.key,
            "type": kind,
            "value": None if change.new is None else orjson.Fragment(change.new),
            "old_value": None if change.old is None else orjson.Fragment(change.old),
            "version": change.version,
        }
    )


def encode_tick(scheduled_ms: int, expression: str, *, manual: bool = False) -> bytes:
    scheduled_at = datetime.fromtimestamp(scheduled_ms / 1000, UTC)
    return msgspec.json.encode(CronTick(scheduled_at, expression, manual))
