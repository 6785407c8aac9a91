"""Every metric by scenario, with what it means: the names in the results, which stay as they are.

A unit is the end of a name: `_per_s _ns _us _ms _s _mib _mib_per_s _percent`; others are counts or ratios.
`limit_<metric>` is the limit of <metric>, measured beside it in the same round.
"""

from __future__ import annotations

from bench.percentiles import SHARES

Meanings = dict[str, str]

CORE: Meanings = {
    "queue_push_pop_ns": "PriorityQueue: one push and one pop",
    "queue_batch_push_pop_ns": "PriorityQueue: the same in batches of 250",
    "wheel_schedule_fire_ns": "TimerWheel: one timer scheduled and fired",
    "wheel_schedule_cancel_ns": "TimerWheel: one timer scheduled and cancelled",
    "dispatch_push_take_done_ns": "Dispatcher: one message through a lane and a slot, 8 lanes",
    "batch_append_swap_ns": "Batch: one item appended and swapped out, 1,000 at a time",
}

DRAIN: Meanings = {
    "messages_per_s": "to the last one settled",
    "accepted_per_s": "until the last one was durable",
    "groups": "commits",
    "writes_per_group": "enqueues, settlements and credits a commit",
    "commit_ms": "LMDB's commit with its fsync, mean",
    "loop_us_per_message": "CPU of the loop's thread: enqueue, hand over, run, settle",
    "lock_us_per_message": "writer: waiting for the write lock",
    "apply_us_per_message": "writer: check and apply",
    "grant_us_per_message": "writer: grant",
    "commit_us_per_message": "writer: LMDB's commit",
    "limit_messages_per_s": "raw LMDB: put and delete at the same group size",
    "ratio_to_limit": "messages_per_s / its limit",
}

PIPELINE: Meanings = {
    "requests_per_s": "POST /messages answered with 200",
    "errors": "other answers and broken connections; one fails the scenario",
    "messages_per_s": "accepted, processed and notified, from the first request to the last notification",
    "behind_max_s": "the oldest message that was not processed yet, at the worst moment",
    "behind_end_s": "from the last request to the last notification",
    "behind_end_messages": "messages waiting or running in all lanes after the last request",
    "limit_requests_per_s": "an asyncio protocol that answers a constant, same client",
    "ratio_to_limit": "requests_per_s / its limit",
}


def _percentiles(prefix: str, meaning: str) -> Meanings:
    return {f"{prefix}_{name}_ms": f"{meaning}, {name.replace('_', '.')}" for name in SHARES}


LATENCY: Meanings = {
    **_percentiles("enqueue_idle", "enqueue to handler, one at a time"),
    **_percentiles("enqueue_1k", "enqueue to handler at 1,000/s"),
    **_percentiles("enqueue_10k", "enqueue to handler at 10,000/s"),
    "idle_commit_p50_ms": "LMDB's commit with its fsync while one at a time was sent, p50",
    "idle_over_commit_p50_ms": "enqueue_idle_p50_ms - idle_commit_p50_ms",
    "idle_over_commit_p99_ms": "enqueue_idle_p99_ms - idle_commit_p50_ms",
    **_percentiles("request_idle", "POST to answer at 100/s"),
    **_percentiles("request_1k", "POST to answer at 1,000/s"),
    **_percentiles("request_10k", "POST to answer at 10,000/s"),
}

METRICS: dict[str, Meanings] = {
    "core": CORE,
    "fsync": {
        "p50_us": "fdatasync after a 4 KiB write, median",
        "p99_us": "the same, p99",
    },
    "drain": DRAIN,
    "drain_32": DRAIN,
    "drain_apart": {
        name: meaning
        for awaiting in (64, 512)
        for name, meaning in {
            f"{awaiting}_messages_per_s": f"to the last one settled, {awaiting} enqueues awaited at any time",
            f"{awaiting}_accepted_per_s": "until the last one was durable",
            f"{awaiting}_writes_per_group": "enqueues a commit of the producer",
        }.items()
    },
    "recording": {
        "messages_per_s": "drain with the default history",
        "without_messages_per_s": "drain with history.keep 0",
        "recording_cost_percent": "of the messages a second that records take",
        "loop_us_per_message": "CPU of the loop's thread with the default history",
        "without_loop_us_per_message": "CPU of the loop's thread with history.keep 0",
    },
    "backlog": {
        "preload_per_s": "messages stored by handlers, 5,000 a commit",
        "start_ms": "spawn of `iii run` to its start-up report, the backlog there",
        "messages_per_s": "from the queue's resumption, `iii run` being up, to the last one settled",
        "ratio_to_drain": "messages_per_s / that of drain in this run",
        "rss_anon_max_mib": "the most memory of its own that `iii run` had while it drained",
        "limit_messages_per_s": "raw LMDB: put and delete, 512 a commit",
        "ratio_to_limit": "messages_per_s / its limit",
    },
    "hello": {
        "requests_per_s": "answered with 200",
        "errors": "other answers and broken connections; one fails the scenario",
        "hypercorn_requests_per_s": "the same with `http.lane: false`: by Hypercorn alone",
        "ratio_to_hypercorn": "requests_per_s / those through Hypercorn",
        "limit_requests_per_s": "an asyncio protocol that answers a constant, same client",
        "ratio_to_limit": "requests_per_s / its limit",
    },
    "pipeline": PIPELINE,
    "pipeline_2": PIPELINE,
    "latency": LATENCY,
    "latency_2": LATENCY,
    "latency_apart": {
        "p50_ms": "enqueue in one process to handler in another, one at a time, p50",
        "p99_ms": "the same, p99",
        "commit_p50_ms": "the producer's LMDB commit with its fsync, p50",
        "over_commit_p50_ms": "p50_ms - commit_p50_ms",
        "over_commit_p99_ms": "p99_ms - commit_p50_ms",
    },
    "state": {
        "set_spread_per_s": "engine.state.set over 1,000 keys, each durable on return",
        "writes_per_group": "writes a commit meanwhile",
        "set_hot_per_s": "set, all of one key",
        "get_per_s": "get over 1,000 keys",
        "update_spread_per_s": "update (increment), 256 keys",
        "update_hot_per_s": "update (increment), all of one key",
        "list_rows_per_s": "rows of list over 1,000 keys",
        "set_watched_per_s": "set in a namespace with a state trigger, 256 keys",
        "watched_done_per_s": "the same until the trigger has run for each change",
        "limit_set_spread_per_s": "raw LMDB: put at the same group size",
        "ratio_to_limit": "set_spread_per_s / its limit",
    },
    "timers": {
        "insert_per_s": "messages with a delay of an hour stored, each durable on return",
        "insert_ratio_to_drain": "insert_per_s / accepted_per_s of drain in this run",
        **_percentiles("late", "handler's start after it was due, at 10,000 due a second"),
        "late_max_ms": "the same, at most",
        "limit_insert_per_s": "raw LMDB: put, 512 a commit",
        "ratio_to_limit": "insert_per_s / its limit",
    },
    "large": {
        name: meaning
        for kib in (1, 10, 100)
        for name, meaning in {
            f"{kib}_kib_messages_per_s": f"drain with {kib} KiB payloads",
            f"{kib}_kib_mib_per_s": "the same, of payload",
            f"limit_{kib}_kib_messages_per_s": "raw LMDB: put and delete of such rows at the same group size",
        }.items()
    },
    "start": {
        "first_answer_ms": "spawn of `iii run` to the first HTTP answer, median of its starts",
        "up_ms": "spawn of `iii run` to its start-up report",
        "limit_first_answer_ms": "`python -c pass`",
    },
    "idle": {
        "cpu_percent": "of one processor, all threads",
        "switches_per_s": "voluntary context switches: how often it woke up",
        "rss_anon_mib": "memory of its own",
    },
    "writers": {
        **_percentiles("commit", "a rare writer's commit beside two hot instances"),
        "hot_writes_per_s": "of both hot ones",
        "limit_commit_p50_ms": "the rare writer alone, p50",
        "limit_commit_p99_ms": "the rare writer alone, p99",
    },
}

UNITS = {
    "_mib_per_s": "MiB/s",
    "_per_s": "/s",
    "_ns": "ns",
    "_us": "µs",
    "_us_per_message": "µs",
    "_ms": "ms",
    "_s": "s",
    "_mib": "MiB",
    "_percent": "%",
}


def unit(metric: str) -> str:
    """By the longest ending that has one."""
    known = [end for end in UNITS if metric.endswith(end)]
    return UNITS[max(known, key=len)] if known else ""
