"""Metrics in the text format of Prometheus: names, units and help of everything that is measured.

Owns the names. prometheus-client, imported when first asked, writes the format: nothing of it runs on a
message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from iii.model import ARCHIVE, LaneStats
from iii.observe.meters import BOUNDS_S
from iii.observe.snapshots import Snapshot, Times
from iii.store import kept
from iii.store.contract import StoreFigures

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["CONTENT_TYPE", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LANE = ("topic", "step")
ROUTE = ("method", "path", "step")
_RUNS = {
    "started": "Runs of a step that began.",
    "retried": "Attempts that failed and are tried again.",
    "dead": "Messages that became dead letters.",
    "cancelled": "Runs that returned Cancel.",
    "snoozed": "Runs that returned Snooze.",
}


def render(total: Snapshot, stats: Sequence[LaneStats], store: StoreFigures, wall_ms: int) -> bytes:
    """`total`: of all instances; `stats`: of the store they share; `store`: its file."""
    from prometheus_client.core import CollectorRegistry
    from prometheus_client.exposition import generate_latest
    from prometheus_client.registry import Collector

    class Measured(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from _messages(stats, wall_ms)
            yield from _runs(total)
            yield from _requests(total)
            yield from _store(total, store)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Measured())
    text: bytes = generate_latest(registry)
    return text


def _messages(stats: Sequence[LaneStats], wall_ms: int) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    done = CounterMetricFamily(
        "iii_messages_done", "Messages that are done, since the store was made.", labels=LANE
    )
    failed = CounterMetricFamily(
        "iii_attempts_failed", "Attempts that failed, since the store was made.", labels=LANE
    )
    depth = GaugeMetricFamily("iii_queue_depth", "Messages by state.", labels=(*LANE, "state"))
    age = GaugeMetricFamily(
        "iii_queue_oldest_age_seconds", "Since the oldest message that could run was enqueued.", labels=LANE
    )
    letters = GaugeMetricFamily("iii_dead_letters", "Dead letters that still lie in an archive.", labels=LANE)
    paused = GaugeMetricFamily("iii_queue_paused", "1: nothing of it runs until it is resumed.", labels=LANE)
    for lane in stats:
        if lane.step == ARCHIVE or lane.topic.startswith(kept.TOPICS):
            continue
        labels = (lane.topic, lane.step)
        done.add_metric(labels, lane.done)
        failed.add_metric(labels, lane.failed)
        for state in ("ready", "later", "behind", "leased"):
            depth.add_metric((*labels, state), getattr(lane, state))
        age.add_metric(labels, 0 if lane.oldest_ms is None else max(0, wall_ms - lane.oldest_ms) / 1000)
        letters.add_metric(labels, lane.dead)
        paused.add_metric(labels, lane.paused)
    yield from (done, failed, depth, age, letters, paused)


def _runs(total: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    enqueued = CounterMetricFamily("iii_messages_enqueued", "Messages sent to a topic.", labels=("topic",))
    for topic, count in sorted(total.enqueued.items()):
        enqueued.add_metric((topic,), count)
    yield enqueued
    for name, told in _RUNS.items():
        counted = CounterMetricFamily(f"iii_runs_{name}", told, labels=LANE)
        for each in total.steps:
            counted.add_metric((each.topic, each.step), getattr(each, name))
        yield counted
    run = HistogramMetricFamily(
        "iii_run_duration_seconds", "From the call of a handler to its end.", labels=LANE
    )
    wait = HistogramMetricFamily(
        "iii_run_wait_seconds", "From when a message could have run until it did.", labels=LANE
    )
    for each in total.steps:
        run.add_metric((each.topic, each.step), _buckets(each.run), each.run.sum_s)
        wait.add_metric((each.topic, each.step), _buckets(each.wait), each.wait.sum_s)
    yield from (run, wait)


def _requests(total: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    requests = CounterMetricFamily("iii_http_requests", "Requests to a route.", labels=(*ROUTE, "status"))
    time = HistogramMetricFamily(
        "iii_http_request_duration_seconds", "From the request to its response head.", labels=ROUTE
    )
    for each in total.routes:
        labels = (each.method, each.path, each.step)
        for status, count in sorted(each.statuses.items()):
            requests.add_metric((*labels, status), count)
        time.add_metric(labels, _buckets(each.time), each.time.sum_s)
    yield from (requests, time)


def _store(total: Snapshot, store: StoreFigures) -> Iterator[Metric]:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        SummaryMetricFamily,
    )

    yield SummaryMetricFamily(
        "iii_store_commit_seconds", "Time of a group's commit, fsync included.", total.commits, total.commit_s
    )
    yield CounterMetricFamily(
        "iii_store_commit_items", "Transactions and credits in the commits.", total.commit_items
    )
    yield GaugeMetricFamily("iii_store_file_bytes", "Size of the store's file.", store.file_bytes)
    yield GaugeMetricFamily(
        "iii_store_map_used_bytes", "Of the map: the file up to its last page.", store.used_bytes
    )
    yield GaugeMetricFamily("iii_store_map_bytes", "How large the file may become.", store.map_bytes)
    yield from _kept(store)
    yield GaugeMetricFamily("iii_instances", "Engines that live.", total.instances)
    lag = HistogramMetricFamily(
        "iii_event_loop_lag_seconds", "How late the event loop was, looked at once a second."
    )
    lag.add_metric((), _buckets(total.lag), total.lag.sum_s)
    yield lag


def _kept(store: StoreFigures) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily(
        "iii_idempotency_answers", "Answers that are kept for their Idempotency-Key.", store.kept_answers
    )
    yield GaugeMetricFamily("iii_idempotency_bytes", "What they take.", store.kept_bytes)
    yield GaugeMetricFamily(
        "iii_idempotency_limit_bytes", "What they may take: http.max_idempotency.", store.kept_bytes_max
    )
    yield CounterMetricFamily(
        "iii_idempotency_evicted",
        "Kept answers that went before their time, for want of room, since the store was made.",
        store.kept_evicted,
    )


def _buckets(times: Times) -> list[tuple[str, float]]:
    """Added up, as the format wants them."""
    bounds: Iterable[str] = (*map(str, BOUNDS_S), "+Inf")
    added, found = 0, []
    for bound, count in zip(bounds, times.counts, strict=True):
        added += count
        found.append((bound, float(added)))
    return found
