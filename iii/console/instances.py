"""/api/instances: the engines that live on the store, and what their processes take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec import Struct

from iii.console.asks import Ask
from iii.console.means import InstanceRow, Means

__all__ = ["ROUTES"]

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class InstanceView(Struct, frozen=True):
    """here: the one that answers. quarantine: it runs suspects alone, nothing else. cpu: share of one core
    since it started. rss: bytes in memory. None: not known, as of a process in another container."""

    pid: int
    session: int
    started_ms: int
    uptime_s: int
    in_flight: int
    requests: int
    per_s: float
    health: str
    lanes: int
    here: bool
    quarantine: bool
    cpu: float | None
    rss: int | None


def instances(ask: Ask) -> dict[str, Any]:
    means = ask.means
    now_ms = means.store.clock.wall_ms()
    found = [_view(row, now_ms, means.store.session) for row in means.roster()]
    return {"instances": found or [_alone(means, now_ms)]}


def _view(row: InstanceRow, now_ms: int, own: int) -> InstanceView:
    cpu_s, rss = _usage(row.pid)
    return InstanceView(
        pid=row.pid,
        session=row.session,
        started_ms=now_ms - row.uptime_ms,
        uptime_s=row.uptime_ms // 1000,
        in_flight=row.in_flight,
        requests=row.requests,
        per_s=row.messages_per_s,
        health=row.health,
        lanes=row.lanes,
        here=row.session == own,
        quarantine=row.quarantine,
        cpu=None if cpu_s is None else round(cpu_s * 1000 / max(1, row.uptime_ms), 3),
        rss=rss,
    )


def _alone(means: Means, now_ms: int) -> InstanceView:
    """A store that no other process sees."""
    _, rss = _usage(os.getpid())
    _, done_per_s = 0.0, means.pulse.rates().done_per_s
    return InstanceView(
        pid=os.getpid(),
        session=means.store.session,
        started_ms=means.started_ms,
        uptime_s=max(0, now_ms - means.started_ms) // 1000,
        in_flight=sum(lane.leased for lane in means.pulse.look().lanes.values()),
        requests=means.endpoint.in_flight,
        per_s=done_per_s,
        health="draining" if means.stopping.is_set() else "ready",
        lanes=len(means.bindings),
        here=True,
        quarantine=False,
        cpu=None,
        rss=rss,
    )


def _usage(pid: int) -> tuple[float | None, int | None]:
    """(seconds of processor time, bytes in memory)"""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None, None
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S, int(fields[21]) * PAGE_BYTES


ROUTES = (("GET", "/api/instances", instances),)
