"""The limits of this machine, measured in the same run as the figures they stand beside.

`raw_lmdb`: rows in synced group commits, with nothing around them: no queue, no dispatch, no event loop. No
durable queue on LMDB completes more messages a second than this. The limit of HTTP is load/bare.py.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import lmdb

from bench.percentiles import percentile

ROW_BYTES = 200
"""About what the engine stores of a small message."""
PAGE_BYTES = 4096


def raw_lmdb(
    folder: Path,
    *,
    rows: int,
    group: int,
    value_bytes: int = ROW_BYTES,
    fsync: str = "commit",
    delete: bool = True,
) -> float:
    """Rows a second that are put, `group` in one commit, and (delete) deleted again in the next one."""
    folder.mkdir(parents=True, exist_ok=True)
    env = lmdb.open(
        str(folder), map_size=8 << 30, max_dbs=2, sync=fsync != "interval", metasync=fsync == "commit"
    )
    table = env.open_db(b"rows")
    value = os.urandom(value_bytes)
    keys = [i.to_bytes(16, "big") for i in range(rows)]
    started = time.perf_counter()
    before: list[bytes] = []
    for first in range(0, rows + (group if delete else 0), group):
        now = keys[first : first + group]
        with env.begin(write=True) as txn:
            cursor = txn.cursor(table)
            for key in before:
                txn.delete(key, db=table)
            cursor.putmulti([(key, value) for key in now])
        before = now if delete else []
    seconds = time.perf_counter() - started
    env.close()
    return rows / seconds


def fsync_us(folder: Path, *, rounds: int = 200) -> dict[str, float]:
    """Microseconds of one fdatasync after a 4 KiB write: what each commit pays at least."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "fsync", os.O_CREAT | os.O_RDWR, 0o600)
    page, spent = os.urandom(PAGE_BYTES), []
    for i in range(rounds):
        os.pwrite(fd, page, (i % 64) * PAGE_BYTES)
        started = time.perf_counter_ns()
        os.fdatasync(fd)
        spent.append((time.perf_counter_ns() - started) / 1000)
    os.close(fd)
    return {"p50_us": percentile(spent, 0.5), "p99_us": percentile(spent, 0.99)}
