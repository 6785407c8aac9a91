"""From route to answer: commit before the answer, errors, traces, limits of time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from web_kit import get, post, site, step

from iii.config import HttpConfig
from iii.errors import Conflict, QueueFull, StoreFull
from iii.model import Delete, LanePolicy, Txn
from iii.step import Response, http
from iii.store.contract import Limits


async def writes(request: Any, ctx: Any) -> Any:
    await ctx.state.set("orders", "a", {"n": 1})
    await ctx.enqueue("order.made", {"n": 1})


# ------------------------------------------------------------------------------------------ effects


@pytest.mark.parametrize("status", [200, 302, 404, 500, 503])
async def test_what_is_returned_commits_whatever_the_status(status: int) -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        await writes(request, ctx)
        return Response(status)

    async with site(post("/", handler)) as running:
        assert (await running.send("POST", "/")).status == status
        assert running.value("orders", "a") == {"n": 1}
        assert [each.payload for each in running.queued("order.made")] == [b'{"n":1}']


async def test_the_commit_is_there_before_the_answer() -> None:
    async with site(post("/", writes)) as running:
        sent = await running.endpoint.answer(running.request("POST", "/"))
        assert sent.status == 204
        assert running.store.get("orders", "a") is not None


class Oops(Exception):
    pass


RAISED: dict[str, BaseException] = {
    "an exception": Oops("secret"),
    "SystemExit": SystemExit(3),
    "CancelledError": asyncio.CancelledError(),
    "TimeoutError": TimeoutError("its own"),
    "a bare TimeoutError": TimeoutError(),
    "StopIteration": StopIteration(),
}


@pytest.mark.parametrize("error", RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_raising_writes_nothing_and_tells_nothing_but_the_trace_id(
    error: BaseException, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        await writes(request, ctx)
        raise error

    def plain(request: Any, ctx: Any) -> Any:
        ctx.state.set("orders", "a", {"n": 1})
        raise error

    async with site(post("/", handler if kind == "async" else plain)) as running:
        reply = await running.send("POST", "/")
        assert reply.status == 500
        trace_id = (reply.header("traceparent") or "").split("-")[1]
        assert reply.json() == {"error": "internal error", "traceId": trace_id}
        assert running.is_untouched
    assert "Request failed" in caplog.text


async def test_no_effects_no_commit() -> None:
    async def handler() -> str:
        return "ok"

    async with site(get("/", handler)) as running:
        before = running.store.stats()
        assert (await running.send("GET", "/")).status == 200
        assert running.store.stats() == before


async def test_a_lost_race_for_a_version_is_409_and_writes_nothing() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handler(request: Any, ctx: Any) -> Any:
        await ctx.state.set("orders", "a", {"by": "slow"}, if_version=0)
        await ctx.enqueue("order.made", {})
        begun.set()
        await go.wait()

    async with site(post("/slow", handler), post("/fast", writes, name="Fast")) as running:
        slow = asyncio.ensure_future(running.send("POST", "/slow"))
        await begun.wait()
        assert (await running.send("POST", "/fast")).status == 204
        go.set()
        reply = await slow
        assert reply.status == 409
        assert reply.json()["error"]
        assert running.value("orders", "a") == {"n": 1}
        assert len(running.queued("order.made")) == 1


async def test_a_full_queue_is_503_with_retry_after_and_writes_nothing() -> None:
    async with site(post("/", writes), policies=[LanePolicy("order.made", "", max_depth=1)]) as running:
        assert (await running.send("POST", "/")).status == 204
        await running.store.commit(Txn((Delete("orders", "a"),)))
        reply = await running.send("POST", "/")
        assert (reply.status, reply.header("retry-after")) == (503, "1")
        assert reply.json()["traceId"]
        assert running.value("orders", "a") is None


@pytest.mark.parametrize(
    ("error", "status"), [(StoreFull("x"), 503), (QueueFull("x"), 503), (Conflict("x"), 409)]
)
async def test_a_refusal_that_a_handler_lets_through_is_answered_like_the_commits(
    error: Exception, status: int
) -> None:
    async def handler() -> None:
        raise error

    async with site(get("/", handler)) as running:
        reply = await running.send("GET", "/")
        assert reply.status == status
        assert b"x" not in reply.body.replace(b"next", b"")


async def test_a_txn_that_is_too_large_is_500() -> None:
    async def handler(request: Any, ctx: Any) -> None:
        for number in range(30):
            await ctx.state.set("orders", str(number), number)

    async with site(post("/", handler), limits=Limits(ops_max=40)) as running:
        assert (await running.send("POST", "/")).status == 500
        assert running.is_untouched


async def test_a_plain_def_runs_in_a_thread_with_a_blocking_context() -> None:
    def handler(request: Any, ctx: Any) -> Any:
        ctx.state.set("orders", "a", 1)
        ctx.enqueue("order.made", {"n": 1})
        return ctx.state.get("orders", "a")

    async with site(post("/", handler)) as running:
        assert (await running.send("POST", "/")).json() == 1
        assert running.value("orders", "a") == 1


# ------------------------------------------------------------------------------- methods and paths


async def test_an_unknown_path_is_404_and_an_unknown_method_405_with_allow() -> None:
    async with site(step(lambda: "ok", http("GET", "/a"), http("POST", "/a"))) as running:
        reply = await running.send("GET", "/b")
        assert (reply.status, reply.json()) == (404, {"error": "not found"})
        reply = await running.send("DELETE", "/a")
        assert (reply.status, reply.header("allow")) == (405, "GET, HEAD, OPTIONS, POST")
        assert reply.json()["error"] == "DELETE is not allowed here; allowed: GET, HEAD, OPTIONS, POST"
        assert (await running.send("GET", "/a/")).status == 404
        assert (await running.send("GET", "/%ff")).status == 400


async def test_options_tells_the_methods_unless_a_step_answers_it() -> None:
    options = step(lambda: "mine", http("OPTIONS", "/mine"), name="Mine")
    async with site(get("/a/{id}", lambda: "ok"), options) as running:
        reply = await running.send("OPTIONS", "/a/1")
        assert (reply.status, reply.header("allow"), reply.body) == (204, "GET, HEAD, OPTIONS", b"")
        assert (await running.send("OPTIONS", "*")).status == 204
        assert (await running.send("OPTIONS", "/b")).status == 404
        assert (await running.send("OPTIONS", "/mine")).body == b"mine"


async def test_head_is_get_without_the_body() -> None:
    async def handler(request: Any) -> Any:
        return Response(200, {"method": request.method}, {"x-a": "1"})

    async with site(get("/", handler)) as running:
        reply = await running.send("HEAD", "/")
        assert (reply.status, reply.body, reply.header("x-a")) == (200, b"", "1")
        assert reply.header("content-length") == str(len(b'{"method":"HEAD"}'))


async def test_a_step_of_its_own_answers_head() -> None:
    head = step(lambda: Response(200, None, {"x-own": "1"}), http("HEAD", "/"), name="Head")
    async with site(get("/", lambda: "get"), head) as running:
        assert (await running.send("HEAD", "/")).header("x-own") == "1"


async def test_several_triggers_of_one_step_are_told_apart() -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        return [ctx.trigger.index, ctx.trigger.method]

    async with site(step(handler, http("GET", "/a"), http("PUT", "/a"))) as running:
        assert (await running.send("GET", "/a")).json() == [0, "GET"]
        assert (await running.send("PUT", "/a")).json() == [1, "PUT"]


# --------------------------------------------------------------------------------------------- traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_the_trace_comes_in_goes_to_messages_and_comes_out() -> None:
    async with site(post("/", writes)) as running:
        reply = await running.send("POST", "/", headers={"traceparent": PARENT})
        out = reply.header("traceparent") or ""
        assert out.split("-")[1] == PARENT.split("-")[1]
        assert out.split("-")[2] != PARENT.split("-")[2]
        (message,) = running.queued("order.made")
        assert message.headers["traceparent"] == out
        (change,) = await running.store.changes(0, 10, 0)
        assert change.headers["traceparent"] == out


@pytest.mark.parametrize("parent", ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
async def test_a_bad_trace_starts_a_new_one(parent: str) -> None:
    async with site(get("/", lambda: "ok")) as running:
        reply = await running.send("GET", "/", headers={"traceparent": parent})
        assert len((reply.header("traceparent") or "").split("-")[1]) == 32


async def test_a_client_cannot_set_the_counts_of_its_chain() -> None:
    async with site(post("/", writes)) as running:
        counts = {"iii-hops": "99:1", "iii-generation": "99", "iii-depth": "99"}
        await running.send("POST", "/", headers={"traceparent": PARENT, **counts})
        assert running.queued("order.made")[0].headers.keys() == {"traceparent"}


# ------------------------------------------------------------------------------------- time and drain


async def test_a_late_handler_is_504_and_writes_nothing() -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    async def handler(request: Any, ctx: Any) -> Any:
        try:
            await writes(request, ctx)
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.append("yes")

    async with site(post("/", handler), config=HttpConfig(timeout_ms=2_000)) as running:
        asked = asyncio.ensure_future(running.send("POST", "/"))
        await begun.wait()
        running.clock.advance(1_999)
        assert not asked.done()
        running.clock.advance(1)
        reply = await asked
        assert reply.status == 504
        assert set(reply.json()) == {"error", "traceId"}
        assert running.is_untouched
    assert ended == ["yes"]


async def test_a_late_thread_is_504_and_writes_nothing_later() -> None:
    begun, done = asyncio.Event(), asyncio.Event()
    go = threading.Event()
    loop = asyncio.get_running_loop()
    errors: list[str] = []

    def handler(request: Any, ctx: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)
        try:
            ctx.state.set("orders", "a", 1)
        except Exception as error:
            errors.append(type(error).__name__)
        loop.call_soon_threadsafe(done.set)

    async with site(post("/", handler), config=HttpConfig(timeout_ms=2_000)) as running:
        asked = asyncio.ensure_future(running.send("POST", "/"))
        await begun.wait()
        running.clock.advance(2_000)
        assert (await asked).status == 504
        go.set()
        await done.wait()
        assert running.is_untouched
    assert errors == ["HandlerEnded"]


async def test_a_submitted_commit_is_answered_although_its_time_is_over() -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        await writes(request, ctx)
        running.clock.advance(60_000)
        return "done"

    async with site(post("/", handler)) as running:
        assert (await running.send("POST", "/")).status == 200
        assert running.value("orders", "a") == {"n": 1}


async def test_a_cancelled_request_writes_nothing() -> None:
    begun = asyncio.Event()

    async def handler(request: Any, ctx: Any) -> Any:
        await writes(request, ctx)
        begun.set()
        await asyncio.Event().wait()

    async with site(post("/", handler)) as running:
        asked = asyncio.ensure_future(running.send("POST", "/"))
        await begun.wait()
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        assert asked.cancelled()
        assert running.is_untouched


async def test_an_endpoint_answers_while_it_drains_and_refuses_once_it_is_shut() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handler(request: Any, ctx: Any) -> Any:
        begun.set()
        await go.wait()
        return "done"

    async with site(post("/", handler), get("/quick", lambda: "quick")) as running:
        first = asyncio.ensure_future(running.send("POST", "/"))
        await begun.wait()
        running.endpoint.drain()
        assert (await running.send("GET", "/quick")).body == b"quick"
        running.endpoint.shut()
        reply = await running.send("POST", "/")
        assert (reply.status, reply.header("retry-after")) == (503, "1")
        go.set()
        assert (await first).body == b"done"


async def test_health_says_ok_and_draining_unless_a_step_takes_it() -> None:
    async with site(get("/a", lambda: "ok")) as running:
        reply = await running.send("GET", "/health")
        assert (reply.status, reply.json()) == (200, {"status": "ok"})
        assert (await running.send("HEAD", "/health")).status == 200
        assert (await running.send("POST", "/health")).status == 405
        running.endpoint.drain()
        reply = await running.send("GET", "/health")
        assert (reply.status, reply.json()) == (503, {"status": "draining"})
    async with site(get("/health", lambda: "mine")) as running:
        assert (await running.send("GET", "/health")).body == b"mine"
