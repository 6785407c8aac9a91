"""iii.testing as its users see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iii import Context, InputError, Response, cron, http, queue
from iii.definitions.loader import make_step
from iii.testing import harness


def steps(log: list[Any]) -> list[Any]:
    async def endpoint(request: Any, ctx: Context) -> Any:
        await ctx.enqueue("later", request.query_params, delay="10m")
        return Response(202, {"path": request.path_params["id"]}, {"x-answer": "yes"})

    async def worker(data: Any, ctx: Context) -> None:
        log.append(("worked", ctx.now().isoformat(timespec="minutes")))
        if ctx.attempt < 3:
            ctx.logger.warning("Not yet", attempt=ctx.attempt)
            raise ValueError("not yet")

    async def nightly(tick: Any) -> None:
        log.append(("ticked", tick.scheduled_at.isoformat(timespec="minutes")))

    return [
        make_step({"name": "Endpoint", "triggers": [http("PUT", "/things/:id")]}, endpoint),
        make_step(
            {"name": "Worker", "triggers": [queue("later", config={"retry_delay": "1h", "max_retries": 1})]},
            worker,
        ),
        make_step({"name": "Nightly", "triggers": [cron("0 0 * * *")]}, nightly),
    ]


async def test_time_passes_event_by_event() -> None:
    log: list[Any] = []
    async with harness(steps(log)) as app:
        reply = await app.put("/things/7?a=1", params={"b": ["2", "3"]}, json={})
        assert (reply.status, reply.json(), reply.headers["x-answer"]) == (202, {"path": "7"}, "yes")
        await app.settle()
        assert log == []
        (waiting,) = app.queued("later")
        assert waiting.data == {"a": "1", "b": "3"} and waiting.step == "Worker"

        await app.advance("3d")
        assert log == [
            ("worked", "2026-01-01T00:10+00:00"),
            ("worked", "2026-01-01T01:10+00:00"),
            ("ticked", "2026-01-02T00:00+00:00"),
            ("ticked", "2026-01-03T00:00+00:00"),
            ("ticked", "2026-01-04T00:00+00:00"),
        ]
        (letter,) = app.dead("later.failed")
        assert (letter.step, letter.topic, letter.attempts) == ("Worker", "later", 2)
        assert letter.error == "ValueError: not yet"
        not_yet = [line.fields["attempt"] for line in app.logs if line.message == "Not yet"]
        assert not_yet == [1, 2]


async def test_crons_run_by_hand_and_logs_tell_the_step() -> None:
    log: list[Any] = []
    async with harness(steps(log)) as app:
        await app.run_cron("Nightly")
        assert [kind for kind, _ in log] == ["ticked"]
        assert (await app.get("/health")).status == 200


async def test_too_many_events_are_refused_instead_of_taking_for_ever() -> None:
    async def every_second(tick: Any) -> None: ...

    step = make_step({"name": "Busy", "triggers": [cron("* * * * * *")]}, every_second)
    async with harness([step]) as app:
        await app.advance("5s")
        with pytest.raises(InputError, match="smaller steps"):
            await app.advance("1d", events_max=100)


async def test_no_test_sends_spans_to_the_collector_of_a_service(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "iii-config.yaml").write_text(
        "traces: {endpoint: 'http://collector.example'}\nhistory: {keep: 7}"
    )
    async with harness(tmp_path / "steps") as app:
        assert (app.engine.config.history.keep, app.engine.spans) == (7, None)
