"""Killed at each commit of a clear that one Txn cannot hold: the next attempt clears the rest."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import signal
from pathlib import Path

from clear_scenario import KEYS, Cleaning, run_until


def test_a_worker_killed_between_the_chunks_leaves_the_rest_to_the_next_attempt(tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "data"
    asyncio.run(Cleaning(whole).fill())
    filled = tmp_path / "filled"
    shutil.copytree(whole, filled)
    unharmed = Cleaning(whole)
    asyncio.run(unharmed.run())
    commits = unharmed.commits
    assert asyncio.run(unharmed.left()) == (0, True, 0)

    server = multiprocessing.get_context("forkserver")
    seen: set[int] = set()
    for number in range(1, commits + 1):
        folder = tmp_path / str(number) / "data"
        shutil.copytree(filled, folder)
        child = server.Process(target=run_until, args=(folder, "after", number))
        child.start()
        child.join(30)
        assert child.exitcode in (-signal.SIGKILL, 0), number
        keys, is_done, waiting = asyncio.run(Cleaning(folder).left())
        assert is_done <= (keys == 0), "the outcome is there and the clear is not"
        assert is_done or waiting or keys == KEYS, "something is cleared and the message is gone"
        seen.add(keys)
        asyncio.run(Cleaning(folder).run(send=not (waiting or is_done)))
        assert asyncio.run(Cleaning(folder).left()) == (0, True, 0)
    assert seen == {3_000, 2_000, 1_000, 0}, "killed between all of the chunks"
