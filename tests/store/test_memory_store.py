"""What is the memory store's own: real time, what it keeps in its tables, what it cannot do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from store_kit import JOBS, MemoryKit, enqueue, take_one, until, work
from worker import next_message

from iii.errors import StoreError
from iii.model import MOVES, Lane, LanePolicy, Unique
from iii.store.contract import RETENTION_MS
from iii.store.memory import MemoryStore
from iii.store.memory import moves as module
from iii.store.memory.store import EXPIRED_ROWS_MAX
from iii.store.memory.tables import MemoryTables, Row, Table


async def test_on_the_system_clock_a_timer_wakes_who_waits_for_a_due_message() -> None:
    store = MemoryStore()
    await store.open()
    await store.open_session([LanePolicy(*JOBS)])
    await enqueue(store, b"late", delay_ms=20)
    assert (await next_message(store, JOBS)).payload == b"late"
    assert await asyncio.wait_for(store.changes(0, 1, 10), 20) == []
    await store.close()


async def test_expired_rows_leave_the_tables_in_chunks(tmp_path: Path) -> None:
    kit = MemoryKit(tmp_path)
    store = await kit.make()
    assert isinstance(store, MemoryStore)
    for number in range(EXPIRED_ROWS_MAX + 10):
        await enqueue(store, unique=Unique(f"{number}", 50))
    kit.clock.advance(50)
    assert len(store.tables.unique) == len(store.tables.unique_until) == 0
    kit.clock.advance(RETENTION_MS)
    assert len(store.tables.ready) == len(store.tables.expiry) == len(store.tables.place) == 0
    assert store.verify() == []
    await kit.close_all()


async def test_a_crash_without_survivors_leaves_the_leases_to_the_next_session(tmp_path: Path) -> None:
    kit = MemoryKit(tmp_path)
    store, tool = await work(kit), await kit.make()
    await enqueue(store)
    await take_one(store)
    await kit.kill(store)
    await enqueue(tool)
    assert [one.state for one in tool.waiting("jobs")] == ["ready", "leased"] and len(tool.sessions()) == 1
    await work(kit)
    await until(lambda: [one.state for one in tool.waiting("jobs")] == ["ready", "ready"])
    await kit.close_all()


async def test_a_memory_store_has_nothing_to_back_up(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(StoreError, match="lmdb"):
        await store.backup(tmp_path / "copy")


def test_a_move_that_is_not_in_the_table_of_moves_is_an_assertion() -> None:
    tables = MemoryTables()
    row = Row(1, JOBS, 128, b"", {}, None, None, 0, 0)
    module.enter(tables, row, 0)
    assert ("ready", "Ack", "-") not in MOVES
    with pytest.raises(AssertionError, match="illegal move ready -Ack-> -"):
        module.leave(tables, row, "ready", "Ack", 0)


def test_verify_finds_what_is_broken() -> None:
    tables = MemoryTables()
    store = MemoryStore(tables=tables)
    tables.use(JOBS)
    tables.next("id")
    module.enter(tables, Row(1, JOBS, 128, b"", {}, "g", None, 0, 0), 0)
    assert store.verify() == []
    tables.add(JOBS, "ready", 1)
    assert store.verify() == [f"({JOBS!r}, 'ready') counts 2, there are 1"]
    tables.add(JOBS, "ready", -1)
    tables.group.pop((JOBS, "g"))
    assert store.verify() == [f"message 1 of group ({JOBS!r}, 'g') is ready, the head is None"]


def test_a_table_scans_in_order_and_undoes_its_writes() -> None:
    tables = MemoryTables()
    table: Table[tuple[Lane, int], int] = tables.ready  # type: ignore[assignment]
    for number in (3, 1, 2):
        table.put((JOBS, number), number)
    table.put((Lane("jobs", "Workshop"), 0), 9)
    tables._journal.clear()

    def write() -> None:
        table.put((JOBS, 2), 22)
        table.pop((JOBS, 1))
        table.put((JOBS, 4), 4)
        raise ValueError

    with pytest.raises(ValueError), tables.atomic():
        write()
    assert [value for _, value in table.under(JOBS)] == [1, 2, 3]
    assert [value for _, value in table.scan((JOBS, 3))] == [3, 9]
    assert table.span((JOBS, 2), (JOBS, 9)) == 2 and len(table) == 4
