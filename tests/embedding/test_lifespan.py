"""`engine.lifespan` in Starlette and FastAPI: start, stop and their order, failures, several applications."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from embedding_kit import create_app, project
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from iii import Context, Engine, queue
from iii.definitions.loader import make_step
from iii.errors import IIIError
from iii.testing import make_engine


def called(client: TestClient, function: Any, *arguments: Any) -> Any:
    """On the loop of the application."""
    assert client.portal is not None
    return client.portal.call(function, *arguments)


# -------------------------------------------------------------------------------------- it starts and stops


def test_fastapi_starts_and_stops_the_engine(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))
    with TestClient(create_app(engine)) as client:
        assert len(client.post("/orders", json={"id": "7"}).json()) == 1
        assert client.post("/steps/echo", json={"n": 1}).status_code == 201
        called(client, engine.idle, 20)
        assert called(client, engine.state.items, "echo") == [("http", {"n": 1}), ("queue", {"id": "7"})]
    with pytest.raises(IIIError, match=r"not running.*lifespan=engine\.lifespan"):
        engine.report()


def test_starlette_starts_and_stops_the_engine(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))

    async def order(request: Request) -> JSONResponse:
        return JSONResponse(await engine.enqueue("echo", await request.json()))

    routes = [Route("/orders", order, methods=["POST"]), Mount("/steps", engine.asgi)]
    with TestClient(Starlette(routes=routes, lifespan=engine.lifespan)) as client:
        assert len(client.post("/orders", json={"id": "7"}).json()) == 1
        called(client, engine.idle, 20)
        assert called(client, engine.state.get, "echo", "queue") == {"id": "7"}


def test_the_engine_alone_is_an_application(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))
    with TestClient(engine.asgi) as client:
        assert client.post("/echo", json=1).status_code == 201


def test_a_router_brings_its_engine_into_the_application(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))
    app = FastAPI()
    app.include_router(APIRouter(lifespan=engine.lifespan))
    with TestClient(app) as client:
        assert len(called(client, engine.enqueue, "echo", 1)) == 1


def test_an_application_that_is_mounted_starts_no_engine(tmp_path: Path) -> None:
    """Frameworks send no lifespan to what they mount; it says so instead of accepting anything."""
    inner = create_app(Engine.from_config(project(tmp_path)))
    with TestClient(Starlette(routes=[Mount("/inner", inner)]), raise_server_exceptions=False) as client:
        refused = client.post("/inner/steps/echo", json=1)
        assert (refused.status_code, "not started" in refused.text) == (503, True)
        assert client.post("/inner/orders", json={}).status_code == 500


# ------------------------------------------------------------------------------------------------- failures


def test_what_cannot_start_stops_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    file = project(tmp_path)
    (tmp_path / "data").mkdir(mode=0o755)
    order: list[str] = []
    engine = Engine.from_config(file)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        order.append("opened")
        try:
            async with engine.lifespan(app):
                order.append("serves")
                yield
        finally:
            order.append("closed")

    with pytest.raises(IIIError, match="chmod 700"), TestClient(FastAPI(lifespan=lifespan)):
        order.append("serves")
    assert order == ["opened", "closed"]
    (tmp_path / "data").chmod(0o700)
    with TestClient(FastAPI(lifespan=engine.lifespan)) as client:  # nothing had begun
        assert len(called(client, engine.enqueue, "echo", 1)) == 1


def test_what_fails_after_the_engine_has_started_stops_it(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.lifespan(app):
            raise RuntimeError("no mail server")
            yield

    with pytest.raises(RuntimeError, match="no mail server"), TestClient(FastAPI(lifespan=lifespan)):
        pass
    with pytest.raises(IIIError, match="not running"):
        engine.report()


def test_an_application_that_starts_twice_is_told_to_come_from_a_function(tmp_path: Path) -> None:
    app = create_app(Engine.from_config(project(tmp_path)))
    with TestClient(app):
        pass
    with pytest.raises(IIIError, match=r"runs once.*with its engine from a function"), TestClient(app):
        pass


def test_another_kind_of_event_loop_is_refused(tmp_path: Path) -> None:
    """Entered as trio would: nothing of asyncio runs."""
    lifespan = Engine.from_config(project(tmp_path)).lifespan(FastAPI())
    with pytest.raises(IIIError, match="runs on asyncio"):
        lifespan.__aenter__().send(None)  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------- the order of a stop


def test_handlers_end_before_what_was_opened_around_the_engine_closes() -> None:
    order: list[str] = []
    begun, released = threading.Event(), asyncio.Event()

    async def work(input: Any, ctx: Context) -> None:
        begun.set()
        await released.wait()
        order.append("handler ends")

    engine = make_engine([make_step({"name": "Work", "triggers": [queue("work")]}, work)])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        order.append("pool opens")
        async with engine.lifespan(app):
            yield
            order.append("server has ended")
            released.set()
        order.append("pool closes")

    with TestClient(FastAPI(lifespan=lifespan)) as client:
        called(client, engine.enqueue, "work")
        assert begun.wait(20)
    assert order == ["pool opens", "server has ended", "handler ends", "pool closes"]


# ------------------------------------------------------------------------------- several in one process


async def test_two_applications_with_an_engine_each_share_a_loop(tmp_path: Path) -> None:
    engines = [Engine.from_config(project(tmp_path / name)) for name in ("a", "b")]
    apps = [create_app(each) for each in engines]
    async with AsyncExitStack() as stack:
        for app in apps:
            await stack.enter_async_context(app.router.lifespan_context(app))
        for number, engine in enumerate(engines):
            await engine.enqueue("echo", number)
        for number, engine in enumerate(engines):
            await engine.idle(20)
            assert await engine.state.get("echo", "queue") == number


def test_two_applications_have_a_thread_each(tmp_path: Path) -> None:
    first, second = (Engine.from_config(project(tmp_path / name)) for name in ("a", "b"))
    with TestClient(create_app(first)) as one, TestClient(create_app(second)) as two:
        one.post("/orders", json={"of": "first"})
        two.post("/orders", json={"of": "second"})
        for client, engine, name in ((one, first, "first"), (two, second, "second")):
            called(client, engine.idle, 20)
            assert called(client, engine.state.get, "echo", "queue") == {"of": name}


async def test_one_engine_serves_two_applications_until_the_last_ends(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))
    shop, admin = create_app(engine), create_app(engine)
    async with AsyncExitStack() as stack:
        first, second = AsyncExitStack(), AsyncExitStack()
        stack.push_async_callback(second.aclose)
        lifespans = [app.router.lifespan_context(app) for app in (shop, admin)]
        await asyncio.gather(*map(asyncio.create_task, map(_enter, (first, second), lifespans)))
        await first.aclose()
        assert len(await engine.enqueue("echo", 1)) == 1
        await second.aclose()
    with pytest.raises(IIIError, match="not running"):
        engine.report()


async def _enter(stack: AsyncExitStack, lifespan: Any) -> None:
    await stack.enter_async_context(lifespan)


def test_one_engine_is_refused_by_the_loop_of_a_second_server(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))
    with TestClient(create_app(engine)) as client:
        refused = pytest.raises(IIIError, match="make an engine for each")
        with refused, TestClient(create_app(engine)):
            pass
        assert client.post("/orders", json={}).status_code == 200


# -------------------------------------------------------------------------------------------- other threads


def test_a_plain_endpoint_calls_the_engine_on_its_loop(tmp_path: Path) -> None:
    engine = Engine.from_config(project(tmp_path))
    app = FastAPI(lifespan=engine.lifespan)

    @app.post("/orders")
    def order(order: dict[str, str]) -> list[str]:
        return anyio.from_thread.run(engine.enqueue, "echo", order)

    with TestClient(app) as client:
        assert len(client.post("/orders", json={"id": "7"}).json()) == 1


CALLS: dict[str, tuple[Any, ...]] = {
    "enqueue": ("echo", 1), "idle": (), "run_cron": ("Echo",), "redrive": ("x",),
    "set": ("ns", "k", 1), "update": ("ns", "k", {"n": 1}), "delete": ("ns", "k"), "clear": ("ns",),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_call_on_another_loop_is_refused_and_writes_nothing(tmp_path: Path, call: str) -> None:
    """Its answer would come to the engine's loop, after the write."""
    engine = Engine.from_config(project(tmp_path))
    with TestClient(FastAPI(lifespan=engine.lifespan)) as client:
        called(client, engine.state.set, "ns", "k", {"n": 0})
        method = getattr(engine if hasattr(engine, call) else engine.state, call)
        with pytest.raises(IIIError, match=r"anyio\.from_thread\.run"):
            asyncio.run(method(*CALLS[call]))
        called(client, engine.idle, 20)
        assert called(client, engine.state.items, "ns") == [("k", {"n": 0})]
        assert called(client, engine.state.items, "echo") == []
