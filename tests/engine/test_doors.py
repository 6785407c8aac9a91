"""One answer at every door: what cannot be stored is refused with its field, what is stored is read back as
it was. Here HTTP, the API and handlers; cli/test_cli_values.py and console/test_console_values.py go on.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pydantic
import pytest
from door_kinds import KEPT, LONG_KEY, TEXTS, VALUES, Kind, whole

from iii import Context, StepError, http, queue
from iii.definitions.loader import make_step
from iii.errors import BadName, InputError
from iii.step import Step
from iii.testing import Harness, Reply, harness
from iii.web.blame import PARTS_MAX

JSON = {"content-type": "application/json"}


class Typed(msgspec.Struct):
    a: Any
    x: Any = None


class Model(pydantic.BaseModel):
    a: Any
    x: Any = None


SCHEMAS = {"none": None, "Struct": Typed, "pydantic": Model, "JSON Schema": {"type": "object"}}


async def store(request: Any, ctx: Context) -> Any:
    """Whatever it was, into state, into a message and back."""
    await ctx.state.set("door", "http", request.body)
    await ctx.enqueue("in", request.body)
    return await ctx.state.get("door", "http")


def route(path: str, handler: Any, method: str = "POST", **more: Any) -> Step:
    name = path.strip("/").translate(str.maketrans("/{}", "---"))
    return make_step({"name": name, "triggers": [http(method, path, **more)]}, handler)


@pytest.fixture
async def app() -> AsyncIterator[Harness]:
    steps = [
        route(f"/{name.replace(' ', '')}", store, body_schema=schema) for name, schema in SCHEMAS.items()
    ]
    async with harness(steps) as running:
        yield running


def details(reply: Reply) -> list[tuple[str, str]]:
    assert reply.status in (400, 413), reply.text
    return [(each["path"], each["message"]) for each in reply.json()["details"]]


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("kind", TEXTS.values(), ids=TEXTS)
async def test_a_body_that_cannot_be_stored_is_400_with_its_field(
    app: Harness, name: str, kind: Kind
) -> None:
    reply = await app.post(f"/{name.replace(' ', '')}", content=kind.content, headers=JSON)
    [(path, message)] = details(reply)
    assert reply.status == 400
    assert path == kind.field and kind.says in message
    assert await app.state.namespaces() == [] and app.queued("in") == []


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("value", KEPT.values(), ids=KEPT)
async def test_a_body_is_stored_sent_and_answered_as_it_came(app: Harness, name: str, value: Any) -> None:
    reply = await app.post(f"/{name.replace(' ', '')}", content=json.dumps(whole(value)), headers=JSON)
    assert reply.status == 200
    for found in (reply.json(), await app.state.get("door", "http"), app.queued("in")[0].data):
        assert repr(found["a"]["b"]) == repr(value)


def told(error: BaseException, kind: Kind) -> bool:
    assert isinstance(error, StepError), error
    return error.field == kind.field and kind.says in str(error)


@pytest.mark.parametrize("kind", VALUES.values(), ids=VALUES)
async def test_a_value_that_cannot_be_stored_is_refused_with_its_field_by_the_api(kind: Kind) -> None:
    async with harness([]) as app:
        for call in (
            app.enqueue("in", whole(kind.content)),
            app.state.set("n", "k", whole(kind.content)),
            app.state.update("n", "k", whole(kind.content)),
        ):
            with pytest.raises(StepError) as caught:
                await call
            assert told(caught.value, kind)
        assert await app.state.namespaces() == [] and app.queued("in") == []


@pytest.mark.parametrize("kind", VALUES.values(), ids=VALUES)
async def test_a_value_that_cannot_be_stored_is_refused_with_its_field_in_a_handler(kind: Kind) -> None:
    errors: list[StepError] = []

    async def handler(data: Any, ctx: Context) -> None:
        for call in (
            lambda: ctx.enqueue("on", whole(kind.content)),
            lambda: ctx.state.set("n", "k", whole(kind.content)),
            lambda: ctx.state.update("n", "k", whole(kind.content)),
        ):
            try:
                await call()
            except StepError as error:
                errors.append(error)

    async with harness([make_step({"name": "Work", "triggers": [queue("in")]}, handler)]) as app:
        await app.enqueue("in")
        await app.settle()
        assert [told(error, kind) for error in errors] == [True] * 3
        assert await app.state.namespaces() == []


@pytest.mark.parametrize("kind", VALUES.values(), ids=VALUES)
async def test_an_answer_that_cannot_be_written_is_500_and_the_log_names_the_field(kind: Kind) -> None:
    async def handler(request: Any) -> Any:
        return whole(kind.content)

    async with harness([route("/answer", handler, "GET")]) as app:
        assert (await app.get("/answer")).status == 500
        [line] = [line for line in app.logs if line.level == "error"]
        assert kind.says in line.message and "$" in line.message


@pytest.mark.parametrize("value", KEPT.values(), ids=KEPT)
async def test_a_value_is_read_back_as_it_was_written(value: Any) -> None:
    async with harness([]) as app:
        await app.state.set("n", "k", whole(value))
        await app.state.update("n", "patched", whole(value))
        await app.enqueue("in", whole(value))
        found = [await app.state.get("n", "k"), await app.state.get("n", "patched"), app.queued("in")[0].data]
        assert [repr(each["a"]["b"]) for each in found] == [repr(value)] * 3


# ------------------------------------------------------------------------------- names that clients give

NAMES = {
    "a key over 380 bytes": (LONG_KEY, lambda ctx, name: ctx.state.set("n", name, 1)),
    "a key over 380 bytes, of umlauts": ("ü" * 191, lambda ctx, name: ctx.state.set("n", name, 1)),
    "a key made of it": ("k" * 379, lambda ctx, name: ctx.state.update("n", f"user-{name}", {"a": 1})),
    "a key made of it in capitals": ("k" * 379, lambda ctx, name: ctx.state.delete("n", f"U-{name.upper()}")),
    "a namespace over 128 bytes": ("n" * 129, lambda ctx, name: ctx.state.set(name, "k", 1)),
    "the engine's namespace": ("$runs", lambda ctx, name: ctx.state.set(name, "k", 1)),
    "a NUL in a namespace": ("a\0b", lambda ctx, name: ctx.state.set(name, "k", 1)),
    "a topic with a blank": ("my topic", lambda ctx, name: ctx.enqueue(name, 1)),
    "a topic with a slash": ("a/b", lambda ctx, name: ctx.enqueue(f"orders.{name}", 1)),
    "a topic over 128 bytes": ("t" * 129, lambda ctx, name: ctx.enqueue(name, 1)),
    "the engine's topic": ("$cron/x", lambda ctx, name: ctx.enqueue(name, 1)),
    "a group over 380 bytes": ("g" * 381, lambda ctx, name: ctx.enqueue("in", 1, group=name)),
    "a unique key over 380 bytes": ("u" * 381, lambda ctx, name: ctx.enqueue("in", 1, unique=name)),
    "a priority that is none": ("urgent", lambda ctx, name: ctx.enqueue("in", 1, priority=name)),
    "a delay that is none": ("soon", lambda ctx, name: ctx.enqueue("in", 1, delay=name)),
    "a header of the engine's": ("traceparent", lambda ctx, name: ctx.enqueue("in", 1, headers={name: "x"})),
    "an integer beyond 64 bits": (str(1 << 64), lambda ctx, name: ctx.state.set("n", "k", {"id": int(name)})),
    "NaN": ("nan", lambda ctx, name: ctx.enqueue("in", {"x": [float(name)]})),
}


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "def"])
@pytest.mark.parametrize(("text", "use"), NAMES.values(), ids=NAMES)
async def test_a_clients_text_that_no_store_takes_is_400_with_the_field(
    text: str, use: Any, blocking: bool
) -> None:
    places = {
        "path": lambda request: request.path_params["id"],
        "query": lambda request: request.query["id"],
        "body": lambda request: request.body["order"]["id"],
    }

    def handlers(read: Any) -> Any:
        async def handler(request: Any, ctx: Context) -> None:
            await use(ctx, read(request))

        return (lambda request, ctx: use(ctx, read(request)) and None) if blocking else handler

    steps = [
        make_step({"name": place, "triggers": [http("POST", f"/{place}/{{id}}")]}, handlers(read))
        for place, read in places.items()
    ]
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    async with harness(steps) as app:
        answers = (
            ("id", await app.post(f"/path/{quoted}")),
            ("id", await app.post(f"/query/7?a=b&id={quoted}")),
            ("order.id", await app.post("/body/7", json={"a": ["x"], "order": {"id": text}})),
        )
        for field, reply in answers:
            [(path, message)] = details(reply)
            assert (reply.status, path) == (400, field) and message
        assert await app.state.namespaces() == [] and app.queued("in") == []
        assert not [line for line in app.logs if line.level == "error"]


OTHERS = {
    "a group that is a number": (7, lambda ctx, part: ctx.enqueue("in", 1, group=part)),
    "a key that is a number": (7, lambda ctx, part: ctx.state.get("n", part)),
    "a key that is a list": (["x"], lambda ctx, part: ctx.state.set("n", part, 1)),
    "a namespace that is null": (None, lambda ctx, part: ctx.state.set(part, "k", 1)),
    "a priority of 256": (256, lambda ctx, part: ctx.enqueue("in", 1, priority=part)),
    "a limit of 0": ("0", lambda ctx, part: ctx.state.list("n", limit=int(part))),
    "a prefix that is a number": (7, lambda ctx, part: ctx.state.list("n", prefix=part)),
    "a header that is a number": (7, lambda ctx, part: ctx.enqueue("in", 1, headers={"x": part})),
    "a negative delay": (-1, lambda ctx, part: ctx.enqueue("in", 1, delay=part)),
    "a patch that is a text": ("x", lambda ctx, part: ctx.state.update("n", "k", part)),
    "a patch of unknown ops": ([{"type": "x"}], lambda ctx, part: ctx.state.update("n", "k", part)),
    "a topic that is an object": ({"x": 1}, lambda ctx, part: ctx.enqueue({"topic": part})),
}


@pytest.mark.parametrize(("part", "use"), OTHERS.values(), ids=OTHERS)
async def test_a_clients_value_of_the_wrong_type_is_400_with_the_field(part: Any, use: Any) -> None:
    async def handler(request: Any, ctx: Context) -> None:
        await use(ctx, request.body["part"])

    async with harness([route("/use", handler)]) as app:
        [(path, _)] = details(await app.post("/use", json={"part": part}))
        assert path == "part"


FAULTS = {
    "a long key of its own": lambda request, ctx: ctx.state.set("n", LONG_KEY, 1),
    "a bad topic of its own": lambda request, ctx: ctx.enqueue(f"my topic {request.path_params['id']}", 1),
    "an integer of its own": lambda request, ctx: ctx.state.set("n", "k", 1 << 64),
    "bytes": lambda request, ctx: ctx.state.set("n", "k", request.path_params["id"].encode()),
    "a payload of its own": lambda request, ctx: ctx.enqueue("in", "x" * (1 << 20)),
    "an empty key": lambda request, ctx: ctx.state.set("n", "", 1),
}


@pytest.mark.parametrize("use", FAULTS.values(), ids=FAULTS)
async def test_what_is_the_handlers_own_fault_stays_500(use: Any) -> None:
    async with harness([route("/use/{id}", lambda request, ctx: use(request, ctx) and None)]) as app:
        assert (await app.post("/use/7?q=x", json={"a": 1})).status == 500
        assert [line.level for line in app.logs if line.message.startswith("Request failed")] == ["error"]


async def test_a_body_that_grows_beyond_what_a_message_holds_is_413() -> None:
    async def send(request: Any, ctx: Context) -> None:
        await ctx.enqueue("in", request.body)

    async with harness([route("/send", send)]) as app:
        content = "[" + "1e15," * 100_000 + "1]"  # stored as 1000000000000000.0
        [(path, message)] = details(reply := await app.post("/send", content=content, headers=JSON))
        assert (reply.status, path) == (413, "") and "1048576" in message
        assert app.queued("in") == []


async def test_of_a_large_request_only_so_much_is_looked_through() -> None:
    async def handler(request: Any, ctx: Context) -> None:
        await ctx.state.set("n", request.body["id"], 1)

    async with harness([route("/set", handler)]) as app:
        for count, status in ((PARTS_MAX - 10, 400), (PARTS_MAX, 500)):
            body = {"id": LONG_KEY, "many": list(range(count))}
            assert (await app.post("/set", json=body)).status == status


async def test_headers_that_a_client_makes_too_large_are_413() -> None:
    async def send(request: Any, ctx: Context) -> None:
        await ctx.enqueue("in", 1, headers={"x": request.headers["x-note"]})

    async with harness([route("/send", send)]) as app:
        reply = await app.post("/send", headers={"x-note": "x" * 17_000})
        assert reply.status == 413 and "16384" in details(reply)[0][1]


async def test_a_deep_body_that_a_handler_wraps_too_often_is_400() -> None:
    async def handler(request: Any, ctx: Context) -> None:
        value = request.body
        for _ in range(60):
            value = {"wrapped": value}
        await ctx.state.set("n", "k", value)

    async with harness([route("/wrap", handler)]) as app:
        assert (await app.post("/wrap", content="[" * 190 + "]" * 190, headers=JSON)).status in (204, 400)
        [(path, message)] = details(await app.post("/wrap", content="[" * 200 + "]" * 200, headers=JSON))
        assert path == "" and "deep" in message
        assert (await app.post("/wrap", content="[[]]", headers=JSON)).status == 204


async def test_a_body_that_the_input_of_a_queue_refuses_is_400_with_its_fields() -> None:
    async def worker(data: Any) -> None: ...

    steps = [
        make_step({"name": "Worker", "triggers": [queue("in", input=dict[str, int])]}, worker),
        route("/send", lambda request, ctx: ctx.enqueue("in", request.body) and None),
        route("/own", lambda request, ctx: ctx.enqueue("in", {"own": "x"}) and None),
    ]
    async with harness(steps) as app:
        assert [path for path, _ in details(await app.post("/send", json={"n": 1, "m": "x"}))] == ["m"]
        assert (await app.post("/own", json={"n": 1})).status == 500


async def test_a_header_that_a_client_cannot_have_is_400() -> None:
    def redirect(request: Any) -> Any:
        return {"status": 302, "headers": {"location": f"/there/{request.path_params['id']}"}}

    async with harness([route("/to/{id}", redirect, "GET")]) as app:
        assert (await app.get("/to/7")).headers["location"] == "/there/7"
        assert [path for path, _ in details(await app.get("/to/a%0d%0aSet-Cookie:x"))] == ["id"]


async def test_numbers_that_a_query_schema_reads_can_be_stored() -> None:
    class Query(msgspec.Struct):
        n: int = 0
        x: float = 0.0

    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "x": {"type": "number"}}}
    model = pydantic.create_model("Model", n=(int, 0), x=(float, 0.0))

    async def handler(request: Any, ctx: Context) -> None:
        await ctx.state.set("n", "k", request.query_params)

    steps = [
        route(f"/{n}", handler, "GET", query_params=each) for n, each in enumerate((Query, schema, model))
    ]
    async with harness(steps) as app:
        for n in range(len(steps)):
            for query, field in ((f"n={1 << 64}", "n"), ("x=nan", "x"), ("x=inf", "x"), ("x=1e400", "x")):
                assert [path for path, _ in details(await app.get(f"/{n}?{query}"))] == [field], (n, query)
            assert (await app.get(f"/{n}?n={(1 << 64) - 1}&x=1e300")).status == 204


class Ratios(pydantic.BaseModel):
    a: list[float]


class Counts(pydantic.BaseModel):
    a: list[int]


READ_AS_NUMBERS = {
    "pydantic: NaN": (Ratios, '{"a": [0.5, "nan"]}', "a.1"),
    "pydantic: a long text": (Counts, '{"a": ["%s"]}' % 10**20, "a.0"),
    "msgspec: a key": (dict[int, int], '{"%s": 1}' % 10**20, ""),
    "msgspec: NaN as a key": (dict[float, int], '{"nan": 1}', ""),
}


@pytest.mark.parametrize(("schema", "content", "field"), READ_AS_NUMBERS.values(), ids=READ_AS_NUMBERS)
async def test_numbers_that_a_schema_reads_from_the_texts_of_a_body_can_be_stored(
    schema: Any, content: str, field: str
) -> None:
    async with harness([route("/typed", store, body_schema=schema)]) as app:
        assert [path for path, _ in details(await app.post("/typed", content=content, headers=JSON))] == [
            field
        ]
        good = content.replace(str(10**20), "7").replace("nan", "7")
        assert (await app.post("/typed", content=good, headers=JSON)).status == 200


class Limits(pydantic.BaseModel):
    limit: float = math.inf
    name: str = ""

    @pydantic.field_serializer("limit")
    def _limit(self, limit: float) -> float:
        serialized.append(limit)
        return limit


class Limited(msgspec.Struct):
    limit: float = math.inf
    name: str = ""


serialized: list[float] = []


def answer_nothing(request: Any) -> None:
    return None


async def test_a_default_that_cannot_be_stored_is_no_fault_of_the_client() -> None:
    bodies = [
        route(f"/body{n}", answer_nothing, body_schema=schema) for n, schema in enumerate((Limits, Limited))
    ]
    queries = [
        route(f"/query{n}", answer_nothing, method="GET", query_params=schema)
        for n, schema in enumerate((Limits, Limited))
    ]
    async with harness(bodies + queries) as app:
        for n in (0, 1):
            for content in ("{}", '{"name": "inf"}', '{"limit": 7}'):
                assert (await app.post(f"/body{n}", content=content, headers=JSON)).status == 204
            for query in ("", "?name=nan", "?limit=7"):
                assert (await app.get(f"/query{n}{query}")).status == 204
            assert [path for path, _ in details(await app.get(f"/query{n}?limit=inf"))] == ["limit"]


async def test_the_users_serializers_run_only_where_a_text_may_be_such_a_number() -> None:
    serialized.clear()
    async with harness([route("/limits", answer_nothing, body_schema=Limits)]) as app:
        assert (
            await app.post("/limits", content='{"limit": 7.5, "name": "Ada"}', headers=JSON)
        ).status == 204
        assert serialized == []


@pytest.mark.parametrize("key", [LONG_KEY, "k" * 4_000, ""])
async def test_no_key_beyond_the_limit_is_there_to_be_read(key: str) -> None:
    async with harness([]) as app:
        assert await app.state.get("n", key, "none") == "none"
        with pytest.raises(BadName) as caught:
            await app.state.set("n", key, 1)
        assert caught.value.field == "key" and isinstance(caught.value, InputError)
