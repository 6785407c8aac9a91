"""Which of several instances follows the changes, and who goes on when it ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from engine_kit import Running, running, step

from iii import StateChange, state
from iii.clock import FakeClock
from iii.model import Enqueue, Mark, Txn
from iii.step import Step
from iii.store.memory import MemoryTables


def watcher(seen: list[Any], name: str = "Watcher", namespace: str = "a", **trigger: Any) -> Step:
    async def handler(change: StateChange) -> None:
        seen.append(change.value)

    return step(handler, state(namespace=namespace, **trigger), name=name)


def fired(app: Running) -> int:
    """Messages that this instance made of changes."""
    ops = [op for txn in app.store.txns for op in txn.ops]
    return sum(isinstance(op, Enqueue) and op.topic.startswith("$state/") for op in ops)


async def turns() -> None:
    """Let every task go on until it waits for something outside."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_of_instances_with_the_same_triggers_one_follows_the_changes() -> None:
    tables, clock, seen = MemoryTables(), FakeClock(), list[Any]()
    one, two = (running(watcher(seen), tables=tables, clock=clock) for _ in range(2))
    async with one as first, two as second:
        for n in range(20):
            await (first, second)[n % 2].engine.state.set("a", str(n), n)
        for app in (second, first):
            await app.settle()
        assert sorted(seen) == list(range(20))
        assert (fired(first), fired(second)) == (20, 0)


async def test_the_other_follows_when_the_first_has_left() -> None:
    tables, clock, seen = MemoryTables(), FakeClock(), list[Any]()
    async with AsyncExitStack() as left, AsyncExitStack() as stays:
        first = await left.enter_async_context(running(watcher(seen), tables=tables, clock=clock))
        second = await stays.enter_async_context(running(watcher(seen), tables=tables, clock=clock))
        await second.engine.state.set("a", "k", 1)
        await second.settle()
        await left.aclose()
        assert (fired(first), fired(second)) == (1, 0)
        await second.engine.state.set("a", "k", 2)
        await second.settle()
        assert (fired(first), fired(second), seen) == (1, 1, [1, 2])


async def test_an_instance_that_does_not_tail_knows_when_all_changes_have_fired() -> None:
    """`idle` looks on past what fires nothing, and waits for what fires."""
    tables, clock, seen = MemoryTables(), FakeClock(), list[Any]()
    only = {"filter": {"due": True}}
    one, two = (running(watcher(seen, **only), tables=tables, clock=clock) for _ in range(2))
    async with one as tailer, two as other:
        for n in range(600):
            await other.engine.state.set("a", str(n), {"due": n % 100 == 0})
        await other.settle()
        assert len(seen) == 6
        assert (fired(tailer), fired(other)) == (6, 0)


async def test_instances_with_other_triggers_follow_for_themselves() -> None:
    tables, clock, left, right = MemoryTables(), FakeClock(), list[Any](), list[Any]()
    one = running(watcher(left, "Left"), tables=tables, clock=clock)
    two = running(watcher(right, "Right"), tables=tables, clock=clock)
    async with one as first, two as second:
        await first.engine.state.set("a", "k", 1)
        await first.settle()
        await second.settle()
        assert (left, right) == ([1], [1])
        assert (fired(first), fired(second)) == (1, 1)


async def test_a_tail_that_was_taken_by_another_is_not_followed_twice() -> None:
    """The mark names another session: whoever tailed stops and waits for that one to go."""
    tables, clock, seen = MemoryTables(), FakeClock(), list[Any]()
    async with running(watcher(seen), tables=tables, clock=clock) as first:
        (name,) = first.store.marks("tailer/")
        await turns()
        assert first.store.mark(name) == first.store.session
        async with running(tables=tables, clock=clock) as usurper:
            taken = Mark(name, usurper.store.session, first.store.session)
            await usurper.store.commit(Txn((taken,)))
            await first.engine.state.set("a", "k", 1)  # it was waiting for changes: this one it still takes
            await turns()
            for n in (2, 3):
                await first.engine.state.set("a", "k", n)
                await turns()
            assert (fired(first), seen) == (1, [1])
        await first.settle()
        assert (fired(first), seen) == (3, [1, 2, 3])
        assert first.store.mark(name) == first.store.session
