"""From a user's config and handler to a Step; each mistake is named with file, field and remedy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from iii.config import QueueConfig
from iii.definitions.step_config import make_step, read_step
from iii.errors import StepError
from iii.model import Lane
from iii.step import (
    CronTrigger,
    HttpTrigger,
    QueueTrigger,
    Response,
    Snooze,
    StateTrigger,
    Step,
    StepConfig,
    cron,
    http,
    queue,
    state_trigger,
)

FILE = "steps/send_message_step.py"


class Body(msgspec.Struct):
    text: str


async def handler(input: Any, ctx: Any) -> None: ...


def refusal(config: object, handler: object = handler) -> StepError:
    with pytest.raises(StepError) as caught:
        make_step(config, handler, FILE)
    return caught.value


def triggered(*triggers: Any, **config: Any) -> Step:
    return make_step({"name": "S", "triggers": list(triggers), **config}, handler, FILE)


# ------------------------------------------------------------------------------------------ what works


def test_a_step_config_becomes_a_step() -> None:
    step = make_step(
        StepConfig(
            name="SendMessage",
            description="Receives messages",
            triggers=[http("post", "/messages/:id", body_schema=Body)],
            enqueues=["message.sent", {"topic": "audit", "label": "for the books", "conditional": True}],
            flows=["messages"],
            on_error="discard",
        ),
        handler,
        FILE,
    )
    assert (step.name, step.description, step.file) == ("SendMessage", "Receives messages", FILE)
    assert step.triggers == (HttpTrigger("POST", "/messages/{id}", body_schema=Body),)
    assert step.enqueues == frozenset({"message.sent", "audit"})
    assert (step.flows, step.on_error) == (("messages",), "discard")
    assert (step.is_async, step.arity, step.handler) == (True, 2, handler)
    body = step.schemas[0].body
    assert body is not None
    assert body.validate_json(b'{"text": "x"}') == Body("x")


def test_a_plain_dict_in_camel_case_is_the_same_step() -> None:
    written = {
        "name": "S",
        "triggers": [
            {
                "type": "http",
                "method": "POST",
                "path": "/messages/{id}",
                "bodySchema": Body,
                "responseSchema": {200: Body, "400": dict[str, str]},
                "queryParams": [{"name": "dry", "description": "do nothing"}],
                "middleware": [handler],
                "condition": handler,
            },
            {"type": "queue", "topic": "t", "input": Body, "config": {"maxRetries": 1, "retry_delay": "5s"}},
            {"type": "cron", "expression": "0 0 2 * * * *", "missed": "all", "overlap": "skip"},
            {"type": "state", "namespace": "n", "filter": {"a": 1}, "fire": "every"},
        ],
        "onError": "keep_all",
    }
    helpers = StepConfig(
        name="S",
        triggers=[
            http(
                "POST",
                "/messages/:id",
                body_schema=Body,
                response_schema={200: Body, "400": dict[str, str]},
                query_params=[{"name": "dry", "description": "do nothing"}],
                middleware=[handler],
                condition=handler,
            ),
            queue("t", input=Body, config={"max_retries": 1, "retry_delay": 5000}),
            cron("0 0 2 * * * *", missed="all", overlap="skip"),
            state_trigger(namespace="n", filter={"a": 1}, fire="every"),
        ],
        on_error="keep_all",
    )
    first, second = make_step(written, handler, FILE), make_step(helpers, handler, FILE)
    assert first.triggers == second.triggers
    assert first.on_error == second.on_error == "keep_all"
    assert first.triggers[1] == QueueTrigger("t", Body, QueueConfig(max_retries=1, retry_delay_ms=5000))
    assert first.triggers[2] == CronTrigger("0 0 2 * * * *", "UTC", "all", "skip")
    assert first.triggers[3] == StateTrigger("n", {"a": 1}, "every")
    assert set(first.schemas[0].responses) == {200, 400}
    assert first.schemas[0].query is None
    assert first.schemas[1].input is not None


def test_without_enqueues_any_topic_may_be_enqueued_and_with_an_empty_list_none() -> None:
    assert triggered(queue("t")).enqueues is None
    assert triggered(queue("t"), enqueues=[]).enqueues == frozenset()


def test_one_response_schema_is_that_of_200() -> None:
    assert set(triggered(http("GET", "/", response_schema=Body)).schemas[0].responses) == {200}


def test_a_query_schema_checks_text() -> None:
    class Page(msgspec.Struct):
        number: int = 1

    query = triggered(http("GET", "/", query_params=Page)).schemas[0].query
    assert query is not None
    assert query.validate_query({"number": ["7"]}) == Page(7)


def test_a_step_works_on_one_lane_per_topic_and_one_for_crons_and_states_each() -> None:
    step = triggered(
        http("GET", "/"),
        cron("0 2 * * *"),
        queue("a"),
        cron("0 3 * * *"),
        state_trigger(),
        queue("b"),
        state_trigger(),
    )
    assert step.lanes() == [
        (Lane("$cron/S", "S"), 1),
        (Lane("a", "S"), 2),
        (Lane("$state/S", "S"), 4),
        (Lane("b", "S"), 5),
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("steps/send_message_step.py", "SendMessage"),
        ("a_step.py", "A"),
        ("steps/x/pay-now_v2_step.py", "PayNowV2"),
    ],
)
def test_without_a_name_the_file_gives_it(file: str, name: str) -> None:
    assert make_step({"triggers": [queue("t")]}, handler, file).name == name


def test_an_inline_step_needs_its_name() -> None:
    with pytest.raises(StepError, match="<inline>: name: is missing"):
        make_step({"triggers": [queue("t")]}, handler)


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/:id", "/a/{id}"),
        ("/a/{id}/b/:c_1", "/a/{id}/b/{c_1}"),
        ("/a.b-c~d", "/a.b-c~d"),
    ],
)
def test_paths(written: str, path: str) -> None:
    trigger = triggered(http("GET", written)).triggers[0]
    assert isinstance(trigger, HttpTrigger)
    assert trigger.path == path


def test_two_paths_of_one_shape_differ_only_in_parameter_names() -> None:
    shapes = [
        trigger.shape
        for path in ("/a/:id", "/a/{other}", "/a/b")
        for trigger in triggered(http("GET", path)).triggers
        if isinstance(trigger, HttpTrigger)
    ]
    assert shapes[0] == shapes[1] != shapes[2]


def test_snooze_takes_durations() -> None:
    assert (Snooze(5).ms, Snooze("5s").ms) == (5, 5000)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a duration"):
        Snooze("soon")  # type: ignore[arg-type]
    assert Response().status == 200


# ------------------------------------------------------------------------------------------- handlers


class Callable_:
    async def __call__(self, input: Any) -> None: ...


class Methods:
    def plain(self, input: Any, ctx: Any) -> None: ...
    async def a(self) -> None: ...


def no_arguments() -> None: ...
def one(input: Any) -> None: ...
def optional(input: Any, ctx: Any = None, more: int = 3) -> None: ...
def variadic(*args: Any) -> None: ...
async def three(extra: Any, input: Any, ctx: Any) -> None: ...
async def four(request: Any, ctx: Any, next: Any, more: Any) -> None: ...
def keyword_default(input: Any, *, x: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("handler", "is_async", "arity"),
    [
        (no_arguments, False, 0),
        (one, False, 1),
        (optional, False, 2),
        (variadic, False, 2),
        (keyword_default, False, 1),
        (handler, True, 2),
        (functools.partial(three, 1), True, 2),
        (functools.partial(optional, 1), False, 2),
        (Callable_(), True, 1),
        (Methods().plain, False, 2),
        (Methods().a, True, 0),
        (lambda: None, False, 0),
    ],
)
def test_handlers(handler: Callable[..., Any], is_async: bool, arity: int) -> None:
    step = make_step({"triggers": [queue("t")]}, handler, FILE)
    assert (step.is_async, step.arity) == (is_async, arity)


def keyword(input: Any, *, x: int) -> None: ...
def generator(input: Any) -> Any:
    yield 1


async def async_generator(input: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (None, "is missing; write `async def handler(input, ctx):`"),
        (5, "expected a function, got number 5"),
        ("handler", 'expected a function, got string "handler"'),
        (three, "requires (extra, input, ctx); it is called with at most two arguments: (input, ctx)"),
        (keyword, "requires (input, x)"),
        (Callable_, "Callable_ is a class; pass an instance of it, or a function"),
        (generator, "is a generator; return Response(body=generator()) to stream"),
        (async_generator, "is a generator"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused(handler: object, message: str) -> None:
    error = refusal({"triggers": [queue("t")]}, handler)
    assert (error.file, error.field) == (FILE, "handler")
    assert message in error.message


# ---------------------------------------------------------------------------------------- what does not

QUEUE = {"type": "queue", "topic": "t"}
HTTP = {"type": "http", "method": "GET", "path": "/a"}
CRON = {"type": "cron", "expression": "* * * * *"}

BAD: list[tuple[object, str, str]] = [
    (None, "config", "expected a dict or a StepConfig, got nothing"),
    ([], "config", "expected a dict or a StepConfig, got list"),
    ({}, "triggers", "is missing; expected a list of triggers"),
    ({"trigers": [QUEUE]}, "trigers", 'unknown key; did you mean "triggers"?'),
    ({"triggers": QUEUE}, "triggers", "expected a list of triggers, got mapping"),
    ({"triggers": []}, "triggers", "is empty: nothing would ever start this step"),
    ({"triggers": [QUEUE], "descripton": "x"}, "descripton", 'unknown key; did you mean "description"?'),
    ({"triggers": [QUEUE], "emits": ["x"]}, "emits", 'did you mean "enqueues"?'),
    ({"triggers": [QUEUE], "name": 5}, "name", "expected a string, got number 5"),
    ({"triggers": [QUEUE], "name": "a b"}, "name", '"a b" is no step name; allowed are 1 to 128'),
    ({"triggers": [QUEUE], "on_error": "kep"}, "on_error", 'did you mean "keep"?'),
    ({"triggers": [QUEUE], "flows": 3}, "flows", "expected a list of strings"),
    ({"triggers": [QUEUE], "enqueues": "a"}, "enqueues", 'expected a list of topics like ["order.paid"]'),
    ({"triggers": [QUEUE], "enqueues": ["a b"]}, "enqueues[0]", "is no topic name"),
    ({"triggers": [QUEUE], "enqueues": ["a", {"topc": "b"}]}, "enqueues[1].topc", 'did you mean "topic"?'),
    ({"triggers": [QUEUE], "enqueues": [{"topic": "a/b"}]}, "enqueues[0].topic", "is no topic name"),
    ({"triggers": [QUEUE], "enqueues": [{"topic": "a", "lable": "b"}]}, "enqueues[0].lable", '"label"'),
    ({"triggers": ["t"]}, "triggers[0]", "expected http(...), queue(...), cron(...), state(...) or a dict"),
    ({"triggers": [QUEUE, queue]}, "triggers[1]", "write queue(...)"),
    (
        {"triggers": [QUEUE, CRON, QUEUE]},
        "triggers[2].topic",
        'the topic "t" is already taken by triggers[0]',
    ),
    (
        {"triggers": [http("GET", "/a/:x"), http("get", "/a/{y}")]},
        "triggers[1].path",
        "the route GET /a/{y} is",
    ),
]

BAD_TRIGGERS: list[tuple[object, str, str]] = [
    ({"topic": "t"}, "type", "is missing; expected one of http, queue, cron, state"),
    ({"type": "htpp"}, "type", 'known are http, queue, cron, state; did you mean "http"?'),
    ({"type": ["http"]}, "type", "unknown trigger type list"),
    (QUEUE | {"topik": "t"}, "topik", 'did you mean "topic"?'),
    ({"type": "queue"}, "topic", "is missing; expected the name of a topic"),
    ({"type": "queue", "topic": 5}, "topic", "number 5 is no topic name"),
    ({"type": "queue", "topic": "$cron/x"}, "topic", "is no topic name"),
    (QUEUE | {"input": 5}, "input", "cannot be used as a schema"),
    (QUEUE | {"input": {"a": str}}, "input", "is no JSON Schema"),
    (QUEUE | {"config": 5}, "config", "expected a mapping"),
    (QUEUE | {"config": {"maxRetrys": 1}}, "config.maxRetrys", '"max_retries"'),
    (QUEUE | {"config": {"concurrency": 0}}, "config.concurrency", "from 1 to 10000"),
    (QUEUE | {"config": {"dead_letter_queue": "t"}}, "config", "name another topic"),
    (QUEUE | {"condition": True}, "condition", "expected a function, got boolean True"),
    (QUEUE | {"condition": three}, "condition", "called with at most two arguments: (input, ctx)"),
    (CRON | {"condition": keyword}, "condition", "requires (input, x)"),
    ({"type": "http", "path": "/a"}, "method", "is missing; expected one of GET, POST"),
    ({"type": "http", "method": "GET"}, "path", 'expected a path like "/orders/:id"'),
    (HTTP | {"method": "GTE"}, "method", "allowed are GET, POST, PUT, PATCH"),
    (HTTP | {"method": "*"}, "method", '"*" is not allowed'),
    (HTTP | {"pathh": "/b"}, "pathh", 'did you mean "path"?'),
    (HTTP | {"path": "a"}, "path", '"a" must begin with "/"'),
    (HTTP | {"path": "/a?b=1"}, "path", "query parameters are no part of the path"),
    (HTTP | {"path": "/a//b"}, "path", 'has the segment ""'),
    (HTTP | {"path": "/a/*"}, "path", 'has the segment "*"'),
    (HTTP | {"path": "/{a/b"}, "path", 'has the segment "{a"'),
    (HTTP | {"path": "/:1a"}, "path", 'has the segment "{1a}"'),
    (HTTP | {"path": "/:a/{a}"}, "path", "two parameters of one name"),
    (HTTP | {"middleware": handler}, "middleware", "expected a list of functions"),
    (HTTP | {"middleware": [5]}, "middleware[0]", "got number 5; it is called with (request, ctx, next)"),
    (HTTP | {"middleware": [three, four]}, "middleware[1]", "at most three arguments: (request, ctx, next)"),
    (HTTP | {"middleware": [generator]}, "middleware[0]", "is a generator"),
    (HTTP | {"condition": Callable_}, "condition", "is a class"),
    (HTTP | {"bodySchema": "x"}, "bodySchema", "cannot be used as a schema"),
    (HTTP | {"response_schema": {200: 5}}, "response_schema", "cannot be used"),
    (HTTP | {"query_params": [1]}, "query_params", "cannot be used as a schema"),
    ({"type": "cron"}, "expression", 'expected a cron expression like "0 2 * * *"'),
    ({"type": "cron", "cron": "* * * * *"}, "cron", 'unknown key; did you mean "expression"?'),
    ({"type": "http", "method": "GET", "pathh": "/a"}, "pathh", 'unknown key; did you mean "path"?'),
    ({"type": "queue"}, "topic", "is missing; expected the name of a topic"),
    (cron("* * *"), "expression", "has 3 fields"),
    (cron("61 * * * *"), "expression", 'minute "61"'),
    (cron("* * * * *", timezone="Mars"), "timezone", 'unknown timezone "Mars"'),
    (CRON | {"missed": "first"}, "missed", "expected one of last, skip, all"),
    (CRON | {"overlap": 1}, "overlap", "expected one of queue, skip; got number 1"),
    (state_trigger(filter="done"), "filter", "expected a mapping like"),  # type: ignore[arg-type]
    (state_trigger(filter={"a": {"b": handler}}), "filter.a.b", "expected a JSON value"),
    (state_trigger(namespace="x" * 129), "namespace", "at most 128 bytes"),
    (state_trigger(namespace="\ud800"), "namespace", "is not valid Unicode (a lone surrogate)"),
    (state_trigger(filter={"a": "\ud800"}), "filter.a", "is not valid Unicode (a lone surrogate)"),
    ({"type": "state", "fire": "leave"}, "fire", "expected one of enter, every"),
    ({"type": "state", "namespce": "x"}, "namespce", 'did you mean "namespace"?'),
]


@pytest.mark.parametrize(("config", "field", "message"), BAD)
def test_a_mistake_is_named_with_file_field_and_remedy(config: object, field: str, message: str) -> None:
    error = refusal(config)
    assert error.field == field
    assert message in error.message
    assert str(error).startswith(f"{FILE}: {field}: ")


def test_all_that_is_wrong_is_found_and_each_field_named_once() -> None:
    wrong = {"name": "no name", "trigers": [], "flows": 3, "on_error": "stop"}
    assert isinstance(found := read_step(wrong, 3, FILE), list)
    assert [error.field for error in found] == ["trigers", "handler", "name", "flows", "on_error"]
    assert str(found[0]) == str(refusal(wrong, 3))
    triggers = [queue("a.b"), {"type": "ftp"}, cron("* * *", timezone="Mars"), queue("a.b")]
    assert isinstance(found := read_step({"triggers": triggers, "emits": []}, handler, FILE), list)
    assert [error.field for error in found] == ["triggers[1].type", "triggers[2].timezone", "emits"]


@pytest.mark.parametrize(("trigger", "field", "message"), BAD_TRIGGERS)
def test_a_mistake_in_a_trigger_is_named_with_its_index(trigger: object, field: str, message: str) -> None:
    error = refusal({"triggers": [cron("* * * * *"), trigger]})
    assert error.field == f"triggers[1].{field}"
    assert message in error.message
    assert str(error).startswith(f"{FILE}: triggers[1].{field}: ")
