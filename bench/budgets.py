"""What figures are held against: 2 cores, fsync = commit, one instance (two in `…_2`), medians of five."""

from __future__ import annotations

from dataclasses import dataclass

REACHED, AIM, SHORT = "reached", "aim", "short"


@dataclass(frozen=True)
class Budget:
    """`must` be reached, `aim` for more. `less`: the smaller the better."""

    must: float
    aim: float | None = None
    less: bool = False

    def verdict(self, value: float) -> str:
        """`aim`: reached too; `reached`: the must; `short` of it."""
        if self.aim is not None and self._holds(value, self.aim):
            return AIM
        return REACHED if self._holds(value, self.must) else SHORT

    def _holds(self, value: float, bound: float) -> bool:
        return value <= bound if self.less else value >= bound


BUDGETS: dict[tuple[str, str], Budget] = {
    ("drain", "messages_per_s"): Budget(60_000, 100_000),
    ("drain_32", "messages_per_s"): Budget(30_000, 60_000),
    ("recording", "recording_cost_percent"): Budget(10, less=True),
    ("pipeline", "requests_per_s"): Budget(10_000, 20_000),
    ("pipeline", "behind_max_s"): Budget(2, less=True),
    ("pipeline_2", "requests_per_s"): Budget(10_000),
    ("pipeline_2", "behind_max_s"): Budget(2, less=True),
    ("hello", "requests_per_s"): Budget(50_000, 80_000),
    ("latency", "idle_over_commit_p50_ms"): Budget(0.5, 0.2, less=True),
    ("latency", "idle_over_commit_p99_ms"): Budget(4, 1, less=True),
    ("latency_apart", "p99_ms"): Budget(2, 1, less=True),
    ("backlog", "ratio_to_drain"): Budget(0.85),
    ("backlog", "start_ms"): Budget(1_000, less=True),
    ("backlog", "rss_anon_max_mib"): Budget(120, 80, less=True),
    ("timers", "insert_ratio_to_drain"): Budget(1.0),
    ("timers", "late_p99_ms"): Budget(50, less=True),
    ("start", "first_answer_ms"): Budget(500, 300, less=True),
    ("idle", "cpu_percent"): Budget(1, 0.2, less=True),
    ("writers", "commit_p99_ms"): Budget(10, less=True),
}
