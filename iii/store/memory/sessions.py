"""Who works here: sessions open, leave and die; leases are granted to them.

A session's process shows its peers whether it lives (`dead_sessions`) and which handlers it has started.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from iii.model import SUSPECT_CRASHES, Lane, LanePolicy, Lease, Message, SessionRow, Suspects
from iii.store.memory import moves
from iii.store.memory.tables import MemoryTables, Now, Row

__all__ = ["enter_session", "grant", "leave_session", "recover_dead"]


def enter_session(tables: MemoryTables, policies: Sequence[LanePolicy], suspects: Suspects, now: Now) -> int:
    """Register a session that serves the policies' lanes, and adopt what waited for it."""
    session = tables.next("session")
    served = sorted({(policy.topic, policy.step) for policy in policies if policy.step})
    tables.session.put(session, SessionRow(session, os.getpid(), now.wall_ms, served, suspects))
    if suspects == "only":
        return session
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
    """Bury every dead session: its leases return, and each whose handler ran counts a crash."""
    for session, entry in [each for each in tables.session.scan() if each[0] in tables.dead_sessions]:
        for row in [row for _, row in tables.leased.under(session)]:
            ran = tables.started.get((session, row.id)) == row.token
            alone = ran and entry.suspects == "only"
            counts = {"crashes": row.crashes + ran, "alone": row.alone + alone}
            moves.put_back(tables, row, "session died", 0, now.delay_ms, **counts)
        tables.session.pop(session)
        _refresh_served(tables)


def grant(tables: MemoryTables, session: int, levels: Mapping[Lane, int]) -> list[Message]:
    """Lease what the levels leave room for and the rules allow: one suspect where the session may have it,
    the rest by priority and age within each lane."""
    held = [row for _, row in tables.leased.under(session)]
    suspects = _suspects_of(tables, session)
    in_flight = Counter(row.lane for row in held)
    chosen: list[Row] = []
    if suspects != "none" and not any(suspects == "only" or _is_suspect(row) for row in held):
        chosen += _first_suspect(tables, levels, in_flight)
        in_flight.update(row.lane for row in chosen)
    for lane, level in () if suspects == "only" else levels.items():
        taken = sum(row.lane == lane for row in chosen) + _place(tables, lane, suspects)
        room = _room(tables, lane, level - in_flight[lane], taken)
        for _, row in tables.ready.under(lane):
            if room <= 0:
                break
            if not _is_suspect(row):
                chosen.append(row)
                room -= 1
    if not chosen:
        return []
    token = tables.next("commit")
    for row in chosen:
        moves.lease(tables, row, session, token)
    return [_message(row, Lease(session, row.id, token)) for row in chosen]


def _room(tables: MemoryTables, lane: Lane, wanted: int, chosen: int = 0) -> int:
    """How many of the wanted leases the lane may have now, beside those that are chosen already."""
    row = tables.lane.get(lane)
    if row is None or row.paused:
        return 0
    most = row.policy.max_in_flight
    return wanted if most is None else min(wanted, most - tables.counted(lane, "leased") - chosen)


def _place(tables: MemoryTables, lane: Lane, suspects: Suspects) -> int:
    """Of a lane with a cap one place is left to the quarantine that runs, where it has suspects."""
    if suspects != "none" or next(tables.suspect.under(lane), None) is None:
        return 0
    return any(session.suspects == "only" for _, session in tables.session.scan())


def _first_suspect(tables: MemoryTables, levels: Mapping[Lane, int], in_flight: Counter[Lane]) -> list[Row]:
    """The oldest of the first suspects of each lane that has room."""
    firsts = [
        next((row for _, row in tables.suspect.under(lane)), None)
        for lane, level in levels.items()
        if _room(tables, lane, level - in_flight[lane]) > 0
    ]
    return sorted((row for row in firsts if row is not None), key=lambda row: row.id)[:1]


def _suspects_of(tables: MemoryTables, session: int) -> Suspects:
    row = tables.session.get(session)
    return "none" if row is None else row.suspects


def _is_suspect(row: Row) -> bool:
    return row.crashes >= SUSPECT_CRASHES


def _refresh_served(tables: MemoryTables) -> None:
    """A lane is served while a session subscribes to it; once no session is left, the last state stays."""
    if not (subscribing := tables.subscribing()):
        return
    served = {lane for session in subscribing for lane in session.lanes}
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
        alone=row.alone,
    )
