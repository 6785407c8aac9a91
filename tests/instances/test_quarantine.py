"""The quarantine: a process that runs suspects, one at a time, while there are any, and ends with its
parent."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import orjson
from deadline import until
from instances_kit import Project, Started

from iii.instances.quarantine import LOOK_AGAIN_S, Quarantine, until_quiet
from iii.model import ARCHIVE, Enqueue, LanePolicy, Txn, Waiting
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.liveness import OwnSession
from iii.store.lmdb.roster import InstanceRow
from iii.store.reasons import why

STEP = '''
"""Waits for its gate; a poison then ends its process."""

import asyncio
import os
from pathlib import Path

from iii import queue

HERE = Path(__file__).parent.parent
config = {"name": "Gated", "triggers": [queue("gated", config={"concurrency": 8})]}


async def handler(given, ctx):
    with (HERE / "journal").open("a") as journal:
        journal.write(f"{given} {os.getpid()}\\n")
    if given == "meddler":
        for task in asyncio.all_tasks():
            task.cancel()
        return
    gates = HERE / "gates"
    while not ((gates / given).exists() or (gates / "all").exists()):
        await asyncio.sleep(0.005)
    if given.startswith("poison"):
        os._exit(9)
    await ctx.state.update("effects", given, [{"type": "increment", "path": ""}])
'''


def quarantines(project: Project) -> list[InstanceRow]:
    return [row for row in project.rows() if row.quarantine]


async def opened(project: Project) -> LmdbStore:
    store = LmdbStore(project.data)
    await store.open()
    return store


async def send(project: Project, *names: str) -> None:
    store = await opened(project)
    await store.commit(Txn([Enqueue("gated", orjson.dumps(name), step="Gated") for name in names]))
    await store.close()


async def killed_while_it_runs(project: Project, runs: int, engine: Started) -> None:
    until(lambda: len(project.starts()) == runs, "it runs")
    for row in project.rows():
        os.kill(row.pid, signal.SIGKILL)
    engine.process.kill()
    engine.process.wait()
    until(lambda: not project.rows(), "all of it has ended")


async def settled(project: Project, engine: Started) -> None:
    store = await opened(project)
    until(lambda: not store.unsettled(), "everything is settled")
    assert store.verify() == []
    await store.close()


async def run_alone(project: Project, name: str, *args: str) -> Started:
    """An engine whose quarantine runs this message: two engines before it were killed while they ran it."""
    project.write_step(STEP)
    await send(project, name)
    for runs in (1, 2):
        await killed_while_it_runs(project, runs, project.start(*args))
    engine = project.start(*args)
    until(lambda: len(project.starts()) == 3, "it runs alone")
    return engine


async def test_poisons_run_four_times_and_what_runs_beside_them_is_done_once(project: Project) -> None:
    project.write_step(STEP)
    engine = project.start("--instances", "2")
    until(lambda: len(project.rows()) == 2, "two instances")
    await send(project, "poison-1", "innocent", "poison-2")
    until(lambda: len(project.starts()) == 3, "all run")
    project.open_gate("poison-1")
    project.open_gate("poison-2")
    for name in ("poison-1", "poison-2"):
        until(lambda name=name: sum(ran == name for ran, _ in project.starts()) >= 2, f"{name} runs again")
    project.open_gate("innocent")
    store = await opened(project)
    until(lambda: len(store.waiting("gated.failed")) == 2, "two dead letters")
    errors = {letter.dead.error for letter in store.waiting("gated.failed") if letter.dead}
    assert errors == {"worker died: 4 times, 2 of them alone, while this message ran"}
    await store.close()
    await settled(project, engine)
    ran = [name for name, _ in project.starts()]
    assert ran.count("poison-1") == ran.count("poison-2") == 4
    assert project.effects() == {"innocent": 1}
    engine.process.terminate()
    until(lambda: engine.process.poll() is not None, "the end")
    assert engine.process.returncode == 0, engine.told
    assert project.rows() == []


async def test_a_quarantine_is_listed_as_one(project: Project) -> None:
    engine = await run_alone(project, "a", "--instances", "2")
    until(lambda: len(project.rows()) == 3, "two instances and it")
    (row,) = quarantines(project)
    assert project.starts()[-1] == ("a", row.pid)
    assert [each["quarantine"] for each in project.iii_json("instances")].count(True) == 1
    table = project.iii("instances").stdout
    assert sum("quarantine" in line for line in table.splitlines()) == 1 and "ready" in table
    project.open_gate("a")
    await settled(project, engine)
    assert project.effects() == {"a": 1}


async def test_who_waits_behind_another_suspect_hears_of_the_quarantine(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data")
    await store.open()
    await store.open_session([LanePolicy("jobs", "Work")], "none")
    other = LmdbStore(tmp_path / "data")
    waiting = Waiting(7, "jobs", "Work", "ready", 128, 0, b"", {}, None, 0, None, None, 2, None)
    await store.commit(Txn([Enqueue("jobs", b"", step="Work")]))

    def reason() -> tuple[str, str]:
        found = why(store, waiting, lambda topic, step: None, lambda id: None)
        return found.code, found.text

    code, text = reason()
    assert code == "quarantine" and text.startswith("2 workers died while running it: it waits for the")
    assert "it starts in a moment" in text
    await other.open()
    await other.open_session([LanePolicy("jobs", "Work")], "only")
    assert f"quarantine (pid {os.getpid()})" in reason()[1]
    await other.close()
    await store.close()


async def test_a_quarantine_whose_parent_was_killed_ends(project: Project) -> None:
    (project.folder / "iii-config.yaml").write_text(
        "http: {port: 0}\nconsole: {port: 0}\nshutdown_timeout: 100ms\n"
    )
    for args in ((), ("--instances", "2")):
        engine = await run_alone(project, f"a{len(args)}", *args)
        (row,) = quarantines(project)
        engine.process.kill()
        engine.process.wait()
        until(lambda: not project.rows(), "nobody is left")
        until(lambda row=row: not Path(f"/proc/{row.pid}").exists(), "its process has ended")
        store = await opened(project)
        (left,) = [each for each in store.waiting("gated") if each.step != ARCHIVE]
        assert (left.state, left.crashes, left.alone) == ("ready", 0, 0), "it was given back"
        await store.close()
        project.open_gate(f"a{len(args)}")
        (project.folder / "journal").unlink()
        engine = project.start()
        until(lambda: len(project.starts()) == 1, "it runs again")
        await settled(project, engine)
        engine.process.terminate()
        engine.process.wait()
        (project.folder / "journal").unlink()


async def test_a_handler_that_cancels_all_tasks_ends_no_care_for_the_quarantine(project: Project) -> None:
    engine = await run_alone(project, "a", "--instances", "1")
    await send(project, "meddler")
    until(lambda: "meddler" in [name for name, _ in project.starts()], "it meddles")
    (row,) = quarantines(project)
    os.kill(row.pid, signal.SIGKILL)
    until(lambda: len(project.starts()) == 5, "it runs alone again, in the next quarantine")
    engine.process.terminate()
    project.open_gate("a")
    until(lambda: engine.process.poll() is not None, "the end")
    assert engine.process.returncode == 0, engine.told
    assert project.rows() == []


async def test_a_roll_replaces_the_quarantine_once_it_has_drained(project: Project) -> None:
    engine = await run_alone(project, "a", "--instances", "2")
    until(lambda: len(project.rows()) == 3, "two instances and it")
    before = {row.pid for row in project.rows()}
    engine.process.send_signal(signal.SIGHUP)
    until(lambda: "All instances are restarted" in engine.told, "the roll")
    project.open_gate("a")
    await settled(project, engine)
    until(lambda: not before & {row.pid for row in project.rows()}, "all of before have ended")
    assert [name for name, _ in project.starts()] == ["a"] * 3, "it drained, and nothing ran again"
    assert project.effects() == {"a": 1}
    engine.process.terminate()
    until(lambda: engine.process.poll() is not None, "the end")
    assert engine.process.returncode == 0, engine.told


async def test_a_second_signal_ends_the_quarantine_too_and_blames_nothing(project: Project) -> None:
    engine = await run_alone(project, "a")

    def has_ended() -> bool:
        engine.process.send_signal(signal.SIGTERM)  # what comes at once after the first is still the first
        return engine.process.poll() is not None

    until(has_ended, "the end")
    until(lambda: not project.rows(), "nobody is left")
    store = await opened(project)
    await store.open_session([])
    left = [(each.state, each.crashes, each.alone) for each in store.waiting("gated")]
    await store.close()
    assert left == [("ready", 2, 0)]


# ------------------------------------------------------------------------------------------------- the keeper


async def test_one_that_cannot_start_is_tried_less_and_less_often(tmp_path: Path) -> None:
    def fails() -> Any:
        raise OSError("no more processes")

    quarantine = Quarantine(fails, lambda: (tmp_path, 10_000))
    assert [await quarantine._run() for _ in range(5)] == [0.1, 0.2, 0.4, 0.8, 1.6]


async def test_boards_that_cannot_be_read_now_are_looked_at_again_later() -> None:
    def data() -> Any:
        raise OSError("no more files can be opened")

    spawned: list[int] = []
    pause_s = await Quarantine(lambda: spawned.append(1), data)._run()  # type: ignore[arg-type,return-value]
    assert pause_s > 0 and not spawned


async def test_there_is_one_on_a_store(tmp_path: Path) -> None:
    """Of whichever engine: two that share no supervisor start one each otherwise."""
    spawned: list[int] = []

    def spawn() -> Any:
        spawned.append(1)

    own = OwnSession(tmp_path, 7, quarantine=True)
    assert await Quarantine(spawn, lambda: (tmp_path, 10_000))._run() == LOOK_AGAIN_S
    assert not spawned
    own.close()


class Work:
    delivered = running = 0


async def test_it_ends_when_nothing_came_and_nothing_ran_for_a_while() -> None:
    work = Work()
    work.running = 1
    quiet = asyncio.ensure_future(until_quiet(work, 0.05))
    done, _ = await asyncio.wait([quiet], timeout=0.2)
    assert not done, "something runs"
    work.running = 0
    async with asyncio.timeout(10):
        await quiet
