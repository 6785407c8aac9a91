"""Restoring a backup is starting on the copy: all is there as it was, and nobody from before counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

from engine_process import Project, until

from iii.model import Enqueue, Put, Txn
from iii.store.lmdb import LmdbStore

MakeProject = Callable[[str], Project]

STEPS = """
import asyncio, pathlib

config = {"name": "Gated", "triggers": [
    {"type": "queue", "topic": "gated"},
    {"type": "cron", "expression": "0 0 1 1 *"},
]}


async def handler(input, ctx):
    await ctx.flush()
    pathlib.Path(f"started-{input}").touch()
    while not pathlib.Path("gate").exists():
        await asyncio.sleep(0.01)
    await ctx.state.set("ran", str(input), [ctx.attempt, ctx.message_id])
"""


async def _iii(project: Project, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iii", *args]
    run = asyncio.create_subprocess_exec(
        *command, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process = await run
    out, err = await process.communicate()
    return subprocess.CompletedProcess(command, process.returncode or 0, out.decode(), err.decode())


async def test_an_engine_on_the_copy_goes_on_where_the_backup_was_taken(make_project: MakeProject) -> None:
    project = make_project(STEPS)
    killed = project.start()
    await killed.address()
    async with project.store() as store:
        running, later = Enqueue("gated", b'"running"'), Enqueue("gated", b'"later"', delay_ms=1_000)
        committed = await store.commit(Txn([running, later, Put("ns", "kept", b"1")]))
        ids = [store.message_id(number) for (number,) in committed.ids]
        await until((project.folder / "started-running").exists, "a handler that runs", lambda: killed.text)
        marks = store.marks("cron/")
        backup = await _iii(project, "backup", "copy")
        assert backup.returncode == 0, backup.stderr
        await store.commit(Txn([Put("ns", "kept", b"2"), Put("ns", "lost", b"1")]))
        old_session = {row.id for row in store.sessions()}
    killed.process.kill()
    await killed.ended()
    (project.folder / "data").rename(project.folder / "broken")
    (project.folder / "copy").rename(project.folder / "data")

    copy = LmdbStore(project.folder / "data")
    await copy.open()
    assert copy.verify() == [] and copy.unsettled() == 2 and copy.marks("cron/") == marks != {}
    (project.folder / "started-running").unlink()
    (project.folder / "gate").touch()
    restored = project.start()
    await restored.address()
    await until(lambda: len(copy.scan("ran")) == 2, "both messages", lambda: restored.text)
    assert {entry.key: entry.value for entry in copy.scan("ran")} == {
        "running": b'[1,"%s"]' % ids[0].encode(),
        "later": b'[1,"%s"]' % ids[1].encode(),
    }, "the same messages, and what ran when the copy was made has no attempt or crash counted"
    assert [(entry.key, entry.value) for entry in copy.scan("ns")] == [("kept", b"1")]
    assert copy.marks("cron/") == marks, "a schedule that was seen does not begin anew"
    assert not old_session & {row.id for row in copy.sessions()} and copy.verify() == []
    await copy.close()
    assert await restored.stop() == 0 and "dead letter" not in restored.text
