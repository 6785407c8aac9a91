"""The limits of this machine, measured in the same run as the figures they stand beside.

`raw_lmdb`: put and delete of one row each in synced group commits, with nothing around them: no queue,
no dispatch, no event loop. No durable queue on LMDB can complete more messages a second than this.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import lmdb


def raw_lmdb(
    folder: Path, *, rows: int, group: int, value_bytes: int, fsync: str = "commit"
) -> dict[str, float]:
    """Rows a second that are put in one commit and deleted in a later one, `group` rows a commit."""
    folder.mkdir(parents=True, exist_ok=True)
    env = lmdb.open(
        str(folder), map_size=4 << 30, max_dbs=2, sync=fsync != "interval", metasync=fsync == "commit"
    )
    table = env.open_db(b"rows")
    value = os.urandom(value_bytes)
    keys = [i.to_bytes(16, "big") for i in range(rows)]
    started = time.perf_counter()
    before: list[bytes] = []
    for first in range(0, rows + group, group):
        now = keys[first : first + group]
        with env.begin(write=True) as txn:
            cursor = txn.cursor(table)
            for key in before:
                txn.delete(key, db=table)
            cursor.putmulti([(key, value) for key in now])
        before = now
    seconds = time.perf_counter() - started
    env.close()
    return {"messages_per_s": rows / seconds, "group": group, "value_bytes": value_bytes}


def fsync_us(folder: Path, *, rounds: int = 200) -> dict[str, float]:
    """Microseconds of one fdatasync after a 4 KiB write: what each commit pays at least."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "fsync", os.O_CREAT | os.O_RDWR, 0o600)
    page, spent = os.urandom(4096), []
    for i in range(rounds):
        os.pwrite(fd, page, (i % 64) * 4096)
        started = time.perf_counter_ns()
        os.fdatasync(fd)
        spent.append((time.perf_counter_ns() - started) / 1000)
    os.close(fd)
    spent.sort()
    return {"p50_us": statistics.median(spent), "p99_us": spent[int(rounds * 0.99)]}
