"""Makes data.mdb and counts.json: `python make.py DEST`, run with the commit of iii that is to be remembered.

A real engine does the work and is killed in the middle of it. The counts of a lane are those of its rows:
ready, later, behind, leased, dead.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import lmdb

HERE = Path(__file__).parent
IDEMPOTENT = {"Idempotency-Key": "order-1"}


async def fill(engine, client):
    """Something in every table; the engine runs on `project`, its working folder."""
    order = {"id": "o1", "note": "x" * 3_000}
    for _ in range(2):
        (await client.post("/orders", json=order, headers=IDEMPOTENT)).raise_for_status()
    for n in range(2, 6):
        (await client.post("/orders", json={"id": f"o{n}"})).raise_for_status()
    await engine.state.delete("orders", "o5")
    for number, group in enumerate(("a", "a", "a", "b", None)):
        await engine.enqueue("work", {"do": "wait", "id": f"w{number}", "pad": "p" * 2_500}, group=group)
    await engine.enqueue("work", {"do": "fail", "id": "f1"}, group="c")
    await engine.enqueue("work", {"do": "confirm", "id": "f2"}, group="c")
    await engine.enqueue("work", {"do": "confirm", "id": "tomorrow"}, delay="1d")
    await engine.enqueue("frail", {"do": "fail", "id": "d1"}, headers={"x-tenant": "t1"})
    for number in range(3):
        message = {"do": "confirm", "id": f"p{number}", "pad": "p" * 1_000 * number}
        await engine.enqueue(
            "paused", message, priority=("low", "normal", "high")[number], unique=(f"key-{number}", "30d")
        )
    await engine.enqueue("paused", {"do": "confirm", "id": "p3"}, group="g")
    await engine.enqueue("paused", {"do": "confirm", "id": "p4"}, group="g")
    for number in range(2):
        await engine.enqueue("nobody", {"number": number, "pad": "n" * 3_000 * number})


def _counts(store):
    return {
        f"{row.topic}/{row.step}": [row.ready, row.later, row.behind, row.leased, row.dead]
        for row in store.stats()
    }


async def run_until_killed():
    from iii import Engine

    engine = Engine.from_config("iii-config.yaml")
    await engine.start()
    pause = [sys.executable, "-m", "iii", "queue", "pause", "paused"]
    await asyncio.to_thread(subprocess.run, pause, check=True, stdout=sys.stderr)
    transport = httpx.ASGITransport(engine.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await fill(engine, client)
    before: dict[str, list[int]] = {}
    for _ in range(500):
        await asyncio.sleep(0.02)
        counts = _counts(engine.store)
        started = len(list(Path().glob("started-*")))
        records = engine.store.records("run", limit=100)
        if started == 3 and counts == before and counts["work/Work"][3] == 3 and len(records) > 10:
            break
        before = counts
    else:
        os._exit(1)  # it did not come to rest
    rows = ",\n".join(f"  {json.dumps(lane)}: {json.dumps(row)}" for lane, row in counts.items())
    Path("counts").write_text(f"{{\n{rows}\n}}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def main(dest: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary) / "project"
        shutil.copytree(HERE, project, ignore=shutil.ignore_patterns("data.mdb", "__pycache__"))
        child = subprocess.run([sys.executable, HERE / "make.py", "--child"], cwd=project, stdout=sys.stderr)
        assert child.returncode == -signal.SIGKILL, child.returncode
        with lmdb.open(str(project / "data"), max_dbs=17, readonly=True, lock=False) as env:
            env.copy(str(dest), compact=True)
        shutil.copy(project / "counts", dest / "counts.json")


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        asyncio.run(run_until_killed())
    else:
        main(Path(sys.argv[1]))
