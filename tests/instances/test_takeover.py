"""State triggers over several instances: one follows the changes, and another at once when that one ends."""

from __future__ import annotations

import os
import signal

import pytest
from deadline import until
from instances_kit import Project, Started

from iii.store.lmdb import LmdbStore


async def tailer(project: Project, engines: list[Started]) -> Started:
    """The one whose session the mark names."""
    store = LmdbStore(project.data)
    await store.open()
    ((_, session),) = store.marks("tailer/").items()
    await store.close()
    (pid,) = [row.pid for row in project.rows() if row.session == session]
    return next(each for each in engines if each.pid == pid)


def is_seen(project: Project, key: str) -> bool:
    return project.iii("state", "get", "seen", key).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_another_instance_follows_the_changes_when_the_one_that_did_ends(
    project: Project, number: signal.Signals
) -> None:
    engines = [project.start("--no-http") for _ in range(2)]
    for each in engines:
        each.until_ready()
    first = await tailer(project, engines)
    assert project.iii("state", "set", "watched", "a", "1").returncode == 0
    until(lambda: is_seen(project, "a"), "a change that fired")
    os.kill(first.pid, number)
    first.ended()
    assert project.iii("state", "set", "watched", "b", "2").returncode == 0
    until(lambda: is_seen(project, "b"), "a change after the takeover")
    second = await tailer(project, engines)
    assert second is not first
    assert [each.process.poll() is None for each in (first, second)] == [False, True]
    lane = next(each for each in project.iii_json("queue", "list") if each["topic"] == "$state/Gated")
    assert (lane["done"], lane["failed"]) == (2, 0)
