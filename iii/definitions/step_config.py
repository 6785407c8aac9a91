"""From what a user wrote (a `config` and a `handler`) to a checked `Step`. The one place that judges them.

A config is a dict or a StepConfig, its keys in snake_case or camelCase; triggers are dicts, by hand or
from the helpers of step.py. Whatever is wrong is a StepError with file, field and remedy.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar, cast

from iii import schema
from iii.definitions.handler import HANDLER, MIDDLEWARE, calling
from iii.errors import IIIError, StepError
from iii.formats import filters
from iii.formats.cron_expression import parse
from iii.formats.fields import Fail, Fields
from iii.formats.units import NAME_RULE, is_name, is_unicode, nearest, shown
from iii.schema import Validator
from iii.section_readers import read_queue
from iii.sections import QueueConfig
from iii.step import (
    METHODS,
    CronTrigger,
    Fire,
    HttpTrigger,
    Missed,
    OnError,
    Overlap,
    QueueTrigger,
    Schemas,
    StateTrigger,
    Step,
    StepConfig,
    Trigger,
)

__all__ = ["make_step", "read_step"]

P = ParamSpec("P")
T = TypeVar("T")

INLINE = "<inline>"
_NAMESPACE_BYTES_MAX = 128
_SEGMENT = re.compile(r"[^{}:*?#\s]+|\{[A-Za-z_][A-Za-z0-9_]*\}")
_RENAMED = {"emits": "enqueues", "subscribes": "triggers", "trigger": "triggers"}
_TRIGGER_RENAMED = {
    "cron": "expression",
    "schedule": "expression",
    "input_schema": "input",
    "inputSchema": "input",
}


def make_step(config: object, handler: object, file: str = INLINE) -> Step:
    """The checked step of a `config` and its `handler`; StepError says what is wrong where in `file`."""
    found = read_step(config, handler, file)
    if isinstance(found, Step):
        return found
    raise found[0]


def read_step(config: object, handler: object, file: str) -> Step | list[StepError]:
    """As make_step; or all that is wrong: of each trigger, and of each other field, the first thing."""
    found = _Findings()
    step = found.or_else(None, _read, config, handler, file, found)
    return list(found.errors.values()) if step is None or found.errors else step


class _Findings:
    """What is wrong, by field, in the order in which it was found."""

    def __init__(self) -> None:
        self.errors: dict[str, StepError] = {}

    def or_else(self, default: T, read: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `read` returns; `default` where it raises a StepError, which is noted."""
        try:
            return read(*args, **named)
        except StepError as error:
            self.errors.setdefault(error.field, error)
            return default


def _read(config: object, handler: object, file: str, found: _Findings) -> Step | None:
    """The step, of no use where something was found."""

    def fail(field: str, message: str) -> IIIError:
        return StepError(message, file=file, field=field)

    if isinstance(config, StepConfig):
        config = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if not isinstance(config, Mapping):
        raise fail("config", f"expected a dict or a StepConfig, got {shown(config)}")
    top = Fields(config, at="", fail=fail, renamed=_RENAMED)
    triggers, schemas = found.or_else(((), ()), _triggers, top, found)
    is_async, arity = found.or_else((False, 0), _calling, handler, fail)
    step = Step(
        name=found.or_else("", _name, top, file),
        description=found.or_else("", top.text, "description", ""),
        triggers=triggers,
        schemas=schemas,
        enqueues=found.or_else(None, _enqueues, top),
        flows=found.or_else((), top.texts, "flows", ()),
        on_error=found.or_else("keep", _on_error, top),
        handler=cast(Callable[..., Any], handler),
        is_async=is_async,
        arity=arity,
        file=file,
    )
    found.or_else(None, top.close)
    if not found.errors:
        _refuse_repeats(step, fail)
    return step


def _calling(handler: object, fail: Fail) -> tuple[bool, int]:
    try:
        return calling(handler)
    except TypeError as error:
        raise fail("handler", str(error)) from None


def _on_error(top: Fields) -> OnError:
    return cast(OnError, top.choice("on_error", "keep", ("keep", "keep_all", "discard")))


def _name(top: Fields, file: str) -> str:
    stem = PurePath(file).stem.removesuffix("_step")
    derived = "".join(part[:1].upper() + part[1:] for part in re.split(r"[_\W]+", stem))
    if file == INLINE or not derived:
        top.required("name", 'the name of the step, like "SendMail"')
    name = top.text("name", derived)
    if not is_name(name):
        raise top.error("name", f'"{name}" is no step name; allowed are {NAME_RULE}')
    return name


def _enqueues(top: Fields) -> frozenset[str] | None:
    """The declared topics: strings, or mappings with a `topic` (label and conditional are for people)."""
    value = top.raw("enqueues")
    if value is None:
        return None
    if not isinstance(value, list | tuple | set | frozenset):
        raise top.error("enqueues", f'expected a list of topics like ["order.paid"], got {shown(value)}')
    topics = set()
    for index, entry in enumerate(value):
        at = f"{top.path('enqueues')}[{index}]"
        if isinstance(entry, Mapping):
            fields = Fields(entry, at=at, fail=top.fail)
            fields.required("topic", "the name of a topic")
            entry, at = fields.text("topic", ""), f"{at}.topic"
            fields.text("label", "")
            fields.flag("conditional", False)
            fields.close()
        topics.add(_topic(entry, at, top.fail))
    return frozenset(topics)


def _topic(topic: object, at: str, fail: Fail) -> str:
    if not isinstance(topic, str) or not is_name(topic):
        raise fail(at, f"{shown(topic)} is no topic name; allowed are {NAME_RULE}")
    return topic


# ------------------------------------------------------------------------------------------- triggers


def _triggers(top: Fields, found: _Findings) -> tuple[tuple[Trigger, ...], tuple[Schemas, ...]]:
    value = top.required("triggers", "a list of triggers: http(...), queue(...), cron(...), state(...)")
    if not isinstance(value, list | tuple):
        raise top.error("triggers", f"expected a list of triggers, got {shown(value)}; put it in [ ]")
    if not value:
        raise top.error(
            "triggers", "is empty: nothing would ever start this step; add http(...), queue(...) ..."
        )
    at = top.path("triggers")
    read = [
        each
        for index, entry in enumerate(value)
        if (each := found.or_else(None, _trigger, entry, f"{at}[{index}]", top.fail)) is not None
    ]
    return tuple(trigger for trigger, _ in read), tuple(schemas for _, schemas in read)


def _trigger(entry: object, at: str, fail: Fail) -> tuple[Trigger, Schemas]:
    if not isinstance(entry, Mapping):
        called = f"; write {entry.__name__}(...)" if inspect.isfunction(entry) else ""
        raise fail(
            at, f"expected http(...), queue(...), cron(...), state(...) or a dict, got {shown(entry)}{called}"
        )
    fields = Fields(entry, at=at, fail=fail, renamed=_TRIGGER_RENAMED)
    kind = fields.required("type", "one of http, queue, cron, state")
    if not isinstance(kind, str) or kind not in _READERS:
        meant = nearest(kind, _READERS) if isinstance(kind, str) else None
        hint = f'; did you mean "{meant}"?' if meant else ""
        raise fields.error(
            "type", f"unknown trigger type {shown(kind)}; known are {', '.join(_READERS)}{hint}"
        )
    read = _READERS[kind](fields)
    fields.close()
    return read


def _http(fields: Fields) -> tuple[Trigger, Schemas]:
    fields.required("method", f"one of {', '.join(METHODS)}")
    fields.required("path", 'a path like "/orders/:id"')
    method = fields.text("method", "").upper()
    if method not in METHODS:
        raise fields.error("method", f'"{method}" is not allowed here; allowed are {", ".join(METHODS)}')
    response = fields.raw("response_schema")
    query = fields.raw("query_params")
    trigger = HttpTrigger(
        method=method,
        path=_path(fields),
        body_schema=fields.raw("body_schema"),
        response_schema=response,
        query_params=query,
        middleware=_middleware(fields),
        condition=_callback(fields, "condition"),
    )
    schemas = Schemas(
        body=_compiled(fields, "body_schema", trigger.body_schema),
        query=None if _only_described(query) else _compiled(fields, "query_params", query, lax=True),
        responses=_responses(fields, response),
    )
    return trigger, schemas


def _queue(fields: Fields) -> tuple[Trigger, Schemas]:
    topic = _topic(fields.required("topic", "the name of a topic"), fields.path("topic"), fields.fail)
    config = fields.raw("config")
    if config is not None and not isinstance(config, QueueConfig):
        with fields.mapping("config") as knobs:
            config = read_queue(knobs)
        if config.dead_letter_queue == topic:
            raise fields.error("config", "dead_letter_queue is the queue itself; name another topic")
    trigger = QueueTrigger(topic, fields.raw("input"), config, _callback(fields, "condition"))
    return trigger, Schemas(input=_compiled(fields, "input", trigger.input))


def _cron(fields: Fields) -> tuple[Trigger, Schemas]:
    fields.required("expression", 'a cron expression like "0 2 * * *"')
    trigger = CronTrigger(
        expression=fields.text("expression", ""),
        timezone=fields.text("timezone", "UTC"),
        missed=cast(Missed, fields.choice("missed", "last", ("last", "skip", "all"))),
        overlap=cast(Overlap, fields.choice("overlap", "queue", ("queue", "skip"))),
        condition=_callback(fields, "condition"),
    )
    try:
        parse(trigger.expression, trigger.timezone)
    except StepError as error:
        raise fields.error(
            "timezone" if "timezone" in error.message else "expression", error.message
        ) from None
    return trigger, Schemas()


def _state(fields: Fields) -> tuple[Trigger, Schemas]:
    namespace = fields.text("namespace", None)
    if namespace is not None and not is_unicode(namespace):
        raise fields.error("namespace", f"{namespace!r} is not valid Unicode (a lone surrogate)")
    if namespace is not None and (len(namespace.encode()) > _NAMESPACE_BYTES_MAX or "\0" in namespace):
        raise fields.error("namespace", f"a namespace has at most {_NAMESPACE_BYTES_MAX} bytes and no NUL")
    filter = fields.raw("filter")
    if filter is not None and (found := filters.problem(filter)):
        where, message = found
        raise fields.error(f"filter.{where}" if where else "filter", message)
    trigger = StateTrigger(
        namespace=namespace,
        filter=filters.plain(cast(Mapping[str, Any], filter)) if filter is not None else None,
        fire=cast(Fire, fields.choice("fire", "enter", ("enter", "every"))),
        condition=_callback(fields, "condition"),
    )
    return trigger, Schemas()


_READERS: dict[str, Callable[[Fields], tuple[Trigger, Schemas]]] = {
    "http": _http,
    "queue": _queue,
    "cron": _cron,
    "state": _state,
}


def _path(fields: Fields) -> str:
    """The path with its parameters as {name}."""
    path = re.sub(r"(?<=/):([^/]+)", r"{\1}", fields.text("path", ""))
    if not path.startswith("/"):
        raise fields.error("path", f'"{path}" must begin with "/"')
    segments = path.split("/")[1:]
    for segment in segments if path != "/" else ():
        if not _SEGMENT.fullmatch(segment):
            rule = "a segment is plain text, :name or {name}; query parameters are no part of the path"
            raise fields.error("path", f'"{path}" has the segment "{segment}"; {rule}')
    names = [segment for segment in segments if segment.startswith("{")]
    if len(set(names)) < len(names):
        raise fields.error("path", f'"{path}" has two parameters of one name')
    return path


def _middleware(fields: Fields) -> tuple[Callable[..., Any], ...]:
    value = fields.raw("middleware")
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise fields.error(
            "middleware", f"expected a list of functions (request, ctx, next), got {shown(value)}"
        )
    for index, each in enumerate(value):
        _check_call(fields, f"middleware[{index}]", each, MIDDLEWARE)
    return tuple(value)


def _callback(fields: Fields, name: str) -> Callable[..., Any] | None:
    value = fields.raw(name)
    if value is not None:
        _check_call(fields, name, value, HANDLER)
    return cast("Callable[..., Any] | None", value)


def _check_call(fields: Fields, name: str, function: object, arguments: tuple[str, ...]) -> None:
    try:
        calling(function, arguments)
    except TypeError as error:
        raise fields.error(name, str(error)) from None


# -------------------------------------------------------------------------------------------- schemas


def _compiled(fields: Fields, name: str, value: object, *, lax: bool = False) -> Validator | None:
    try:
        return schema.compile(value, lax=lax)
    except StepError as error:
        raise fields.error(name, error.message) from None


def _responses(fields: Fields, value: object) -> dict[int, Validator]:
    """A mapping of status to schema, or the schema of status 200 alone."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(_is_status(key) for key in value):
        alone = _compiled(fields, "response_schema", value)
        return {200: alone} if alone else {}
    compiled = {int(status): _compiled(fields, "response_schema", each) for status, each in value.items()}
    return {status: each for status, each in compiled.items() if each is not None}


def _is_status(key: object) -> bool:
    return str(key).isdigit() and 100 <= int(str(key)) <= 599


def _only_described(query: object) -> bool:
    """query_params as a list of names, or of {"name", "description"}: for people, checks nothing."""
    return isinstance(query, list | tuple) and all(
        isinstance(each, str) or (isinstance(each, Mapping) and isinstance(each.get("name"), str))
        for each in query
    )


# -------------------------------------------------------------------------------------------- repeats


def _refuse_repeats(step: Step, fail: Fail) -> None:
    """Two triggers of one step on the same topic or route."""
    seen: dict[object, int] = {}
    for index, trigger in enumerate(step.triggers):
        match trigger:
            case QueueTrigger():
                key, field, what = ("queue", trigger.topic), "topic", f'the topic "{trigger.topic}"'
            case HttpTrigger():
                key, field, what = trigger.shape, "path", f"the route {trigger.method} {trigger.path}"
            case _:
                continue
        if key in seen:
            first = f"triggers[{seen[key]}]"
            raise fail(
                f"triggers[{index}].{field}", f"{what} is already taken by {first} of this step; keep one"
            )
        seen[key] = index
