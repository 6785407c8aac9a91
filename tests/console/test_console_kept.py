"""What is kept of HTTP answers, as the overview, the metrics and `iii queue list` say it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
from click.testing import CliRunner
from console_kit import serving
from engine_kit import step
from prometheus_client.parser import text_string_to_metric_families

from iii import http
from iii.cli.group import command_line
from iii.model import Enqueue, Txn, Unique
from iii.store.contract import Limits
from iii.store.kept import ROW_BYTES
from iii.store.lmdb import LmdbStore
from iii.store.operations import kept_row, queue_rows

MIB = 1 << 20


def lines_of(text: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("iii_idempotency_")
    }


async def test_kept_answers_are_shown_with_their_bytes_and_their_bound(tmp_path: Path) -> None:
    async def pay() -> dict[str, int]:
        return {"paid": 1}

    async with (
        serving(tmp_path, step(pay, http("POST", "/pay"), name="Pay")) as console,
        httpx.AsyncClient(base_url=console.engine.report().address or "", trust_env=False) as client,
    ):
        store = console.engine.store
        assert (await console.get("/api/overview"))["store"]["kept"]["answers"] == 0
        assert kept_row(store) is None
        for key in ("a", "a", "b"):
            assert (await client.post("/pay", headers={"Idempotency-Key": key})).json() == {"paid": 1}
        kept = (await console.get("/api/overview"))["store"]["kept"]
        assert kept == {"answers": 2, "bytes": kept["bytes"], "bytes_max": 64 * MIB, "evicted": 0}
        assert kept["bytes"] == sum(len(each.payload) + ROW_BYTES for each in store.waiting("$http/Pay"))
        assert lines_of((await console.http.get("/metrics")).text) == {
            "iii_idempotency_answers": 2,
            "iii_idempotency_bytes": kept["bytes"],
            "iii_idempotency_limit_bytes": 64 * MIB,
            "iii_idempotency_evicted_total": 0,
        }
        assert all(not row.topic.startswith("$http") for row in queue_rows(store))
        assert store.verify() == []


def test_the_command_line_shows_them_below_the_queues(tmp_path: Path) -> None:
    config = tmp_path / "iii-config.yaml"
    config.write_text("store: {path: data}\nhttp: {max_idempotency: 100KiB}\n")

    def listed(*options: str) -> str:
        result = CliRunner().invoke(command_line, ["-c", str(config), "queue", "list", *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    async def keep(keys: range) -> None:
        store = LmdbStore(tmp_path / "data", limits=Limits(kept_bytes_max=100 << 10))
        await store.open()
        for key in keys:
            unique = Unique(f"k-{key}", 60_000, exclusive=True)
            await store.commit(Txn((Enqueue("$http/Pay", bytes(40 << 10), step="", unique=unique),)))
        await store.close()

    asyncio.run(keep(range(0)))
    assert "kept" not in listed() and json.loads(listed("--json")) == []
    asyncio.run(keep(range(5)))
    taken = 2 * ((40 << 10) + ROW_BYTES)
    assert listed().splitlines()[-1] == (
        f"kept HTTP answers: 2, {taken} of {100 << 10} bytes; 3 went before their time (http.max_idempotency)"
    )
    (row,) = json.loads(listed("--json"))
    assert (row["topic"], row["ready"], row["answers"], row["bytes"], row["bytesMax"], row["evicted"]) == (
        *("$http", 0, 2, taken, 100 << 10, 3),
    )
