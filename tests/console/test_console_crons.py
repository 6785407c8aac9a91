"""/api/cron shows what will really happen next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from console_kit import Console, serving, step

from iii import cron
from iii.clock import FakeClock
from iii.model import Mark, Txn

HOUR_MS = 3_600_000


async def clean(tick: Any) -> None:
    pass


async def shown(console: Console) -> Any:
    [found] = (await console.get("/api/cron"))["crons"]
    return found


async def test_the_next_ticks_are_those_that_will_come_after_a_clock_was_set_back(tmp_path: Path) -> None:
    clock = FakeClock()
    start_ms = clock.wall_ms()
    clock.set_wall(start_ms + 1_000)
    work = step(clean, cron("0 * * * *", timezone="Europe/Berlin"), name="Clean")
    async with serving(tmp_path, work, clock=clock) as console:
        found = await shown(console)
        assert found["next_ms"] == [start_ms + n * HOUR_MS for n in range(1, 6)]
        assert (found["last_ms"], found["notes"], found["timezone"]) == (None, [], "Europe/Berlin")
        clock.advance(2 * HOUR_MS - 1_000)
        await console.engine.idle(20, due_only=True)
        assert (await shown(console))["last_ms"] == start_ms + 2 * HOUR_MS
        clock.set_wall(start_ms)
        found = await shown(console)
        assert found["next_ms"][0] == start_ms + 3 * HOUR_MS
        upto = "it is dealt with up to 2026-01-01T03:00:00+01:00 Europe/Berlin"
        assert found["notes"] == [f"{upto}, which lies 2h ahead of the clock: nothing before that"]


async def test_a_pause_and_a_schedule_that_another_took_the_place_of_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path, step(clean, cron("0 2 * * *"), name="Clean")) as console:
        assert await console.post("/api/cron/Clean/pause") == {"changed": 1}
        paused = "paused: ticks wait, at most 1,000, until it is resumed (0 wait or run)"
        assert (await shown(console))["notes"] == [paused]
        store = console.engine.store
        (place,) = store.marks("cron-schedule/").items()
        await store.commit(Txn((Mark(place[0], 1, place[1]),)))
        assert (await shown(console))["notes"] == ["it begins when an engine starts with it", paused]


async def test_the_zone_is_named_wherever_a_schedule_is(tmp_path: Path) -> None:
    work = step(clean, cron("0 2 * * *"), cron("0 3 * * *", timezone="Asia/Tokyo"), name="Clean")
    async with serving(tmp_path, work) as console:
        [listed] = (await console.get("/api/steps"))["steps"]
        assert [each["text"] for each in listed["triggers"]] == ["0 2 * * * UTC", "0 3 * * * Asia/Tokyo"]
        nodes = (await console.get("/api/flow"))["nodes"]
        assert [(each["label"], each["detail"]) for each in nodes if each["kind"] == "cron"] == [
            ("every day at 02:00 UTC", "0 2 * * * UTC"),
            ("every day at 03:00 Asia/Tokyo", "0 3 * * * Asia/Tokyo"),
        ]
