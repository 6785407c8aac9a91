"""One small life of a store, which may be killed at any commit and lived on by the next process.

Producers name their messages by unique keys, so that going on after a kill is the same as going on after a
lost answer. What a commit acknowledged is written to the ledger at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import orjson
from worker import take_now

from iii.clock import FakeClock
from iii.model import (
    ARCHIVE,
    Ack,
    DeadLetter,
    Enqueue,
    Lane,
    LanePolicy,
    Mark,
    Merge,
    Message,
    Op,
    Put,
    Release,
    Retry,
    Txn,
    Unique,
)
from iii.store.lmdb import LmdbStore

JOBS, NEXT = Lane("jobs", "Work"), Lane("next", "Then")
PRODUCED = ("plain", "large", "flaky", "doomed", "snoozed", "grouped1", "grouped2")
RUNS = [f"{name} Work" for name in PRODUCED] + ["plain Then"]
DAY_MS = 24 * 3600 * 1000
INCREMENT = orjson.dumps([{"type": "increment", "path": ""}])


class Ledger:
    """What was acknowledged, one line each; a line is there before the next step begins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, line: str) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{line}\n".encode())
        os.close(fd)

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


class Life:
    """Opens the store, produces, works until nothing is left, closes. `handled`: what ran here, in order."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.ledger, self.folder = ledger, folder
        self.handled: list[str] = []
        self.clock = FakeClock()

    def store(self, stage: str = "", number: int = 0) -> LmdbStore:
        def probe(at: str, commit: int) -> None:
            self.commits = commit
            if (at, commit) == (stage, number):
                os.kill(os.getpid(), signal.SIGKILL)

        return LmdbStore(self.folder, clock=self.clock, map_bytes=64 << 20, probe=probe)

    async def live(self, store: LmdbStore) -> None:
        await store.open()
        await store.open_session([LanePolicy(*JOBS), LanePolicy(*NEXT)])
        await self._produce(store)
        while store.unsettled():
            messages = await take_now(store, {JOBS: 3, NEXT: 3})
            for message in messages:
                store.start(message.lease)
                await self._handle(store, message)
            if not messages:
                self.clock.advance(1000)

    async def _produce(self, store: LmdbStore) -> None:
        for name in PRODUCED:
            payload = name.encode().ljust(5000) if name == "large" else name.encode()
            group = "g" if name.startswith("grouped") else None
            op = Enqueue("jobs", payload, group=group, unique=Unique(name, DAY_MS))
            ids = (await store.commit(Txn((op,)))).ids[0]
            self.ledger.add(f"enqueued {name} {ids}")
        if store.mark("tick") is None:
            await store.commit(Txn((Mark("tick", 1, None),)))
            self.ledger.add("ticked")

    async def _handle(self, store: LmdbStore, message: Message) -> None:
        name = message.payload.decode().strip()
        run = f"{name} {message.step}"
        self.handled.append(run)
        ops, last = self._outcome(store, message, name)
        if last:
            ops.insert(0, Merge("seen", run, INCREMENT))
        await store.commit(Txn(ops))
        self.ledger.add(f"settled {run}" if last else f"tried {run} {message.attempt}")

    def _outcome(self, store: LmdbStore, message: Message, name: str) -> tuple[list[Op], bool]:
        """The ops that settle this attempt, and whether it is the last one."""
        lease = message.lease
        if name in ("flaky", "doomed") and message.attempt == 1:
            return [Put("tries", name, b"1"), Retry(lease, 10, "not yet")], False
        if name == "snoozed" and store.get("snoozed", "once") is None:
            return [Put("snoozed", "once", b"1", if_version=0), Release(lease, 50)], False
        if name == "doomed":
            dead = DeadLetter("jobs", "Work", "not ever", message.attempt, self.clock.wall_ms())
            letter = Enqueue("jobs.failed", message.payload, step=ARCHIVE, id=lease.id, dead=dead)
            return [Ack(lease, failed=True), letter], True
        if name.startswith("grouped"):
            return [Merge("order", "g", _append(name)), Ack(lease)], True
        if name == "plain" and message.step == "Work":
            return [Ack(lease), Enqueue("next", b"plain")], True
        return [Ack(lease)], True


def _append(name: str) -> bytes:
    return orjson.dumps([{"type": "append", "path": "all", "value": name}])


def live_until(folder: Path, ledger: Path, stage: str, number: int) -> None:
    """What the child does: it is killed at the given stage of the given commit."""
    life = Life(folder, Ledger(ledger))

    async def run() -> None:
        store = life.store(stage, number)
        await life.live(store)
        await store.close()

    asyncio.run(run())


async def live_on(folder: Path) -> None:
    """The next process: everything acknowledged so far holds, and so does everything after it."""
    ledger = Ledger(folder / "ledger")
    acknowledged = ledger.lines()
    life = Life(folder / "data", ledger)
    store = life.store()
    await life.live(store)
    require_promises(store, life, acknowledged)
    await store.close()


def require_promises(store: LmdbStore, life: Life, acknowledged: list[str]) -> None:
    assert store.verify() == []
    seen = {entry.key: orjson.loads(entry.value) for entry in store.scan("seen")}
    assert seen == dict.fromkeys(RUNS, 1), "every message had its effects once, over both hops"
    settled = {line.removeprefix("settled ") for line in acknowledged if line.startswith("settled ")}
    assert not settled & set(life.handled), "what was acknowledged as settled ran again"
    for line in acknowledged:
        if line.startswith("enqueued "):
            assert line in life.ledger.lines()[len(acknowledged) :], f"{line!r} was forgotten"
    order = store.get("order", "g")
    assert order is not None
    assert orjson.loads(order.value) == {"all": ["grouped1", "grouped2"]}
    assert store.mark("tick") == 1
    letters = store.waiting("jobs.failed", step=ARCHIVE)
    assert [(letter.payload, letter.dead and letter.dead.attempts) for letter in letters] == [(b"doomed", 2)]
    _require_counts(store)


def _require_counts(store: LmdbStore) -> None:
    rows = {(row.topic, row.step): row for row in store.stats()}
    jobs, then = rows[JOBS], rows[NEXT]
    assert (jobs.done, jobs.failed, jobs.dead) == (len(PRODUCED) - 1, 3, 1)
    assert (then.done, then.failed, then.dead) == (1, 0, 0)
    waiting = [row.ready + row.later + row.behind + row.leased for row in (jobs, then)]
    assert waiting == [0, 0]
