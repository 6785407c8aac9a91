"""Idempotency-Key: nobody gets another's answer or another's headers, and what is kept is bounded."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import h2.events
import httpx
import msgspec
import pytest
from http2_kit import http2
from http_kit import Serve
from web_kit import Reply, Site, post, site

from iii.config import HttpConfig
from iii.model import Discard, Enqueue, Txn, Unique
from iii.step import Response
from iii.store.contract import Limits
from iii.store.memory import MemoryTables
from iii.web.idempotency import OWN, KeptAnswer

KEY = ("Idempotency-Key", "k-1")


class Counting:
    def __init__(self, body: Any = None, headers: Any = None) -> None:
        self.runs, self._body, self._headers = 0, body, headers

    async def __call__(self) -> Response:
        self.runs += 1
        return Response(201, self.runs if self._body is None else self._body, self._headers)


async def send(running: Site, *headers: tuple[str, str], key: str = "k-1") -> Reply:
    return await running.send("POST", "/", headers=[("Idempotency-Key", key), *headers])


def is_replay(reply: Reply) -> bool:
    return reply.header("idempotency-replayed") == "true"


Given = Sequence[tuple[str, str]]
STRANGERS: dict[str, tuple[Given, Given]] = {
    "cookies": ([("Cookie", "session=alice")], [("Cookie", "session=bob")]),
    "a cookie and none": ([("Cookie", "session=alice")], []),
    "a second cookie header": (
        [("Cookie", "a=1"), ("Cookie", "s=alice")],
        [("Cookie", "a=1"), ("Cookie", "s=b")],
    ),
    "the same in other headers": (
        [("Authorization", "a"), ("Cookie", "b")],
        [("Authorization", "b"), ("Cookie", "a")],
    ),
    "authorization": ([("Authorization", "alice")], [("Authorization", "bob")]),
    "the first of two authorizations": (
        [("Authorization", "alice"), ("Authorization", "x")],
        [("Authorization", "bob"), ("Authorization", "x")],
    ),
    "a header that says who asks": ([("X-Api-Key", "alice")], [("X-Api-Key", "bob")]),
    "one of them and another": ([("X-Api-Key", "alice")], [("X-User", "alice")]),
    "the same twice": ([("X-Api-Key", "a"), ("X-Api-Key", "b")], [("X-Api-Key", "b")]),
}


@pytest.mark.parametrize(("one", "other"), STRANGERS.values(), ids=STRANGERS)
async def test_who_asks_in_another_way_gets_no_answer_of_somebody_else(one: Given, other: Given) -> None:
    handler = Counting()
    config = HttpConfig(idempotency_identity=("x-api-key", "x-user"))
    async with site(post("/", handler), config=config) as running:
        for expected in (False, True):
            for given in (one, other):
                assert is_replay(await send(running, *given)) is expected
    assert handler.runs == 2


async def test_cookies_in_one_header_or_in_several_are_the_same_and_others_headers_do_not_count() -> None:
    """HTTP/2 clients send each cookie in a field of its own."""
    handler = Counting()
    async with site(post("/", handler)) as running:
        await send(running, ("Cookie", "a=1; b=2"), ("X-Api-Key", "alice"))
        assert is_replay(await send(running, ("Cookie", "a=1"), ("User-Agent", "x"), ("Cookie", "b=2")))
    assert handler.runs == 1


async def test_over_every_transport_a_user_is_the_same_and_another_one_another(serving: Serve) -> None:
    handler = Counting(headers={"Set-Cookie": "sid=1"})
    async with serving(post("/", handler), config=HttpConfig(h2=True)) as running:
        client = await http2(running)
        fields = (("idempotency-key", "k"), ("cookie", "a=1"), ("cookie", "s=alice"))
        client.ask(1, "/", *fields, method="POST")
        await client.event(h2.events.StreamEnded, 1)
        client.close()
        async with httpx.AsyncClient(base_url=running.url) as http:
            key = {"Idempotency-Key": "k"}
            again = await http.post("/", headers=key | {"Cookie": "a=1; s=alice"})
            assert again.headers["idempotency-replayed"] == "true"
            assert (again.content, "set-cookie" in again.headers) == (client.bodies[1], False)
            other = await http.post("/", headers=key | {"Cookie": "a=1; s=bob"})
            assert (other.json(), other.headers["set-cookie"]) == (2, "sid=1")
    assert handler.runs == 2


async def test_what_is_one_users_or_one_requests_own_is_neither_kept_nor_replayed() -> None:
    refused = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "traceparent"}
    own = dict.fromkeys(OWN - refused, "secret") | {"Set-Cookie": ["sid=secret", "b=secret"]}
    handler = Counting({"n": 1}, own | {"Location": "/1", "Retry-After": 5})
    async with site(post("/", handler)) as running:
        first, again = await send(running), await send(running)
        assert first.headers("set-cookie") == ["secret", "sid=secret", "b=secret"]
        assert (again.status, again.body, is_replay(again)) == (201, first.body, True)
        assert (again.header("location"), again.header("retry-after")) == ("/1", "5")
        assert {name.decode() for name, _ in again.raw_headers} & OWN == {"traceparent"}
        (kept,) = running.queued("$http/Answering")
        assert b"secret" not in kept.payload


async def test_a_cookie_that_the_first_release_kept_is_not_replayed() -> None:
    async def passes_on(request: Any, ctx: Any, next: Any) -> Any:
        return await next()

    for middleware in ([], [passes_on]):
        async with site(post("/", Counting(), middleware=middleware)) as running:
            await send(running)
            (kept,) = running.queued("$http/Answering")
            answer = msgspec.json.decode(kept.payload, type=KeptAnswer)
            answer = msgspec.structs.replace(answer, headers=[*answer.headers, ("set-cookie", "sid=alice")])
            unique = Unique(kept.headers["iii-unique"], 1_000, exclusive=True)
            await running.store.commit(
                Txn(
                    (
                        Discard(kept.topic, "", "ready", kept.priority, kept.id),
                        Enqueue(kept.topic, msgspec.json.encode(answer), step="", unique=unique),
                    )
                )
            )
            again = await send(running)
            assert (is_replay(again), again.body, again.header("set-cookie")) == (True, b"1", None)


async def test_the_cookie_that_a_middleware_sets_goes_to_who_asks_now() -> None:
    async def session(request: Any, ctx: Any, next: Any) -> Any:
        response = await next()
        headers = {**(response.headers or {}), "Set-Cookie": f"seen={request.headers['x-n']}"}
        return Response(response.status, response.body, headers)

    async with site(post("/", Counting(), middleware=[session])) as running:
        for n in ("1", "2", "3"):
            reply = await send(running, ("X-N", n))
            assert (reply.body, reply.headers("set-cookie")) == (b"1", [f"seen={n}"])


async def test_the_oldest_answers_go_over_all_instances_and_their_requests_run_again() -> None:
    tables, limits = MemoryTables(), Limits(kept_bytes_max=20_000)
    handler = Counting("x" * 600)
    async with (
        site(post("/", handler), tables=tables, limits=limits) as one,
        site(post("/", handler), tables=tables, limits=limits) as other,
    ):
        for n in range(0, 60, 2):
            await send(one, key=f"k-{n}")
            await send(other, key=f"k-{n + 1}")
            assert one.store.figures().kept_bytes <= 20_000
        figures = other.store.figures()
        assert figures.kept_answers + figures.kept_evicted == 60
        for n in range(60 - figures.kept_answers, 60):
            assert is_replay(await send(one, key=f"k-{n}"))
        assert handler.runs == 60
        assert not is_replay(await send(one, key="k-0"))
        assert is_replay(await send(other, key="k-0"))


@pytest.mark.parametrize(("size", "status"), [(1_000, 201), (1_001, 409)])
async def test_of_an_answer_that_is_too_large_the_key_alone_is_kept(size: int, status: int) -> None:
    handler = Counting(b"\xff" * size)
    config = HttpConfig(idempotency_body_bytes_max=1_000)
    async with site(post("/", handler), config=config) as running:
        assert len((await send(running)).body) == size
        again = await send(running)
        assert (again.status, is_replay(again)) == (status, True)
        (kept,) = running.queued("$http/Answering")
        assert (base64.b64encode(b"\xff" * 999) in kept.payload) is (status == 201)
    assert handler.runs == 1


async def test_an_answer_with_too_many_headers_or_larger_than_the_bound_keeps_its_key() -> None:
    many = Counting({}, {f"x-{n}": "y" * 1_000 for n in range(17)})
    large = Counting("x" * 4_000)
    async with site(
        post("/", many, name="Many"), post("/large", large, name="Large"), limits=Limits(kept_bytes_max=4_500)
    ) as running:
        for path in ("/", "/large"):
            assert (await running.send("POST", path, headers=[KEY])).status == 201
            again = await running.send("POST", path, headers=[KEY])
            assert (again.status, is_replay(again)) == (409, True)
    assert (many.runs, large.runs) == (1, 1)
