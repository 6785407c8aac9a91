"""What a caller wants enqueued, turned into an Enqueue: names, priorities, delays, the subscribers' schemas.

Used by a handler's `enqueue`, by `Engine.enqueue` and by the command line. Knows no store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from iii import trace
from iii.errors import BadName, InputError, ValidationError
from iii.formats import codec
from iii.formats.units import duration_ms, nearest, shown
from iii.model import PRIORITIES, Enqueue, Unique
from iii.schema import Validator

__all__ = ["UNIQUE_TTL_MS", "Delay", "Outbox", "Priority", "UniqueKey", "priority_of"]

Priority: TypeAlias = str | int
Delay: TypeAlias = str | int
UniqueKey: TypeAlias = str | tuple[str, Delay]

UNIQUE_TTL_MS = 24 * 3600 * 1000
NORMAL = PRIORITIES["normal"]

_FIELDS = ("topic", "data", "priority", "delay", "group", "unique", "headers")
_OWN_HEADERS = ("traceparent", trace.HOPS, trace.GENERATION, trace.DEPTH, "iii-trigger", "iii-archive")


class Outbox:
    """`inputs`: per topic the (step, validator) of each known subscriber that has an input schema.

    `notice(topic)` is to be called for a topic that no `enqueues` declares.
    """

    def __init__(
        self,
        inputs: Mapping[str, tuple[tuple[str, Validator], ...]],
        notice: Callable[[str], object] = lambda topic: None,
    ) -> None:
        self._inputs, self.notice = inputs, notice

    def op(
        self,
        topic: str | Mapping[str, Any],
        data: object,
        trace_headers: dict[str, str],
        *,
        priority: Priority = NORMAL,
        delay: Delay = 0,
        group: str | None = None,
        unique: UniqueKey | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Enqueue:
        """The op for `enqueue(topic, data, …)` or `enqueue({"topic": …, "data": …, …})`.

        InputError, ValidationError or StepError (no JSON) say what is wrong with the call.
        """
        if not isinstance(topic, str):
            beside = {"delay": delay, "group": group, "unique": unique, "headers": headers}
            given: dict[str, Any] = {name: value for name, value in beside.items() if value}
            if data is not None:
                given["data"] = data
            if priority != NORMAL:
                given["priority"] = priority
            return self.op(trace_headers=trace_headers, **_spread(topic, given))
        if topic.startswith("$"):
            message = f"bad topic {topic!r:.60}: names that begin with $ are the engine's own"
            raise BadName(message, field="topic", given=topic, allows=_own)
        payload = codec.encode(data)
        delay_ms = delay if type(delay) is int else _delay(delay)
        if delay_ms and trace.GENERATION in trace_headers:
            trace_headers = trace.undescended(trace_headers)
        op = Enqueue(
            topic,
            payload,
            priority if type(priority) is int else priority_of(priority),
            delay_ms,
            _group(group) if group is not None else None,
            None if unique is None else _unique(unique),
            _headers(headers, trace_headers) if headers else trace_headers,
        )
        for step, validator in self._inputs.get(topic, ()):
            _validate(topic, step, validator, payload, data)
        return op


def priority_of(priority: object) -> int:
    """0-255 of a number or of low, normal, high. InputError otherwise."""
    if isinstance(priority, str) and priority in PRIORITIES:
        return PRIORITIES[priority]
    if isinstance(priority, int) and not isinstance(priority, bool) and 0 <= priority <= 255:
        return priority
    message = f"bad priority {shown(priority)}: use low, normal, high or 0-255 (higher first)"
    raise BadName(message, field="priority", given=priority, allows=priority_of)


def _spread(message: object, beside: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that `enqueue({...}, **beside)` stands for."""
    if not isinstance(message, Mapping):
        raise InputError(f'enqueue needs a topic or {{"topic": …, "data": …}}, not {shown(message)}')
    fields = dict(message)
    if "messageGroupId" in fields:
        fields["group"] = fields.pop("messageGroupId")
    for name in fields:
        if name not in _FIELDS:
            close = nearest(str(name), _FIELDS)
            hint = f"did you mean {close!r}?" if close else f"known are {', '.join(_FIELDS)}"
            raise InputError(f"enqueue: unknown field {name!r}; {hint}")
    for name in beside:
        if name in fields:
            raise InputError(f"enqueue: {name!r} is given twice, in the dict and beside it: keep one")
    if not isinstance(fields.get("topic"), str):
        given = fields.get("topic")
        raise BadName(f"enqueue: topic must be a string, not {shown(given)}", field="topic", given=given)
    return {"data": None, **fields, **beside}


def _delay(delay: object) -> int:
    try:
        return duration_ms(delay)
    except ValueError as error:
        raise BadName(f"bad delay: {error}", field="delay", given=delay, allows=_delay) from None


def _group(group: object) -> str:
    if not isinstance(group, str):
        raise BadName(f"bad group {shown(group)}: use a string", field="group", given=group)
    return group


def _unique(unique: object) -> Unique:
    key, ttl = unique if isinstance(unique, tuple) and len(unique) == 2 else (unique, UNIQUE_TTL_MS)
    if not isinstance(key, str):
        raise BadName(f'bad unique {shown(unique)}: use a key or (key, "1h")', field="unique key", given=key)
    return Unique(key, _delay(ttl))


def _headers(headers: Mapping[str, str], trace_headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            message = f"bad header {shown(name)}: {shown(value)}; both must be strings"
            raise BadName(message, field="headers", given=value if isinstance(name, str) else name)
        if name in _OWN_HEADERS:
            raise BadName(f"bad header {name!r}: the engine sets it", field="headers", given=name)
    return {**headers, **trace_headers}


def _validate(topic: str, step: str, validator: Validator, payload: bytes, data: object) -> None:
    try:
        validator.validate_json(payload)
    except ValidationError as error:
        refused = ValidationError(f"{topic} is refused by the input of {step}", error.details)
        refused.given = data
        raise refused from None


def _own(topic: str) -> None:
    if topic.startswith("$"):
        raise InputError("the engine's own")
