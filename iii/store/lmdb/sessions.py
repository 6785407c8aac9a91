"""Sessions in the tables: who serves which lanes, what a death gives back, what a first subscriber adopts.

Must not know how a death is noticed (liveness.py does); `started` says which handlers had begun.
"""

from __future__ import annotations

from collections.abc import Collection

from iii.model import LanePolicy
from iii.store.kept import is_kept
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.catalog import LaneEntry
from iii.store.lmdb.keys import (
    BEHIND,
    BEHIND_HEAD,
    BODY,
    EXPIRES_UNIQUE,
    EXPIRY_HEAD,
    LATER,
    LEASE,
    LEASE_HEAD,
    READY,
    UNIQUE,
    UNIQUE_VALUE,
    u32,
)
from iii.store.lmdb.moves import Held
from iii.store.lmdb.rows import Row, SessionEntry, decode_row, encode


def open_session(applier: Applier, session: int, entry: SessionEntry) -> None:
    """Record the session, its policies and subscriptions; adopt what waited for a first subscriber.

    A quarantine changes nothing of the lanes.
    """
    catalog = applier.catalog
    catalog.sessions = {**catalog.sessions, session: entry}
    applier.session, applier.suspects = session, entry.suspects
    applier.forget_live()
    applier.put(applier.tables.session, u32.pack(session), encode(entry))
    if entry.suspects == "only":
        subscribe(applier)
        return
    for policy in entry.policies:
        _set_policy(applier, policy)
        if is_kept(policy.topic, policy.step):
            applier.kept.look(applier.txn)  # what the first release kept, or a smaller bound, is seen now
    subscribe(applier)
    for topic in sorted({policy.topic for policy in entry.policies if policy.step}):
        waiting = catalog.lanes.get((topic, ""))
        if waiting is not None:
            first = min(policy.step for policy in entry.policies if policy.topic == topic and policy.step)
            adopt(applier, waiting, catalog.lanes[topic, first])


def _set_policy(applier: Applier, policy: LanePolicy) -> None:
    lane = applier.lane(policy.topic, policy.step)
    before = lane.row()
    lane.max_in_flight, lane.max_depth = policy.max_in_flight, policy.max_depth
    lane.retention_ms = policy.retention_ms
    if lane.row() != before:
        applier.catalog.put_lane(applier.txn, lane)


def subscribe(applier: Applier) -> None:
    """Subscriptions = the union over the sessions that subscribe; without any, what was last recorded."""
    catalog = applier.catalog
    catalog.counters.catalog += 1
    applier.wrote = True
    if catalog.subscribing():
        served = catalog.served_by_sessions()
        for name, lane in catalog.lanes.items():
            if lane.served != (name in served):
                lane.served = name in served
                catalog.put_lane(applier.txn, lane)
    catalog.find_subscribers()


def next_session(applier: Applier) -> int:
    """A number no session had before."""
    applier.wrote = True
    applier.catalog.counters.session += 1
    return applier.catalog.counters.session


def end_session(applier: Applier, session: int) -> None:
    """Give back this store's own leases without counting anything, and leave."""
    give_back(applier, session, ())
    applier.forget_live()
    applier.levels.clear()
    applier.session = 0
    forget_session(applier, session)


def recover(applier: Applier, session: int, started: Collection[int]) -> int:
    """A session died: its leases return to ready, each whose handler ran counts a crash. Returns how many."""
    entry = applier.catalog.sessions.get(session)
    returned = give_back(applier, session, started, alone=entry is not None and entry.suspects == "only")
    forget_session(applier, session)
    if session == applier.session:  # its own, because its files were removed: what follows settles nothing
        applier.forget_live()
    return returned


def give_back(applier: Applier, session: int, crashed: Collection[int], *, alone: bool = False) -> int:
    leases = _leases(applier, session)
    for id, (_, lane, priority, row) in sorted(leases.items()):
        applier.delete(applier.tables.lease, LEASE.pack(session, id))
        applier.touch(lane)
        lane.leased -= 1
        if id in crashed:
            row.crashes += 1
            row.alone += alone
        applier.rest(lane, id, priority, row, 0)
    return len(leases)


def forget_session(applier: Applier, session: int) -> None:
    applier.delete(applier.tables.session, u32.pack(session))
    catalog = applier.catalog
    if session in catalog.sessions:
        catalog.sessions = {id: entry for id, entry in catalog.sessions.items() if id != session}
        subscribe(applier)


def _leases(applier: Applier, session: int) -> dict[int, Held]:
    """The leases of a session as its rows say, by id."""
    prefix = u32.pack(session)
    cursor = applier.txn.cursor(applier.tables.lease)
    found = cursor.set_range(prefix)
    leases: dict[int, Held] = {}
    while found and cursor.key()[:4] == prefix:
        _, id = LEASE.unpack(cursor.key())
        token, number, priority = LEASE_HEAD.unpack_from(cursor.value())
        row = decode_row(cursor.value()[LEASE_HEAD.size :])
        leases[id] = (token, applier.catalog.by_number[number], priority, row)
        found = cursor.next()
    return leases


def load_live(applier: Applier) -> None:
    """This session's leases as its rows say, after an abort made memory untrue."""
    applier.forget_live()
    if applier.session and applier.session in applier.catalog.sessions:
        for id, (token, lane, priority, row) in _leases(applier, applier.session).items():
            if row.payload is None:
                row = applier.row(lane, id, encode(row))
            applier.live[id] = (token, lane, priority, row)
            lane.in_flight += 1


# -------------------------------------------------------------------------------------------- adoption


def adopt(applier: Applier, source: LaneEntry, target: LaneEntry) -> None:
    """Everything in the lane nobody served moves to its first subscriber, whole and in order."""
    applier.spill(source)
    heads = [*_take_ready(applier, source), *_take_later(applier, source)]
    behind = _take_behind(applier, source)
    for id, priority, row, due_ms in sorted(heads, key=_by_id) + sorted(behind, key=_by_id):
        if row.large:
            body = applier.delete(applier.tables.body, BODY.pack(source.number, id))
            assert body is not None
            applier.put(applier.tables.body, BODY.pack(target.number, id), body)
        row.expires_ms = 0
        applier.place(target, id, priority, row, due_ms)
    for key in _keys(applier, applier.tables.group, source):
        applier.delete(applier.tables.group, key)
    _adopt_unique(applier, source, target)


Moved = tuple[int, int, Row, int]
"""(id, priority, row, due_ms)"""


def _by_id(moved: Moved) -> int:
    return moved[0]


def _take_ready(applier: Applier, source: LaneEntry) -> list[Moved]:
    taken: list[Moved] = []
    for key in _keys(applier, applier.tables.ready, source):
        _, rank, id = READY.unpack(key)
        row = applier.take_ready(source, rank, id)
        assert row is not None
        taken.append((id, 255 - rank, row, 0))
    return taken


def _take_later(applier: Applier, source: LaneEntry) -> list[Moved]:
    if not source.later:
        return []
    taken: list[Moved] = []
    for key in list(applier.txn.cursor(applier.tables.later).iternext(values=False)):
        due_ms, id, number = LATER.unpack(key)
        if number == source.number:
            found = applier.take_later(source, due_ms, id)
            assert found is not None
            taken.append((id, *found, due_ms))
    return taken


def _take_behind(applier: Applier, source: LaneEntry) -> list[Moved]:
    taken: list[Moved] = []
    for key in _keys(applier, applier.tables.behind, source):
        value = applier.delete(applier.tables.behind, key)
        assert value is not None
        due_ms, priority = BEHIND_HEAD.unpack_from(value)
        applier.touch(source)
        source.behind -= 1
        taken.append((BEHIND.unpack(key)[2], priority, decode_row(value[BEHIND_HEAD.size :]), due_ms))
    return taken


def _adopt_unique(applier: Applier, source: LaneEntry, target: LaneEntry) -> None:
    """What is known in the one lane is known in the other, unless that knows it already."""
    tables = applier.tables
    for key in _keys(applier, tables.unique, source):
        value = applier.delete(tables.unique, key)
        assert value is not None
        until = EXPIRY_HEAD.pack(UNIQUE_VALUE.unpack(value)[1], EXPIRES_UNIQUE)
        applier.delete(tables.expiry, until + key)
        moved = UNIQUE.pack(target.number, UNIQUE.unpack(key)[1])
        if applier.txn.get(moved, db=tables.unique) is None:
            applier.put(tables.unique, moved, value)
            applier.put(tables.expiry, until + moved, b"")


def _keys(applier: Applier, table: object, lane: LaneEntry) -> list[bytes]:
    prefix = u32.pack(lane.number)
    cursor = applier.txn.cursor(table)  # type: ignore[arg-type]
    keys: list[bytes] = []
    found = cursor.set_range(prefix)
    while found and cursor.key()[:4] == prefix:
        keys.append(cursor.key())
        found = cursor.next()
    return keys


__all__ = [
    "adopt", "end_session", "load_live", "next_session", "open_session", "recover",
]  # fmt: skip
