"""Idempotency-Key on POST: one effect, one answer, however often and from wherever it is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from web_kit import Reply, Site, get, post, site, step

from iii.config import HttpConfig
from iii.step import Response, http, queue
from iii.store.memory import MemoryTables
from iii.web.idempotency import idempotency_policies

KEY = {"Idempotency-Key": "k-1"}


class Counting:
    """A handler that counts its runs in memory and in the state."""

    def __init__(self, *answers: object) -> None:
        self.runs = 0
        self.answers = list(answers)
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def __call__(self, request: Any, ctx: Any) -> object:
        self.runs += 1
        run = self.runs
        await ctx.state.update("orders", "count", [{"type": "increment", "path": "n", "by": 1}])
        self.begun.set()
        await self.go.wait()
        answer = self.answers.pop(0) if self.answers else Response(201, {"run": run}, {"x-run": str(run)})
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_the_first_answer_is_replayed_and_its_effects_are_not_repeated() -> None:
    handler = Counting()
    async with site(post("/orders", handler)) as running:
        first = await running.send("POST", "/orders", json={"a": 1}, headers=KEY)
        again = await running.send("POST", "/orders", json={"a": 1}, headers=KEY)
        assert (first.status, first.json(), first.header("idempotency-replayed")) == (201, {"run": 1}, None)
        assert (again.status, again.body, again.header("x-run")) == (201, first.body, "1")
        assert again.header("idempotency-replayed") == "true"
        assert again.header("content-type") == "application/json"
        assert again.header("content-length") == str(len(first.body))
        assert again.header("traceparent") != first.header("traceparent")
        assert running.value("orders", "count") == {"n": 1}
    assert handler.runs == 1


async def test_another_key_no_key_or_another_path_runs_again() -> None:
    handler = Counting()
    async with site(post("/orders/{id}", handler)) as running:
        for headers, path in (
            (KEY, "1"),
            ({"Idempotency-Key": "k-2"}, "1"),
            ({}, "1"),
            ({}, "1"),
            (KEY, "2"),
        ):
            reply = await running.send("POST", f"/orders/{path}", json={}, headers=headers)
            assert reply.header("idempotency-replayed") is None
    assert handler.runs == 5


async def test_one_users_key_does_not_replay_anothers_answer() -> None:
    handler = Counting()
    async with site(post("/", handler)) as running:
        for user in ("ann", "bob"):
            headers = KEY | {"Authorization": user}
            assert (await running.send("POST", "/", headers=headers)).header("idempotency-replayed") is None
    assert handler.runs == 2


@pytest.mark.parametrize("other", [{"json": {"a": 2}}, {"json": {"a": 1}, "target": "/?b=1"}, {}])
async def test_the_same_key_with_another_request_is_422(other: dict[str, Any]) -> None:
    handler = Counting()
    async with site(post("/", handler)) as running:
        await running.send("POST", "/", json={"a": 1}, headers=KEY)
        target = other.pop("target", "/")
        reply = await running.send("POST", target, headers=KEY, **other)
        assert reply.status == 422
        assert "Idempotency-Key" in reply.json()["error"]
        assert running.value("orders", "count") == {"n": 1}
    assert handler.runs == 1


async def test_a_second_request_waits_for_the_first() -> None:
    handler = Counting()
    handler.go.clear()
    async with site(post("/", handler)) as running:
        asked = [asyncio.ensure_future(running.send("POST", "/", headers=KEY)) for _ in range(5)]
        await handler.begun.wait()
        handler.go.set()
        replies = await asyncio.gather(*asked)
        assert [reply.body for reply in replies] == [b'{"run":1}'] * 5
        assert [reply.header("idempotency-replayed") for reply in replies].count("true") == 4
    assert handler.runs == 1


async def test_one_that_waits_too_long_for_the_first_is_409() -> None:
    handler = Counting()
    handler.go.clear()
    async with site(post("/", handler), config=HttpConfig(timeout_ms=1_000)) as running:
        first = asyncio.ensure_future(running.send("POST", "/", headers=KEY))
        await handler.begun.wait()
        running.clock.advance(500)
        second = asyncio.ensure_future(running.send("POST", "/", headers=KEY))
        third = asyncio.ensure_future(running.send("POST", "/", json={"other": 1}, headers=KEY))
        assert (await third).status == 422
        running.clock.advance(500)
        assert (await first).status == 504
        # The first gave up, so the second runs itself.
        handler.begun.clear()
        await handler.begun.wait()
        handler.go.set()
        assert (await second).status == 201
    assert handler.runs == 2


async def test_waiting_for_a_first_one_that_goes_on_is_409_in_the_end() -> None:
    """The first began later than the second, as when the second was held up by its middleware."""
    handler = Counting()
    handler.go.clear()
    second_may_go, second_began = asyncio.Event(), asyncio.Event()

    async def holds_up(request: Any, ctx: Any, next: Any) -> Any:
        if "x-late" in request.headers:
            second_began.set()
            await second_may_go.wait()
        return await next()

    async with site(
        post("/", handler, middleware=[holds_up]), config=HttpConfig(timeout_ms=1_000)
    ) as running:
        second = asyncio.ensure_future(running.send("POST", "/", headers=KEY | {"x-late": "1"}))
        await second_began.wait()
        running.clock.advance(900)
        first = asyncio.ensure_future(running.send("POST", "/", headers=KEY))
        await handler.begun.wait()
        second_may_go.set()
        await asyncio.wait([second], timeout=0)
        running.clock.advance(100)
        reply = await second
        assert (reply.status, reply.header("retry-after")) == (409, "1")
        handler.go.set()
        assert (await first).status == 201
    assert handler.runs == 1


@pytest.mark.parametrize("failing", [Response(503, "busy"), RuntimeError("no")])
async def test_what_failed_with_5xx_is_not_kept(failing: object) -> None:
    handler = Counting(failing)
    async with site(post("/", handler)) as running:
        assert (await running.send("POST", "/", headers=KEY)).status >= 500
        reply = await running.send("POST", "/", headers=KEY)
        assert (reply.status, reply.header("idempotency-replayed")) == (201, None)
        assert (await running.send("POST", "/", headers=KEY)).header("idempotency-replayed") == "true"


@pytest.mark.parametrize(
    "answer", [Response(404, {"error": "gone"}), Response(204), Response(200, b"\x00\xff")]
)
async def test_every_answer_below_500_is_kept(answer: Response) -> None:
    handler = Counting(answer)
    async with site(post("/", handler)) as running:
        first = await running.send("POST", "/", headers=KEY)
        again = await running.send("POST", "/", headers=KEY)
        assert (again.status, again.body) == (first.status, first.body)
        assert again.header("content-type") == first.header("content-type")
    assert handler.runs == 1


async def test_a_refused_request_is_not_kept() -> None:
    handler = Counting()
    async with site(post("/", handler, body_schema={"type": "object"})) as running:
        assert (await running.send("POST", "/", json=[1], headers=KEY)).status == 400
        assert (await running.send("POST", "/", json={}, headers=KEY)).status == 201


async def test_middleware_runs_on_a_replay_too_and_may_refuse_it() -> None:
    handler = Counting()
    seen: list[object] = []

    async def guard(request: Any, ctx: Any, next: Any) -> Any:
        if request.cookies.get("session") != "good":
            return Response(401)
        response = await next()
        seen.append(response.status)
        return response

    async with site(post("/", handler, middleware=[guard])) as running:
        good = KEY | {"Cookie": "session=good"}
        assert (await running.send("POST", "/", headers=KEY)).status == 401
        first = await running.send("POST", "/", headers=good)
        assert (await running.send("POST", "/", headers=KEY)).status == 401
        again = await running.send("POST", "/", headers=good)
        assert (again.body, again.header("idempotency-replayed")) == (first.body, "true")
    assert seen == [201, 201]
    assert handler.runs == 1


async def test_a_middleware_that_turns_the_replay_away_has_the_last_word() -> None:
    handler = Counting()

    async def judge(request: Any, ctx: Any, next: Any) -> Any:
        response = await next()
        assert response.body == {"run": 1}
        return Response(403) if "x-bad" in request.headers else response

    async with site(post("/", handler, middleware=[judge])) as running:
        await running.send("POST", "/", headers=KEY)
        assert (await running.send("POST", "/", headers=KEY | {"x-bad": "1"})).status == 403
        assert (await running.send("POST", "/", headers=KEY)).json() == {"run": 1}


async def test_headers_that_repeat_are_replayed_as_often_as_they_were_sent() -> None:
    async def handler() -> Response:
        return Response(201, {}, {"Link": ["<a>", "<b>"], "X-A": "1"})

    async def passes_on(request: Any, ctx: Any, next: Any) -> Any:
        return await next()

    for middleware in ([], [passes_on]):
        async with site(post("/", handler, middleware=middleware)) as running:
            first, again = [await running.send("POST", "/", headers=KEY) for _ in range(2)]
            assert again.header("idempotency-replayed") == "true"
            for reply in (first, again):
                assert reply.headers("link") == ["<a>", "<b>"]
                assert reply.header("x-a") == "1"


async def test_a_middleware_that_changes_a_replay_keeps_headers_that_repeat() -> None:
    async def handler() -> Response:
        return Response(201, {}, {"Link": ["<a>", "<b>"]})

    async def teapot(request: Any, ctx: Any, next: Any) -> Any:
        response = await next()
        return Response(418, response.body, response.headers) if "x-tea" in request.headers else response

    async with site(post("/", handler, middleware=[teapot])) as running:
        await running.send("POST", "/", headers=KEY)
        changed = await running.send("POST", "/", headers=KEY | {"x-tea": "1"})
        assert (changed.status, changed.headers("link")) == (418, ["<a>", "<b>"])


async def _raced(one: Site, other: Site, first: Counting, second: Counting) -> tuple[Reply, Reply]:
    """Both instances run their handler for one key; `first` commits first."""
    asked = [asyncio.ensure_future(each.send("POST", "/", headers=KEY)) for each in (one, other)]
    await first.begun.wait()
    await second.begun.wait()
    first.go.set()
    reply = await asked[0]
    second.go.set()
    return reply, await asked[1]


async def test_of_two_instances_one_commits_and_the_other_replays_it() -> None:
    tables = MemoryTables()
    first, second = Counting(Response(200, "first")), Counting(Response(200, "second"))
    first.go.clear()
    second.go.clear()
    async with site(post("/", first), tables=tables) as one, site(post("/", second), tables=tables) as other:
        won, lost = await _raced(one, other, first, second)
        assert (won.body, won.header("idempotency-replayed")) == (b"first", None)
        assert (lost.body, lost.header("idempotency-replayed")) == (b"first", "true")
        assert one.value("orders", "count") == {"n": 1}
    assert (first.runs, second.runs) == (1, 1)


async def test_a_key_may_be_used_again_after_its_time() -> None:
    handler = Counting()
    async with site(post("/", handler), config=HttpConfig(idempotency_ttl_ms=60_000)) as running:
        await running.send("POST", "/", headers=KEY)
        running.clock.advance(59_000)
        assert (await running.send("POST", "/", headers=KEY)).header("idempotency-replayed") == "true"
        running.clock.advance(2_000)
        assert (await running.send("POST", "/", headers=KEY)).header("idempotency-replayed") is None
    assert handler.runs == 2


async def test_an_answer_too_large_to_keep_is_sent_once_and_its_effects_still_happen_once() -> None:
    handler = Counting("x" * 2_000)
    async with site(post("/", handler), config=HttpConfig(idempotency_body_bytes_max=1_999)) as running:
        assert len((await running.send("POST", "/", headers=KEY)).body) == 2_000
        again = await running.send("POST", "/", headers=KEY)
        assert (again.status, again.header("idempotency-replayed")) == (409, "true")
        assert "answered with 200" in again.json()["error"]
        assert "http.max_idempotency_body" in again.json()["error"]
        assert running.value("orders", "count") == {"n": 1}
    assert handler.runs == 1


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_of_the_wrong_length_is_400(key: str) -> None:
    handler = Counting()
    async with site(post("/", handler)) as running:
        reply = await running.send("POST", "/", headers={"Idempotency-Key": key})
        assert (reply.status, reply.json()["details"][0]["path"]) == (400, "headers.idempotency-key")
    assert handler.runs == 0


async def test_other_methods_than_post_have_no_keys() -> None:
    handler = Counting()
    async with site(get("/", handler)) as running:
        for _ in range(2):
            assert (await running.send("GET", "/", headers=KEY)).header("idempotency-replayed") is None
    assert handler.runs == 2


def test_a_lane_is_kept_for_each_step_that_takes_posts() -> None:
    steps = [
        post("/a", lambda: None, name="A"),
        get("/b", lambda: None, name="B"),
        step(lambda: None, queue("t"), http("GET", "/c"), http("POST", "/c"), name="C"),
    ]
    policies = idempotency_policies(steps, 1_000)
    assert [(p.topic, p.step, p.retention_ms) for p in policies] == [
        ("$http/A", "", 1_000),
        ("$http/C", "", 1_000),
    ]
