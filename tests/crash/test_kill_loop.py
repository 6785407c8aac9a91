"""The kill loop's short form; `make crash` runs the long one. A printed seed repeats the dice of a run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from kill_loop import Plan, kill_again_and_again, report


@pytest.mark.parametrize(
    ("instances", "kills", "supervised"),
    [(1, 3, False), (3, 9, False), (2, 4, True)],
    ids=["one_engine", "three_engines", "two_under_a_supervisor"],
)
async def test_what_was_acknowledged_happens_once_however_often_engines_are_killed(
    tmp_path: Path, instances: int, kills: int, supervised: bool
) -> None:
    plan = Plan(
        kills,
        instances,
        seconds=60.0,
        seed=random.randrange(1 << 32),
        supervised=supervised,
        pause_s=0.2,
        long_stops=0.0,
        pause_ms=10.0,
    )
    result = await kill_again_and_again(plan, tmp_path / "project")
    print(report(result))
    assert result.failed == []
    assert result.sent["SIGKILL"] == kills
    assert len(result.evidence.work) > 20, "there was no load"
