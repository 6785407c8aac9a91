"""One trace as a tree: request, message, change of state, what that started, with their logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine_kit import running, step

from iii import Context, http, queue
from iii.config import HistoryConfig
from iii.observe.runs import Run, record, runs
from iii.observe.traces import TraceNode, trace
from iii.step import Step, state_trigger
from iii.store.contract import Limits
from iii.store.lmdb import LmdbStore
from iii.web.request import Request

HISTORY = HistoryConfig()


def chain() -> list[Step]:
    async def receive(request: Request, ctx: Context) -> dict[str, Any]:
        await ctx.enqueue("received", {"id": 1})
        return {"status": 202}

    async def work(data: Any, ctx: Context) -> None:
        ctx.logger.info("Working")
        if ctx.attempt == 1:
            raise ValueError("not yet")
        await ctx.state.set("orders", "1", {"status": "done"})
        await ctx.enqueue("archive", data, delay="1h")

    async def notify(change: Any, ctx: Context) -> None:
        ctx.logger.info("Told")

    async def archive(data: Any) -> None: ...

    return [
        step(receive, http("POST", "/orders"), name="Receive"),
        step(work, queue("received", config={"retry_delay": 5_000}), name="Work"),
        step(notify, state_trigger(namespace="orders"), name="Notify"),
        step(archive, queue("archive"), name="Archive"),
    ]


def shape(nodes: tuple[TraceNode, ...]) -> list[Any]:
    return [(node.run.step, node.run.attempt, node.run.outcome, shape(node.children)) for node in nodes]


async def test_a_trace_shows_request_message_change_and_what_it_started() -> None:
    async with running(*chain(), history=HISTORY) as app:
        sent = await app.engine.endpoint.answer(Request("POST", "/orders", b"", [], b""))
        await app.settle()
        await app.pass_time(5_000)
        trace_id = dict(sent.headers)[b"traceparent"].decode().split("-")[1]
        tree = trace(app.store, trace_id)
        assert tree is not None
        assert shape(tree.roots) == [
            (
                "Receive",
                1,
                "done",
                [("Work", 1, "failed", []), ("Work", 2, "done", [("Notify", 1, "done", [])])],
            )
        ]
        notify = tree.roots[0].children[1].children[0]
        assert (notify.run.source, notify.run.key) == ("orders", "1")
        assert [line.message for line in notify.run.logs] == ["Told"]
        assert 4_990 <= notify.offset_ms <= 5_100 and (tree.outcome, tree.runs, tree.cut) == (
            "failed",
            4,
            False,
        )
        (waits,) = tree.waiting
        assert (waits.topic, waits.step, waits.state) == ("archive", "Archive", "later")
        assert waits.parent_id == tree.roots[0].children[1].run.span_id


async def test_a_dead_letter_is_part_of_its_trace() -> None:
    async def handler(data: Any) -> None:
        raise ValueError("no")

    async with running(step(handler, queue("in", config={"max_retries": 0})), history=HISTORY) as app:
        id = await app.send("in")
        await app.settle()
        tree = trace(app.store, runs(app.store)[0].run.trace_id)
        assert tree is not None and tree.outcome == "dead"
        (letter,) = tree.waiting
        assert (letter.id, letter.step, letter.state, letter.error) == (id, "Work", "dead", "ValueError: no")


async def test_what_is_not_kept_is_no_trace() -> None:
    async with running(*chain(), history=HISTORY) as app:
        assert trace(app.store, "0" * 32) is None


async def test_a_run_whose_parent_is_not_kept_is_a_root_and_no_span_is_its_own_parent(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    await store.open()
    try:
        for span, parent in (("b", "gone"), ("c", "c"), ("d", "b")):
            run = Run("Work", "queue", "1", 1, 1_000, 1.0, "done", "t", span_id=span, parent_id=parent)
            await store.commit(_txn(run))
        tree = trace(store, "t")
        assert tree is not None
        assert [(node.run.span_id, len(node.children)) for node in tree.roots] == [("b", 1), ("c", 0)]
    finally:
        await store.close()


async def test_a_trace_is_found_among_ten_thousand_records(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, limits=Limits(runs_max=10_000))
    await store.open()
    try:
        for n in range(0, 10_000, 1_000):
            others = [record(_run(f"{i:032x}")) for i in range(n, n + 1_000)]
            await store.commit(_txn(*others))
        await store.commit(_txn(_run("f" * 32)))
        tree = trace(store, "f" * 32)
        assert tree is not None and tree.runs == 1
        assert len(runs(store, step="Work", limit=20_000)) == 10_000
    finally:
        await store.close()


def _run(trace_id: str) -> Run:
    return Run("Work", "queue", "1", 1, 1_000, 1.0, "done", trace_id, error="x" * 300)


def _txn(*made: Any) -> Any:
    from iii.model import Record, Txn

    return Txn([each if isinstance(each, Record) else record(each) for each in made])
