"""/api/events: what happens, as server-sent events. The producers of each topic, and the stream of one
listener, LISTENERS_MAX at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from iii.console import logs, overview, queues
from iii.console.asks import Ask, BadField
from iii.console.hub import Event, Hub, Listener, frame_of
from iii.console.means import Means
from iii.console.runs import run_view
from iii.console.state import change_type
from iii.errors import StoreError
from iii.formats.units import shown
from iii.observe.log_file import LogTail
from iii.observe.runs import RunRow, decode
from iii.threads import in_thread

__all__ = ["ROUTES", "hub"]

SECOND_S = 1.0
RUNS_LOOK_S = 0.25
RUNS_PER_LOOK = 13
LOGS_LOOK_S = 0.5
LOGS_PER_LOOK = 100
CHANGES_PAGE = 200
HEARTBEAT_S = 15.0
LISTENERS_MAX = 100
MEDIA_TYPE = "text/event-stream"


def hub(means: Means) -> Hub:
    """The topics of a running engine."""
    return Hub(
        {
            "overview": lambda: _overview(means),
            "queues": lambda: _queues(means),
            "runs": lambda: _runs(means),
            "logs": lambda: _logs(means),
            "changes": lambda: _changes(means),
        }
    )


async def _overview(means: Means) -> AsyncIterator[Event]:
    while True:
        yield "overview", overview.now(means)
        await asyncio.sleep(SECOND_S)


async def _queues(means: Means) -> AsyncIterator[Event]:
    last: dict[tuple[str, ...], queues.QueueView] = {}
    while True:
        now: dict[tuple[str, ...], queues.QueueView] = {
            (row.topic, row.step, row.kind): row for row in queues.rows(means)
        }
        changed = [row for name, row in now.items() if row != last.get(name)]
        if changed:
            yield "queues", {"queues": changed}
        last = now
        await asyncio.sleep(SECOND_S)


async def _runs(means: Means) -> AsyncIterator[Event]:
    """At most RUNS_PER_LOOK a look: the newest; how many came before them is told."""
    store = means.store
    newest = next((id for id, _ in store.records("run", limit=1)), 0)
    while True:
        await asyncio.sleep(RUNS_LOOK_S)
        found = [row for row in store.records("run", limit=RUNS_PER_LOOK) if row[0] > newest]
        if found:
            skipped = found[0][0] - newest - len(found)
            newest = found[0][0]
            if skipped > 0:
                yield "run", {"skipped": skipped}
            for id, content in reversed(found):
                yield "run", run_view(RunRow(id, decode(content)))


async def _logs(means: Means) -> AsyncIterator[Event]:
    folder = logs.folder(means)
    if folder is None:
        return
    tail = LogTail(folder)
    await in_thread(lambda: tail.last(0))
    while True:
        await asyncio.sleep(LOGS_LOOK_S)
        lines = await in_thread(tail.read)
        if len(lines) > LOGS_PER_LOOK:
            yield "log", {"skipped": len(lines) - LOGS_PER_LOOK}
        for line in lines[-LOGS_PER_LOOK:]:
            yield "log", logs.log_view(line)


async def _changes(means: Means) -> AsyncIterator[Event]:
    store = means.store
    after = store.version()
    while True:
        try:
            page = await store.changes(after, CHANGES_PAGE, None)
        except StoreError:  # it closes
            return
        for change in page:
            yield (
                "change",
                {
                    "namespace": change.namespace,
                    "key": change.key,
                    "type": change_type(change),
                    "version": change.version,
                    "at_ms": store.clock.wall_ms(),
                },
            )
            after = change.version
        if len(page) == CHANGES_PAGE:  # more than anybody reads: go on with what is new
            after = max(after, store.version() - CHANGES_PAGE)
        await asyncio.sleep(RUNS_LOOK_S)


def events(ask: Ask) -> Response:
    wanted = [topic for topic in ask.text("topics").split(",") if topic] or list(ask.hub.topics)
    for topic in wanted:
        if topic not in ask.hub.topics:
            raise BadField("topics", f"expected some of {', '.join(ask.hub.topics)}; got {shown(topic)}")
    if ask.request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE)
    if ask.hub.listening >= LISTENERS_MAX:
        raise StoreError(f"{LISTENERS_MAX} listen already; close a page")
    return _Stream(ask, ask.hub.join(wanted))


class _Stream(StreamingResponse):
    """It has a place among the listeners from its making to its end, however that comes: before its first
    event, while its client takes nothing, or by a cancellation."""

    def __init__(self, ask: Ask, listener: Listener) -> None:
        super().__init__(_told(ask, listener), media_type=MEDIA_TYPE, headers={"x-accel-buffering": "no"})
        self._hub, self._listener = ask.hub, listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.leave(self._listener)


async def _told(ask: Ask, listener: Listener) -> AsyncIterator[bytes]:
    """Until who listens has logged out, here or at another instance."""
    hello: dict[str, Any] = {"version": ask.means.version, "started_ms": ask.means.started_ms}
    yield frame_of("hello", hello)
    quiet_s = 0.0
    while not listener.closed:
        found = await listener.wait(SECOND_S)
        if not ask.lives():
            return
        quiet_s = 0.0 if found else quiet_s + SECOND_S
        if found:
            yield found
        elif quiet_s >= HEARTBEAT_S:
            quiet_s = 0.0
            yield b": still here\n\n"


ROUTES = (("GET", "/api/events", events),)
