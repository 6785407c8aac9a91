"""Who works here: sessions open, leave and die; leases are granted to them.

A session's process shows its peers whether it lives (`dead_sessions`) and which handlers it has started.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from iii.model import Lane, LanePolicy, Lease, Message, SessionRow
from iii.store.memory import moves
from iii.store.memory.tables import MemoryTables, Now, Row

__all__ = ["enter_session", "grant", "leave_session", "recover_dead"]


def enter_session(tables: MemoryTables, policies: Sequence[LanePolicy], now: Now) -> int:
    """Register a session that serves the policies' lanes, and adopt what waited for it."""
    session = tables.next("session")
    served = sorted({(policy.topic, policy.step) for policy in policies if policy.step})
    tables.session.put(session, SessionRow(session, os.getpid(), now.wall_ms, served))
    for policy in policies:
        lane = Lane(policy.topic, policy.step)
        tables.lane.put(lane, replace(tables.use(lane), policy=policy))
    _refresh_served(tables)
    for topic, step in served:  # the first step of a topic leaves nothing to the others
        moves.adopt(tables, topic, step)
    return session


def leave_session(tables: MemoryTables, session: int, now: Now) -> None:
    """Give back what the session still leases, without counting an attempt or clearing a suspicion."""
    for _, row in list(tables.leased.under(session)):
        moves.put_back(tables, row, "session left", 0, now.delay_ms)
    tables.session.pop(session)
    _refresh_served(tables)


def recover_dead(tables: MemoryTables, now: Now) -> None:
    """Bury every dead session: its leases return, and the handlers it had started share the blame.

    One suspect among the started takes the blame alone; whatever had not started returns as it was.
    """
    for session in [id for id, _ in tables.session.scan() if id in tables.dead_sessions]:
        rows = [row for _, row in tables.leased.under(session)]
        started = [row for row in rows if tables.started.get((session, row.id)) == row.token]
        suspects = [row for row in started if row.crashes]
        blamed = {row.id for row in suspects or started}
        for row in rows:
            crashes = row.crashes + 1 if row.id in blamed else row.crashes
            moves.put_back(tables, row, "session died", 0, now.delay_ms, crashes=crashes)
        tables.session.pop(session)
        _refresh_served(tables)


def grant(tables: MemoryTables, session: int, levels: Mapping[Lane, int]) -> list[Message]:
    """Lease what the levels leave room for and the rules allow, by priority and age within each lane."""
    held = [row for _, row in tables.leased.under(session)]
    suspect = any(row.crashes for row in held)
    in_flight = Counter(row.lane for row in held)
    chosen: list[Row] = []
    for lane, level in levels.items():
        room = _room(tables, lane, level - in_flight[lane])
        for _, row in tables.ready.under(lane):
            if room <= 0:
                break
            if row.crashes and suspect:
                continue
            suspect = suspect or row.crashes > 0
            chosen.append(row)
            room -= 1
    if not chosen:
        return []
    token = tables.next("commit")
    for row in chosen:
        moves.lease(tables, row, session, token)
    return [_message(row, Lease(session, row.id, token)) for row in chosen]


def _room(tables: MemoryTables, lane: Lane, wanted: int) -> int:
    """How many of the wanted leases the lane may have now."""
    row = tables.lane.get(lane)
    if row is None or row.paused:
        return 0
    most = row.policy.max_in_flight
    return wanted if most is None else min(wanted, most - tables.counted(lane, "leased"))


def _refresh_served(tables: MemoryTables) -> None:
    """A lane is served while a session subscribes to it; once no session is left, the last state stays."""
    if not len(tables.session):
        return
    served = {lane for _, session in tables.session.scan() for lane in session.lanes}
    for lane, row in list(tables.lane.scan()):
        if row.served != (lane in served):
            tables.lane.put(lane, replace(row, served=lane in served))


def _message(row: Row, lease: Lease) -> Message:
    return Message(
        lease=lease,
        topic=row.lane.topic,
        step=row.lane.step,
        payload=row.payload,
        priority=row.priority,
        attempt=row.attempts + 1,
        crashes=row.crashes,
        group=row.group,
        headers=row.headers,
        enqueued_ms=row.enqueued_ms,
        error=row.error,
        dead=row.dead,
        due_ms=row.due_wall_ms,
    )
