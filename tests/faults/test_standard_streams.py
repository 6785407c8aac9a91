"""Standard streams that are closed, full, or read by nobody: an engine works on, and its end is clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_process import Project, until

from iii.store.lmdb.roster import roster

MakeProject = Callable[[str], Project]

STEP = """
config = {"name": "Talks", "triggers": [{"type": "queue", "topic": "in"}]}


async def handler(data, ctx):
    print("x" * 10_000)
    ctx.logger.info("y" * 10_000)
"""

INSTANCES = (1, 2)


@contextmanager
def running(
    project: Project, instances: int, *, shell: str = "", **streams: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """`iii run`, ready, with these streams; `shell`: redirections."""
    command = [sys.executable, "-m", "iii", "run", "--port", "0", "--instances", str(instances)]
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command], cwd=project.folder, **{**given, **streams}
    )
    try:
        yield process
    finally:
        for row in roster(project.folder / "data"):
            os.kill(row.pid, signal.SIGKILL)
        process.kill()
        process.wait()


async def until_ready(project: Project, instances: int) -> None:
    def ready() -> bool:
        return [row.health for row in roster(project.folder / "data")] == ["ready"] * instances

    await until(ready, "ready instances")


async def stops_well(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    await until(lambda: process.poll() is not None, "its end")
    assert process.returncode == 0


async def work(project: Project) -> None:
    """A message that prints runs to its end."""
    sent = subprocess.run(
        [sys.executable, "-m", "iii", "enqueue", "in", "1"],
        cwd=project.folder,
        capture_output=True,
        text=True,
    )
    assert sent.returncode == 0, sent.stderr
    async with project.store() as store:
        await until(lambda: store.unsettled() == 0, "all run")


@pytest.mark.parametrize("instances", INSTANCES)
@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_an_engine_started_with_closed_streams_runs_and_ends_well(
    make_project: MakeProject, shell: str, instances: int
) -> None:
    project = make_project(STEP)
    with running(project, instances, shell=shell) as process:
        await until_ready(project, instances)
        for fd in (0, 1, 2):
            assert Path(f"/proc/{process.pid}/fd/{fd}").readlink() == Path(os.devnull)
        await work(project)
        await stops_well(process)


@pytest.mark.parametrize("instances", INSTANCES)
async def test_a_reader_that_goes_away_neither_stops_an_engine_nor_fails_its_end(
    make_project: MakeProject, instances: int
) -> None:
    project = make_project(STEP)
    reads, writes = os.pipe()
    with running(project, instances, stdout=writes, stderr=writes) as process:
        os.close(writes)
        await until_ready(project, instances)
        os.close(reads)
        await work(project)
        await stops_well(process)


@pytest.mark.parametrize("instances", INSTANCES)
async def test_a_pipe_that_nobody_reads_stops_no_engine(make_project: MakeProject, instances: int) -> None:
    """Each message prints and logs more than the pipe has room for after a few of them."""
    project = make_project(STEP)
    reads, writes = os.pipe()
    with running(project, instances, stdout=writes, stderr=writes) as process:
        await until_ready(project, instances)
        for _ in range(8):
            await work(project)
        await stops_well(process)
    os.close(reads)
    os.close(writes)


@pytest.mark.parametrize(
    ("shell", "code", "told"),
    [(">&-", 0, ""), (">/dev/full", 1, "error: the output: No space left on device\n")],
)
def test_a_command_whose_output_goes_nowhere_says_it_in_a_line_or_not_at_all(
    make_project: MakeProject, shell: str, code: int, told: str
) -> None:
    project = make_project(STEP)
    command = [sys.executable, "-m", "iii", "steps"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command],
        cwd=project.folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (code, told)


def test_a_command_whose_reader_goes_away_prints_no_traceback(make_project: MakeProject) -> None:
    project = make_project(STEP)
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", "iii", "steps"], cwd=project.folder, stdout=writes, stderr=subprocess.PIPE
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, b"")
