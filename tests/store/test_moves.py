"""The table of moves in model.py: what its text says, what the memory store makes, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from store_kit import JOBS, MemoryKit, commit, enqueue, leases, take, take_one, work

from iii import model
from iii.model import MOVES, Ack, Discard, MessageState, Release, Retry, Return
from iii.store.contract import RETENTION_MS, Store
from iii.store.memory import moves

Move = tuple[str, str, str]


class Made(frozenset[Move]):
    """The table, and which of its moves were looked up."""

    seen: set[Move]

    def __contains__(self, move: object) -> bool:
        self.seen.add(move)  # type: ignore[arg-type]
        return super().__contains__(move)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[Move]:
    table = Made(MOVES)
    table.seen = set()
    monkeypatch.setattr(moves, "MOVES", table)
    return table.seen


def test_the_text_of_the_table_is_the_table() -> None:
    assert model.__doc__ is not None
    table = model.__doc__.partition("from  ")[2].partition("\n\n")[0].splitlines()[1:]
    told: set[Move] = set()
    for line in table:
        sources, events, rest = re.split(r" {2,}", line.strip(), maxsplit=2)
        targets = re.split(r" {2,}", rest)[0]
        told |= {
            (source, event, target)
            for source in sources.split(", ")
            for event in events.split(", ")
            for target in targets.split(" | ")
        }
    assert told == MOVES


async def _discard(store: Store, *states: MessageState) -> None:
    for state in states:
        one = store.waiting("jobs", states=[state])[0]
        await commit(store, Discard(one.topic, one.step, state, one.priority, one.id, one.due_ms or 0))


async def test_the_memory_store_makes_every_move_of_the_table_and_no_other(
    tmp_path: Path, made: set[Move]
) -> None:
    kit = MemoryKit(tmp_path)
    tool = await kit.make()
    await enqueue(tool)
    kit.clock.advance(RETENTION_MS)  # nobody came
    await enqueue(tool)
    await enqueue(tool, delay_ms=50)
    for group in ("new", "new", "known"):
        await enqueue(tool, group=group)
    await enqueue(tool, group="slow", delay_ms=50)
    for group in ("known", "slow"):
        await enqueue(tool, step="Work", group=group)

    one = await work(kit)  # adopts them all
    kit.clock.advance(50)
    messages = await take(one, 100)
    await commit(one, *(Ack(lease) for lease in leases(messages)))
    await commit(one, *(Ack(lease) for lease in leases(await take(one, 100))))
    await enqueue(one, group="g")
    await enqueue(one, group="g", delay_ms=50)
    await commit(one, Ack((await take_one(one)).lease))
    kit.clock.advance(50)
    for settle in (Retry, Release):
        for delay_ms in (0, 10):
            lease = (await take_one(one)).lease
            more = ("error",) if settle is Retry else ()
            await commit(one, settle(lease, delay_ms, *more))
            kit.clock.advance(10)
    await commit(one, Return((await take_one(one)).lease))
    await enqueue(one, group="g")
    await enqueue(one, delay_ms=10)
    await _discard(one, "behind", "later", "ready")

    await enqueue(one)
    await take_one(one)
    await kit.close(one)
    two, three = await work(kit), await work(kit)
    await take_one(two)
    await kit.kill(two)
    await commit(three, Ack((await take_one(three)).lease))
    assert tool.unsettled([JOBS]) == 0 and tool.verify() == []
    await kit.close_all()
    assert made == MOVES
