"""Each scenario at a fiftieth of its quick size, on the real engine: what it measures and what it refuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.child import Child, ask
from bench.load.closed import Request, closed_loop
from bench.project import PROJECTS, Project, iii_run
from bench.run import checked, run
from bench.scenarios import SCENARIOS, drain, hello
from bench.settings import Round, Settings, WrongResult

TINY = Settings(quick=True, rounds=1, share=0.02)
# As large, pipeline_2 and latency_2 do, with fewer messages and instances.
THE_SAME = {"drain", "drain_32", "pipeline", "latency"}
WITHOUT_WRK = os.path.dirname(sys.executable)

STEP = """
from bench.ledger import of_this_process
from iii import queue

config = {{"name": "Count", "triggers": [queue("bench")]}}
saw = of_this_process().saw

async def handler(message, ctx):
    number = message["n"]
    {does}
"""


def steps(folder: Path, does: str) -> Path:
    """A step that counts messages its own way."""
    (folder / "wrong").mkdir()
    (folder / "wrong" / "count_step.py").write_text(STEP.format(does=does))
    return folder / "wrong"


def drained(folder: Path, does: str) -> None:
    room = folder / "round"
    room.mkdir()
    drain.measure(Round(TINY, room), 32, steps=steps(folder, does))


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - {"core", *THE_SAME}))
def test_a_scenario_measures_the_metrics_it_is_known_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", WITHOUT_WRK)  # which cannot be told to run for less than a second
    result = checked(name, SCENARIOS[name](Round(TINY, tmp_path)))
    assert all(isinstance(value, int | float) for value in result.values())
    assert result.get("errors", 0) == 0


def test_the_cases_of_the_core_lose_and_double_nothing() -> None:
    from bench.metrics import METRICS
    from bench.programs.core import CASES

    assert list(CASES) == list(METRICS["core"])
    assert all(case() > 0 for case in CASES.values())


def test_the_step_that_counts_rightly_passes(tmp_path: Path) -> None:
    drained(tmp_path, "saw(number)")


def test_a_message_that_did_not_run_makes_the_result_wrong(tmp_path: Path) -> None:
    with pytest.raises(WrongResult, match=r"1 did not run \(7\), 0 ran more than once"):
        drained(tmp_path, "number == 7 or saw(number)")


def test_a_message_that_ran_twice_makes_the_result_wrong(tmp_path: Path) -> None:
    with pytest.raises(WrongResult, match=r"0 did not run , 1 ran more than once \(7\)"):
        drained(tmp_path, "saw(number); number == 7 and saw(number)")


def test_a_message_too_many_in_the_store_makes_the_result_wrong(tmp_path: Path) -> None:
    twice = 'saw(number) if number >= 0 else None; number == 7 and await ctx.enqueue("bench", {"n": -1})'
    with pytest.raises(WrongResult, match="were to be done in Lane"):
        drained(
            tmp_path, twice.replace("saw(number) if number >= 0 else None", "number >= 0 and saw(number)")
        )


def test_an_attempt_that_failed_makes_the_result_wrong(tmp_path: Path) -> None:
    with pytest.raises(WrongResult, match="failed=1"):
        drained(tmp_path, "saw(number) if ctx.attempt == 2 or number != 7 else 1 / 0")


def test_a_wrong_scenario_is_told_and_the_others_go_on() -> None:
    def wrong(round: Round) -> dict[str, float]:
        raise WrongResult("three messages were lost")

    scenarios = {"drain": wrong, "fsync": SCENARIOS["fsync"]}
    results, failures = run(["drain", "fsync"], TINY, Console(quiet=True), scenarios)
    assert list(results) == ["fsync"]
    assert str(failures["drain"]) == "three messages were lost"


def test_a_metric_nobody_knows_and_one_that_is_missing_are_wrong() -> None:
    with pytest.raises(WrongResult, match=r"\['p42_us'\], which bench/metrics.py does not know"):
        checked("fsync", {"p50_us": 1, "p99_us": 1, "p42_us": 1})
    with pytest.raises(WrongResult, match=r"did not measure \['p99_us'\]"):
        checked("fsync", {"p50_us": 1})


def test_several_instances_share_the_work(tmp_path: Path) -> None:
    two = Settings(quick=True, instances=2, share=0.02)
    result = drain.measure(Round(two, tmp_path), 32)
    assert len(list((tmp_path / "project" / "ledgers").iterdir())) == 2
    assert result["messages_per_s"] > 0


def test_wrk_or_what_stands_for_it_has_each_answer_counted(tmp_path: Path) -> None:
    result = hello.measure(Round(TINY, tmp_path))
    assert result["requests_per_s"] > 0


@pytest.mark.parametrize("client", ["whichever", "own"])
def test_a_request_that_is_refused_makes_the_result_wrong(
    client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if client == "own":
        monkeypatch.setenv("PATH", WITHOUT_WRK)
    project = Project(Round(TINY, tmp_path), PROJECTS / "hello")
    with (
        iii_run(project) as running,
        pytest.raises(WrongResult, match=r"GET /goodbye: .* errors"),
    ):
        closed_loop(running.address, Request("GET", "/goodbye"), 0.2)


def test_a_program_that_fails_makes_the_result_wrong_and_is_told(tmp_path: Path) -> None:
    nowhere = tmp_path / "iii-config.yaml"
    with pytest.raises(WrongResult, match=r"bench.programs.preload failed:\n(.*\n)*.*iii-config.yaml"):
        ask("bench.programs.preload", {"config": str(nowhere), "chunks": 1, "size": 1})
    writer = {"config": str(nowhere), "callers": 0, "key": "rare", "seconds": 0}
    with (
        Child("bench.programs.writer", writer) as child,
        pytest.raises(WrongResult, match=r"iii-config\.yaml"),
    ):
        child.wait_until_ready()


def test_an_instance_with_something_to_say_makes_the_result_wrong(tmp_path: Path) -> None:
    project = Project(Round(TINY, tmp_path), PROJECTS / "hello")
    step = project.folder / "steps" / "hello_step.py"
    step.write_text(step.read_text() + "\nimport atexit\natexit.register(print, 'odd')\n")
    with pytest.raises(WrongResult, match="odd"), iii_run(project):
        pass
