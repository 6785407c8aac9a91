"""Middleware and conditions: around the handler, in order, sharing its context."""

from __future__ import annotations

from typing import Any

import pytest
from web_kit import get, post, site

from iii.step import Response


async def writes(request: Any, ctx: Any) -> Any:
    await ctx.state.set("orders", "a", {"n": 1})
    await ctx.enqueue("order.made", {"n": 1})


class Oops(Exception):
    pass


async def test_middleware_runs_in_order_around_the_handler_and_shares_its_context() -> None:
    calls: list[str] = []

    async def outer(request: Any, ctx: Any, next: Any) -> Any:
        calls.append("outer in")
        response = await next()
        calls.append("outer out")
        return Response(response.status, response.body, {**(response.headers or {}), "x-outer": "1"})

    async def inner(request: Any, ctx: Any, next: Any) -> Any:
        calls.append("inner in")
        await ctx.state.set("audit", "a", request.body)
        return await next()

    async def handler(request: Any, ctx: Any) -> Any:
        calls.append("handler")
        return {"status": 201, "body": await ctx.state.get("audit", "a"), "headers": {"x-own": "2"}}

    async with site(post("/", handler, middleware=[outer, inner])) as running:
        reply = await running.send("POST", "/", json={"n": 1})
        assert (reply.status, reply.json()) == (201, {"n": 1})
        assert (reply.header("x-outer"), reply.header("x-own")) == ("1", "2")
        assert running.value("audit", "a") == {"n": 1}
    assert calls == ["outer in", "inner in", "handler", "outer out"]


async def tuple_header() -> Any:
    return Response(200, "ok", {"x-many": ("a", "b")})


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (lambda: {"n": 1}, 200),
        (lambda: None, 204),
        (lambda: {"status": 201, "body": "x"}, 201),
        (tuple_header, 200),
    ],
    ids=["dict", "None", "status dict", "Response"],
)
async def test_middleware_adds_to_the_headers_of_any_answer(handler: Any, status: int) -> None:
    async def outer(request: Any, ctx: Any, next: Any) -> Any:
        response = await next()
        response.headers["x-outer"] = "1"
        response.headers.setdefault("x-many", []).append("c")
        return response

    async def inner(request: Any, ctx: Any, next: Any) -> Any:
        return await next()

    async with site(get("/", handler, middleware=[outer, inner])) as running:
        reply = await running.send("GET", "/")
        assert (reply.status, reply.header("x-outer")) == (status, "1")
        assert reply.headers("x-many")[-1] == "c"


async def test_headers_that_a_middleware_adds_are_of_this_answer_alone() -> None:
    shared = {"x-own": "2"}

    async def middle(request: Any, ctx: Any, next: Any) -> Any:
        response = await next()
        response.headers["x-user"] = request.path_params["user"]
        return response

    async with site(get("/:user", lambda: Response(200, "ok", shared), middleware=[middle])) as running:
        assert (await running.send("GET", "/ann")).header("x-user") == "ann"
    assert shared == {"x-own": "2"}


async def test_middleware_answers_itself_and_what_it_wrote_commits() -> None:
    async def guard(request: Any, ctx: Any, next: Any) -> Any:
        if request.headers.get("authorization") != "me":
            await ctx.state.set("refused", "last", request.path)
            return {"status": 401, "body": {"error": "who are you?"}}
        return await next()

    async with site(post("/", writes, middleware=[guard])) as running:
        reply = await running.send("POST", "/")
        assert (reply.status, reply.json()) == (401, {"error": "who are you?"})
        assert running.value("refused", "last") == "/"
        assert running.value("orders", "a") is None
        assert (await running.send("POST", "/", headers={"Authorization": "me"})).status == 204
        assert running.value("orders", "a") == {"n": 1}


async def test_middleware_sees_the_handlers_exception_and_may_answer_for_it() -> None:
    async def rescue(request: Any, ctx: Any, next: Any) -> Any:
        try:
            return await next()
        except Oops:
            return Response(418)

    async def handler() -> None:
        raise Oops

    async with site(get("/", handler, middleware=[rescue])) as running:
        assert (await running.send("GET", "/")).status == 418


async def test_a_plain_def_middleware_passes_on() -> None:
    def middle(request: Any, ctx: Any, next: Any) -> Any:
        ctx.state.set("audit", "a", 1)
        return next()

    async with site(get("/", lambda: "ok", middleware=[middle])) as running:
        assert (await running.send("GET", "/")).body == b"ok"
        assert running.value("audit", "a") == 1


async def test_middleware_that_forgets_its_answer_or_calls_next_twice_is_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def forgets(request: Any, ctx: Any, next: Any) -> None:
        await next()

    async def twice(request: Any, ctx: Any, next: Any) -> Any:
        await next()
        return await next()

    for middle in (forgets, twice):
        async with site(post("/", writes, middleware=[middle])) as running:
            assert (await running.send("POST", "/")).status == 500
            assert running.is_untouched
        assert middle.__name__ in caplog.text


async def test_a_condition_that_is_false_is_404() -> None:
    async def wanted(request: Any, ctx: Any) -> bool:
        return bool(request.body["want"])

    async with site(post("/", writes, condition=wanted)) as running:
        reply = await running.send("POST", "/", json={"want": 0})
        assert (reply.status, reply.json()) == (404, {"error": "not found"})
        assert running.is_untouched
        assert (await running.send("POST", "/", json={"want": 1})).status == 204
    async with site(post("/", writes, condition=lambda request: False)) as running:
        assert (await running.send("POST", "/")).status == 404
