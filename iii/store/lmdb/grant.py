"""Which ready messages this store's session gets: decided once per group, after its Txns, before its commit.

For each lane with credit the level less what is in flight, anew in each group: nothing is remembered, so an
aborted group changes nothing. A lane's first ready rows are those of this group and of `ready`, in one order;
where the table holds none of them, the group's own rows are leased without ever touching it. Suspects
(suspects.py) are no part of that: they lie in `ready` and wait for a session that is granted such.
"""

from __future__ import annotations

import lmdb

from iii.model import SUSPECT_CRASHES, Lane, Lease, Message
from iii.store.lmdb import suspects
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.catalog import LaneEntry
from iii.store.lmdb.keys import LANE_COUNTS, LEASE, LEASE_HEAD, READY, lane_counts_key, u32
from iii.store.lmdb.rows import Row, decode_row

__all__ = ["Granting", "may_grant"]

Chosen = tuple[int, int, Row, bytes]
"""(rank, id, row, record) of a message about to be leased."""

_tuple = tuple.__new__  # a NamedTuple's own constructor costs three times as much


def room(lane: LaneEntry, level: int, ready: int, leased: int) -> int:
    """How many messages of the lane may be leased now, of which so many are ready and leased by anybody."""
    if lane.paused:
        return 0
    most = level - lane.in_flight
    if lane.max_in_flight is not None:
        most = min(most, lane.max_in_flight - leased)
    return max(0, min(most, ready))


def may_grant(applier: Applier, txn: lmdb.Transaction[bytes]) -> bool:
    """Whether a group would grant something, by the counts that a read transaction sees.

    The catalog's lanes are those of the file.
    """
    tables, lanes = applier.tables, applier.catalog.lanes
    if not applier.levels:
        return False
    listed = suspects.count_by_lane(txn, tables)
    if not listed and not txn.stat(tables.ready)["entries"]:
        return False
    others = applier.suspects != "only"
    one = bool(listed) and suspects.may_have_one(applier)
    for name, level in applier.levels.items():
        lane = lanes.get(name)
        if lane is None or level <= lane.in_flight:
            continue
        raw = txn.get(lane_counts_key(lane.number), db=tables.counter)
        if raw is None:
            continue
        ready, _, _, leased, *_ = LANE_COUNTS.unpack(raw)
        count = listed[lane.number]
        if one and count and room(lane, level, count, leased):
            return True
        if others and room(lane, level, ready - count, leased + suspects.place(applier, count)):
            return True
    return False


class Granting:
    """The leases of one group."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._token, self._session = applier.catalog.counters.commit + 1, applier.session
        self._rows: list[tuple[bytes, bytes]] = []
        self._messages: list[Message] = []

    def grant(self) -> list[Message]:
        applier = self._applier
        if applier.catalog.suspected and suspects.may_have_one(applier):
            self._grant_suspect()
        if applier.suspects != "only":
            self._grant_others()
        if self._rows:
            applier.wrote = True
            applier.txn.cursor(applier.tables.lease).putmulti(self._rows)
        return self._messages

    def _grant_others(self) -> None:
        applier = self._applier
        lanes = applier.catalog.lanes
        for name, level in applier.levels.items():
            lane = lanes.get(name)
            if lane is None or not lane.ready:
                continue
            ready = lane.ready - lane.suspects
            wanted = room(lane, level, ready, lane.leased + suspects.place(applier, lane.suspects))
            if not wanted:
                continue
            if len(lane.fresh) == ready:
                self._grant_fresh(lane, wanted)
            else:
                self._grant_stored(lane, wanted)

    def _grant_suspect(self) -> None:
        """The oldest one of the first ones of each lane."""
        applier = self._applier
        found: tuple[LaneEntry, Chosen] | None = None
        for lane in sorted(applier.catalog.suspected, key=lambda lane: lane.number):
            level = applier.levels.get(Lane(lane.topic, lane.step), 0)
            if not room(lane, level, lane.suspects, lane.leased):
                continue
            suspect = suspects.first(applier, lane)
            if suspect is not None and (found is None or suspect[1] < found[1][1]):
                found = lane, suspect
        if found is None:
            return
        lane, suspect = found
        rank, id, _, _ = suspect
        applier.touch(lane)
        applier.delete(applier.tables.ready, READY.pack(lane.number, rank, id))
        suspects.unlist(applier, lane, rank, id)
        self._lease(lane, [suspect])

    def _grant_fresh(self, lane: LaneEntry, wanted: int) -> None:
        """Every ready row of the lane is this group's own."""
        fresh = lane.fresh
        fresh.sort()
        lane.fresh = fresh[wanted:]
        self._lease(lane, [(rank, id, row, row.record()) for rank, id, row in fresh[:wanted]])

    def _grant_stored(self, lane: LaneEntry, wanted: int) -> None:
        """The first rows of `ready`, this group's own among them."""
        applier = self._applier
        applier.spill(lane)
        cursor = applier.txn.cursor(applier.tables.ready)
        prefix = u32.pack(lane.number)
        cursor.set_range(prefix)
        chosen: list[Chosen] = []
        while len(chosen) < wanted:
            key, record = cursor.item()  # empty beyond the last one
            if key[:4] != prefix:
                break
            row = decode_row(record)
            _, rank, id = READY.unpack(key)
            if row.crashes >= SUSPECT_CRASHES:
                suspects.passed_over(applier, lane, rank, id)
                cursor.next()
                continue
            chosen.append((rank, id, row, record))
            cursor.delete()  # and on to the next one
        self._lease(lane, chosen)

    def _lease(self, lane: LaneEntry, chosen: list[Chosen]) -> None:
        applier, token, session = self._applier, self._token, self._session
        topic, step = lane.topic, lane.step
        live, rows, messages, key = applier.live, self._rows, self._messages, LEASE.pack
        head, head_rank = b"", -1
        for rank, id, row, record in chosen:
            payload = row.payload
            if payload is None:
                row = applier.row(lane, id, record)
                payload = row.payload or b""
            priority = 255 - rank
            if rank != head_rank:
                head, head_rank = LEASE_HEAD.pack(token, lane.number, priority), rank
            live[id] = (token, lane, priority, row)
            rows.append((key(session, id), head + record))
            messages.append(
                Message(
                    _tuple(Lease, (session, id, token)), topic, step, payload, priority,
                    row.attempts + 1, row.crashes, row.group, row.headers, row.enqueued_ms,
                    row.error, row.dead, row.due_ms, row.alone,
                )
            )  # fmt: skip
        if chosen:
            applier.touch(lane)
            lane.ready -= len(chosen)
            lane.leased += len(chosen)
            lane.in_flight += len(chosen)
