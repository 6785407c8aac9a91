"""Over real sockets: an answer leaves when its effects are on disk, though no task waits for that."""

from __future__ import annotations

import asyncio
from typing import Any

from deadline import until
from http_kit import Serve, Serving, Wire
from web_kit import get, post, step

from iii.config import CorsConfig, HttpConfig
from iii.model import Put, Txn
from iii.step import http


async def writes(request: Any, ctx: Any) -> Any:
    await ctx.state.set("orders", "a", {"n": 1}, if_version=0)
    return {"ok": True}


STEPS = post("/orders", writes, name="Writes"), get("/ok", lambda: "ok", name="Fine")


async def asked(running: Serving, method: str = "POST", *lines: str) -> Wire:
    """A connection whose request has been handled, and waits for its commit."""
    wire = await running.connect()
    wire.send(f"{method} /orders HTTP/1.1", "Host: a", *lines)
    await asyncio.to_thread(until, lambda: running.site.endpoint.in_flight == 1)
    return wire


async def test_an_answer_leaves_when_its_effects_are_on_disk(serving: Serve) -> None:
    async with serving(*STEPS) as running:
        running.site.store.hold()
        wire, other = await asked(running), await running.connect()
        other.send("GET /ok HTTP/1.1", "Host: a")
        assert (await other.reply())[2] == b"ok", "others are answered meanwhile"
        reply = asyncio.ensure_future(wire.reply())
        done, _ = await asyncio.wait((reply,), timeout=0.05)
        assert not done and running.site.value("orders", "a") is None
        running.site.store.go_on()
        status, headers, body = await reply
        assert (status, body) == (200, b'{"ok":true}') and "traceparent" in headers
        assert running.site.value("orders", "a") == {"n": 1}
        wire.send("GET /ok HTTP/1.1", "Host: a")
        assert (await wire.reply())[0] == 200, "the connection goes on"
        wire.writer.close()
        other.writer.close()


async def test_a_refused_commit_is_told(serving: Serve) -> None:
    async with serving(*STEPS) as running:
        running.site.store.hold()
        wire = await asked(running)
        running.site.store.overtake(Txn([Put("orders", "a", b"2")]))
        running.site.store.go_on()
        assert (await wire.reply())[0] == 409
        assert running.site.value("orders", "a") == 2
        wire.writer.close()


async def test_what_is_pipelined_behind_a_commit_is_answered_after_it(serving: Serve) -> None:
    async with serving(*STEPS) as running:
        running.site.store.hold()
        wire = await asked(running)
        wire.send("GET /ok HTTP/1.1", "Host: a")
        wire.send("GET /none HTTP/1.1", "Host: a", "Connection: close")
        running.site.store.go_on()
        assert [(await wire.reply())[0] for _ in range(3)] == [200, 200, 404]
        assert await wire.end() == b""


async def test_a_client_that_leaves_does_not_undo_what_it_asked_for(serving: Serve) -> None:
    async with serving(*STEPS) as running:
        running.site.store.hold()
        wire = await asked(running)
        wire.writer.close()
        await wire.writer.wait_closed()
        running.site.store.go_on()
        await asyncio.to_thread(until, lambda: running.site.endpoint.in_flight == 0)
        assert running.site.value("orders", "a") == {"n": 1}


async def test_a_drain_waits_for_a_commit_even_where_its_client_left(serving: Serve) -> None:
    async with serving(*STEPS) as running:
        running.site.store.hold()
        stays, leaves = await asked(running), await running.connect()
        leaves.send("POST /orders HTTP/1.1", "Host: a")
        await asyncio.to_thread(until, lambda: running.site.endpoint.in_flight == 2)
        leaves.writer.close()
        running.site.endpoint.drain()
        running.shutdown.set()
        done, _ = await asyncio.wait((running.server,), timeout=0.05)
        assert not done
        running.site.store.go_on()
        status, headers, _ = await stays.reply()
        assert (status, headers["connection"]) == (200, "close")
        await asyncio.wait_for(running.server, 5)
        assert running.site.endpoint.in_flight == 0
        await stays.end()


async def test_a_store_without_room_is_waited_for(serving: Serve) -> None:
    async with serving(*STEPS) as running:
        running.site.store.is_full = True
        wire = await running.connect()
        wire.send("POST /orders HTTP/1.1", "Host: a")
        assert (await wire.reply())[0] == 200
        assert running.site.value("orders", "a") == {"n": 1}
        wire.writer.close()


async def test_head_of_a_step_that_writes_has_the_headers_alone(serving: Serve) -> None:
    async with serving(step(writes, http("GET", "/orders"), name="Reads")) as running:
        wire = await running.connect()
        wire.send("HEAD /orders HTTP/1.1", "Host: a", "Connection: close")
        answered = await wire.end()
        assert answered.endswith(b"\r\n\r\n") and b"content-length: 11\r\n" in answered


async def test_cors_headers_are_on_an_answer_that_was_committed(serving: Serve) -> None:
    config = HttpConfig(cors=CorsConfig(origins=("https://a.example",)))
    async with serving(*STEPS, config=config) as running:
        wire = await running.connect()
        wire.send("POST /orders HTTP/1.1", "Host: a", "Origin: https://a.example")
        assert (await wire.reply())[1]["access-control-allow-origin"] == "https://a.example"
        wire.writer.close()
