"""Counts and times of all instances, in the text format of Prometheus, and the last hour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine_kit import running, step
from prometheus_client.parser import text_string_to_metric_families

from iii import Context, http, queue
from iii.core import Histogram
from iii.observe.meters import BOUNDS_S, LATELY_MS, OTHERS, TOPICS_MAX, Figures, StepMeter
from iii.observe.snapshots import Share, Snapshot, Times, snapshot
from iii.store.contract import StoreFigures
from iii.web.request import Request


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample, read by the parser of prometheus-client."""
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


async def test_what_ran_is_counted_by_topic_and_step_and_parses() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        if data == "bad":
            raise ValueError("no")
        await ctx.enqueue("out", data)

    work = step(handler, queue("in", config={"max_retries": 1, "retry_delay": 5_000}))
    async with running(work) as app:
        for data in ("good", "good", "bad"):
            await app.send("in", data)
        await app.pass_time(0)
        await app.send("in", "good", delay=60_000)
        await app.pass_time(5_000)
        text = app.engine.metering.render()
        lane = {"topic": "in", "step": "Work"}
        counted = {
            "iii_messages_done_total": 2,
            "iii_attempts_failed_total": 2,
            "iii_runs_started_total": 4,
            "iii_runs_retried_total": 1,
            "iii_runs_dead_total": 1,
            "iii_dead_letters": 1,
            "iii_run_duration_seconds_count": 4,
            "iii_run_wait_seconds_count": 4,
        }
        assert {name: value(text, name, **lane) for name in counted} == counted
        assert value(text, "iii_queue_depth", **lane, state="later") == 1
        assert value(text, "iii_messages_enqueued_total", topic="in") == 4
        assert value(text, "iii_messages_enqueued_total", topic="out") == 2
        assert value(text, "iii_instances") == 1


async def test_requests_are_counted_by_route_and_status() -> None:
    async def handler(request: Request) -> dict[str, Any]:
        return {"status": 201 if request.method == "POST" else 404, "body": None}

    async with running(step(handler, http("POST", "/orders/{id}"), http("GET", "/orders/{id}"))) as app:
        for method in ("POST", "POST", "GET"):
            await app.engine.endpoint.answer(Request(method, "/orders/7", b"", [], b""))
        text = app.engine.metering.render()
        route = {"path": "/orders/{id}", "step": "Work"}
        assert value(text, "iii_http_requests_total", **route, method="POST", status="201") == 2
        assert value(text, "iii_http_requests_total", **route, method="GET", status="404") == 1
        assert value(text, "iii_http_request_duration_seconds_count", **route, method="POST") == 2


async def test_the_last_hour_has_what_happened_between_two_looks_and_trouble_comes_first() -> None:
    async def handler(data: Any) -> None:
        if data == "bad":
            raise ValueError("no")

    async with running(step(handler, queue("in", config={"max_retries": 0}))) as app:
        for data in ("good", "good", "bad"):
            await app.send("in", data)
        await app.settle()
        await app.send("in", "good", delay=60_000)
        app.engine.metering.look()
        app.engine.metering.look()
        overview = app.engine.metering.overview()
        first, second = app.engine.metering.hour
        assert (first.done, first.failed, first.depth) == (2, 1, 1)
        assert first.run_p95_s is not None and second.run_p95_s is None
        assert (second.done, second.failed) == (0, 0)
        assert (overview.done, overview.failed, overview.waiting, overview.dead) == (2, 1, 1, 1)
        (trouble,) = overview.troubles
        assert (trouble.topic, trouble.step, trouble.reasons, trouble.dead) == ("in", "Work", ("dead",), 1)


def figures(done: int, status: int = 200) -> Snapshot:
    from iii.observe.meters import RouteMeter

    found = Figures()
    meter = found.steps["in", "Work"] = StepMeter()
    meter.done = done
    meter.run.add(0.02)
    route = found.routes["GET", "/", "Look"] = RouteMeter()
    route.add(status, 0.001)
    found.enqueued["in"] = done
    return snapshot(found, StoreFigures(commits=done, items=2 * done, commit_s=0.5))


def test_the_figures_of_all_instances_add_up_and_nothing_is_lost_when_one_leaves_or_dies(
    tmp_path: Path,
) -> None:
    here, leaves, dies = Share(tmp_path), Share(tmp_path), Share(tmp_path)
    for share in (here, leaves, dies):
        share.open()
    leaves.publish(figures(10, 500))
    dies.publish(figures(100))

    def told() -> tuple[int, int, int, dict[str, int], int]:
        total = here.total(figures(1))
        (step,), (route,) = total.steps, total.routes
        return total.instances, step.done, step.run.count, route.statuses, total.commits

    assert told() == (3, 111, 3, {"200": 2, "500": 1}, 111)
    leaves.close(figures(20, 500))
    assert told() == (2, 121, 3, {"200": 2, "500": 1}, 121)
    dies.kill()
    assert told()[:2] == (1, 121)
    here.fold()
    here.fold()
    assert told() == (1, 121, 3, {"200": 2, "500": 1}, 121)
    assert {path.name for path in (tmp_path / "metrics").glob("*.json")} == {"gone.json"}


def test_how_far_a_chain_went_is_seen_from_all_instances_for_a_while(tmp_path: Path) -> None:
    here, other = Share(tmp_path), Share(tmp_path)
    for share in (here, other):
        share.open()
    one, two = Figures(), Figures()
    assert one.descended(("in", "Work"), 1_500, 10) and not one.descended(("in", "Work"), 1_501, 11)
    assert two.descended(("in", "Work"), 1_400, 12) and two.descended(("in", "Else"), 1_000, 12)
    other.publish(snapshot(two, StoreFigures()))
    total = here.total(snapshot(one, StoreFigures()))
    assert total.descending(13) == {("in", "Work"): 1_501, ("in", "Else"): 1_000}
    assert total.descending(11 + LATELY_MS) == {("in", "Work"): 1_400, ("in", "Else"): 1_000}
    assert total.descending(12 + LATELY_MS) == {}
    other.kill()
    here.fold()
    assert here.total(snapshot(one, StoreFigures())).descending(13) == {("in", "Work"): 1_501}


def test_nothing_is_written_where_nothing_happened(tmp_path: Path) -> None:
    share = Share(tmp_path)
    share.open()
    assert share.publish(figures(1)) and not share.publish(figures(1)) and share.publish(figures(2))


def test_a_time_on_a_bound_lies_in_its_bucket_and_one_beyond_the_last_is_kept() -> None:
    histogram = Histogram(BOUNDS_S)
    for seconds in (0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.01, 10 * BOUNDS_S[-1]):
        histogram.add(seconds)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-1]) == (2, 1, 1)


def test_a_quantile_lies_within_its_bucket_as_prometheus_has_it() -> None:
    """histogram_quantile's own rule: 100 times between 0.1 and 0.25 s, 100 between 0.25 and 0.5."""
    times = Times()
    times.counts[BOUNDS_S.index(0.25)] = times.counts[BOUNDS_S.index(0.5)] = 100
    found = [times.quantile(share) for share in (0.25, 0.5, 0.75, 0.99, 1.0)]
    assert found == [0.175, 0.25, 0.375, 0.495, 0.5]
    first = Times()
    first.counts[0] = 4
    assert first.quantile(0.5) == BOUNDS_S[0] / 2
    beyond = Times()
    beyond.counts[-1] = 1
    assert beyond.quantile(0.99) == BOUNDS_S[-1]
    assert Times().quantile(0.5) is None


def test_topics_beyond_the_bound_are_counted_together_over_all_instances_too() -> None:
    one, other = Figures(), Figures()
    for number in range(TOPICS_MAX + 50):
        one.sent(f"one-{number}")
        other.sent(f"other-{number}")
    one.sent("one-0")
    assert len(one.enqueued) == TOPICS_MAX + 1
    assert (one.enqueued["one-0"], one.enqueued[OTHERS]) == (2, 50)
    total = Snapshot()
    for each in (one, other):
        total.add(snapshot(each, StoreFigures()))
    assert len(total.enqueued) == TOPICS_MAX + 1
    assert sum(total.enqueued.values()) == 2 * (TOPICS_MAX + 50) + 1
