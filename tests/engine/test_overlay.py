"""The handler's view of the state: the store with its own writes on top, whatever the order of the calls."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from engine_kit import running, step
from hypothesis import given, settings
from hypothesis import strategies as st

from iii import Context, queue
from iii.errors import BadMerge
from iii.handling.context import Runtime, StartedBy
from iii.handling.draft import Draft
from iii.handling.outbox import Outbox
from iii.model import Enqueue, Put, Txn
from iii.store.limits import check
from iii.store.memory import MemoryStore

WORK = step(lambda: None, queue("in"))
KEYS = st.sampled_from(["a", "b", "ba", "c", "é"])
SPACES = st.sampled_from(["one", "two"])
VALUES = st.one_of(st.none(), st.integers(0, 3), st.dictionaries(st.sampled_from("xy"), st.integers(0, 3)))
PATCHES = st.one_of(
    st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3)),
    st.just([{"type": "increment", "path": "x"}]),
    st.just([{"type": "remove", "path": "y"}]),
)
CALLS = st.one_of(
    st.tuples(st.just("set"), SPACES, KEYS, VALUES),
    st.tuples(st.just("delete"), SPACES, KEYS, st.none()),
    st.tuples(st.just("update"), SPACES, KEYS, PATCHES),
    st.tuples(st.just("clear"), SPACES, st.sampled_from(["", "b"]), st.none()),
    st.tuples(st.just("flush"), SPACES, KEYS, st.none()),
)


def patched(old: Any, patch: Any) -> Any:
    """What `update` means, in six lines."""
    value = dict(old)
    if isinstance(patch, dict):
        return value | patch
    op = patch[0]
    if op["type"] == "remove":
        value.pop(op["path"], None)
    else:
        value[op["path"]] = value.get(op["path"], 0) + 1
    return value


async def check_view(ctx: Context, model: dict[tuple[str, str], Any]) -> None:
    for space in ("one", "two"):
        mine = sorted((key, value) for (ns, key), value in model.items() if ns == space)
        assert await ctx.state.items(space) == mine
        assert await ctx.state.items(space, after="b") == [pair for pair in mine if pair[0] > "b"]
        assert await ctx.state.items(space, limit=2) == mine[:2]
        assert await ctx.state.list(space, prefix="b") == [v for key, v in mine if key.startswith("b")]
        for key in ("a", "b", "ba", "c", "é"):
            assert await ctx.state.get(space, key, "none") == model.get((space, key), "none")
    assert await ctx.state.namespaces() == sorted({ns for ns, _ in model})


async def apply(ctx: Context, model: dict[tuple[str, str], Any], call: tuple[Any, ...]) -> None:
    name, space, key, value = call
    if name == "set":
        await ctx.state.set(space, key, value)
        model[space, key] = value
    elif name == "delete":
        assert await ctx.state.delete(space, key) == ((space, key) in model)
        model.pop((space, key), None)
    elif name == "clear":
        doomed = [at for at in model if at[0] == space and at[1].startswith(key)]
        assert await ctx.state.clear(space, prefix=key) == len(doomed)
        for at in doomed:
            del model[at]
    elif name == "flush":
        await ctx.flush()
    else:
        old = model.get((space, key), {})
        try:
            seen = await ctx.state.update(space, key, value)
        except BadMerge:
            assert not isinstance(old, dict)
        else:
            model[space, key] = patched(old, value)
            assert seen == model[space, key]


@settings(max_examples=150)
@given(st.lists(CALLS, max_size=8), st.lists(CALLS, max_size=12), st.integers(0, 3))
def test_the_view_is_a_dict_that_others_do_not_see_until_the_end(
    before: list[tuple[Any, ...]], during: list[tuple[Any, ...]], chunk: int
) -> None:
    """chunk: 0: what is cleared goes with the rest; else so many keys ahead of it at a time."""

    async def check() -> None:
        store = MemoryStore()
        await store.open()
        runtime = Runtime(store, Outbox({}))
        model: dict[tuple[str, str], Any] = {}
        for calls in (before, during):
            ctx = Context(runtime, WORK, StartedBy("http"), 0)
            for call in calls:
                await apply(ctx, model, call)
                await check_view(ctx, model)
            if chunk:
                for ops in ctx.draft.ahead(chunk):
                    await ctx.commit_apart(ops)
                await check_view(ctx, model)
            await ctx.settle()
            reader = Context(runtime, WORK, StartedBy("http"), 0)
            await check_view(reader, model)
        await store.close()

    asyncio.run(check())


@settings(max_examples=150)
@given(st.lists(CALLS, max_size=12), st.integers(0, 3), st.booleans())
def test_a_draft_tells_what_it_has_checked_to_the_byte(
    calls: list[tuple[Any, ...]], sent: int, enqueues: bool
) -> None:
    async def check_draft() -> None:
        store = MemoryStore()
        await store.open()
        draft = Draft(store)
        for call in calls:
            match call:
                case ("set", space, key, value):
                    draft.set(space, key, value, None)
                case ("delete", space, key, _):
                    draft.delete(space, key, None)
                case ("update", space, key, patch):
                    with contextlib.suppress(BadMerge):
                        draft.update(space, key, patch)
        for n in range(sent):
            draft.enqueue(Enqueue("in", b"x" * n, group="é", headers={"h": "1"}))
        taken = draft.take(enqueues=enqueues)
        assert taken.checked.ops == len(taken.ops)
        assert taken.checked.size == check(Txn(taken.ops), store.limits)
        assert draft.take().ops == []
        await store.close()

    asyncio.run(check_draft())


async def test_a_write_keeps_the_condition_of_the_one_it_replaces() -> None:
    async with running(WORK) as app:
        draft = Draft(app.store)
        draft.set("a", "set", 1, 0)
        draft.set("a", "set", 2, None)
        draft.set("a", "updated", {}, 0)
        draft.update("a", "updated", {"n": 1})
        draft.set("a", "free", 1, None)
        assert draft.take().ops == [
            Put("a", "set", b"2", 0),
            Put("a", "updated", b'{"n":1}', 0),
            Put("a", "free", b"1", None),
        ]


async def test_others_see_nothing_before_the_commit_and_a_dropped_context_leaves_nothing() -> None:
    async with running(WORK) as app:
        runtime = Runtime(app.store, Outbox({}))
        ctx = Context(runtime, WORK, StartedBy("http"), 0)
        await ctx.state.set("a", "b", 1)
        assert await app.value("a", "b") is None
        ctx.drop()
        assert await app.value("a", "b") is None
        assert (await Context(runtime, WORK, StartedBy("http"), 0).settle()).ids == []


async def test_merges_of_others_are_not_lost_under_ones_own() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        assert await ctx.state.update("n", "1", [{"type": "increment", "path": "x"}]) == {"x": 1}
        await app.engine.state.update("n", "1", [{"type": "increment", "path": "x", "by": 10}])
        assert await ctx.state.get("n", "1") == {"x": 11}

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert app.waiting("in") == []
        assert await app.value("n", "1") == {"x": 11}


async def test_clearing_more_than_a_txn_holds_goes_in_chunks() -> None:
    async with running(WORK) as app:
        for start in range(0, 2_500, 500):
            runtime = Runtime(app.store, Outbox({}))
            filling = Context(runtime, WORK, StartedBy("http"), 0)
            for n in range(start, start + 500):
                await filling.state.set("many", f"{n:05}", n)
            await filling.settle()
        ctx = Context(runtime, WORK, StartedBy("http"), 0)
        await ctx.state.set("many", "own", 1)
        assert await ctx.state.clear("many") == 2_501
        assert await ctx.state.list("many") == []
        await ctx.settle()
        assert await app.engine.state.namespaces() == []


async def test_a_write_during_a_flush_waits_for_it_and_is_not_lost() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("a", "1", "flushed")
        flush = asyncio.ensure_future(ctx.flush())
        await asyncio.sleep(0)
        assert await ctx.state.get("a", "1") == "flushed"
        await ctx.state.update("a", "2", {"n": 1})
        flushes = asyncio.gather(flush, ctx.flush(), ctx.flush())
        for _ in range(20):
            assert await ctx.state.get("a", "2") == {"n": 1}
            await asyncio.sleep(0)
        await flushes

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert app.waiting("in") == []
        assert [await app.value("a", key) for key in ("1", "2")] == ["flushed", {"n": 1}]
