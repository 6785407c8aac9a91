"""Every invariant of the tables, recounted. Knows no event: it judges what lies there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

from iii.model import ARCHIVE, SUSPECT_CRASHES, Lane, MessageState
from iii.store.kept import is_kept, size_of
from iii.store.memory import changelog, kept
from iii.store.memory.tables import MemoryTables, Row
from iii.store.quotas import KINDS, Shares, place_of

__all__ = ["verify"]


def verify(tables: MemoryTables) -> list[str]:
    """The broken invariants as sentences; [] when all hold."""
    checks = (_places, _counts, _groups, _leases, _expiry, _uniques, _kept, _state, _histories, _served)
    return [finding for check in checks for finding in check(tables)]


def _rows(tables: MemoryTables) -> Iterator[tuple[MessageState, Any, Row]]:
    for state in get_args(MessageState):
        for key, row in getattr(tables, state).scan():
            yield state, key, row


def _places(tables: MemoryTables) -> Iterator[str]:
    seen: set[int] = set()
    for state, key, row in _rows(tables):
        if row.id in seen:
            yield f"message {row.id} lies in two places"
        seen.add(row.id)
        if tables.place.get(row.id) != (state, key):
            yield f"message {row.id} of {row.lane} is {state}, its place says otherwise"
        if row.id > tables.last("id"):
            yield f"message {row.id} has an id that was never given"
        if row.lane not in tables.lane:
            yield f"message {row.id} lies in {row.lane}, which has no row"
    if len(seen) != len(tables.place):
        yield f"{len(tables.place)} places for {len(seen)} messages"


def _counts(tables: MemoryTables) -> Iterator[str]:
    counted: Counter[tuple[Lane, str]] = Counter((row.lane, state) for state, _, row in _rows(tables))
    for _, _, row in _rows(tables):
        if row.lane.step == ARCHIVE and row.dead is not None:
            counted[Lane(row.dead.topic, row.dead.step), "dead"] += 1
    kept = {key: n for key, n in tables.count.scan() if key[1] not in ("done", "failed")}
    for key in sorted(counted.keys() | kept.keys()):
        if counted[key] != kept.get(key, 0):
            yield f"{key} counts {kept.get(key, 0)}, there are {counted[key]}"


def _groups(tables: MemoryTables) -> Iterator[str]:
    heads: set[tuple[Lane, str]] = set()
    for state, _, row in _rows(tables):
        if row.group is None:
            continue
        key = (row.lane, row.group)
        is_head = tables.group.get(key) == row.id
        if is_head == (state == "behind"):
            yield f"message {row.id} of group {key} is {state}, the head is {tables.group.get(key)}"
        if state != "behind":
            if key in heads:
                yield f"group {key} has two heads"
            heads.add(key)
    for key, id in tables.group.scan():
        if key not in heads:
            yield f"group {key} has head {id}, which is nowhere"


def _leases(tables: MemoryTables) -> Iterator[str]:
    leases: Counter[int] = Counter()
    suspects: Counter[int] = Counter()
    for (session, id), row in tables.leased.scan():
        leases[session] += 1
        suspects[session] += row.crashes >= SUSPECT_CRASHES
        if session not in tables.session:
            yield f"message {id} is leased to session {session}, which is no more"
        if not 0 < row.token <= tables.last("commit"):
            yield f"message {id} has the lease token {row.token}, the last commit is {tables.last('commit')}"
    for session, entry in tables.session.scan():
        if suspects[session] > (entry.suspects != "none"):
            yield f"session {session} holds {suspects[session]} suspects, it is granted {entry.suspects}"
        if entry.suspects == "only" and leases[session] != suspects[session]:
            yield f"quarantine {session} holds {leases[session]} leases, {suspects[session]} of suspects"
    ready = {key: row for key, row in tables.ready.scan() if row.crashes >= SUSPECT_CRASHES}
    if ready != dict(tables.suspect.scan()):
        yield f"{len(ready)} suspects are ready, listed are {len(tables.suspect)}"
    for (session, id), _ in tables.started.scan():
        if (session, id) not in tables.leased:
            yield f"message {id} has started in session {session} without a lease"


def _expiry(tables: MemoryTables) -> Iterator[str]:
    for state, _, row in _rows(tables):
        expires = row.lane.step in ("", ARCHIVE)
        if expires != (row.expires_ms is not None):
            yield f"message {row.id} of {row.lane} expires at {row.expires_ms}"
        listed = row.expires_ms is not None and (row.expires_ms, row.id) in tables.expiry
        if listed != (expires and state == "ready"):
            yield f"message {row.id} of {row.lane} is {state}, listed for expiry: {listed}"


def _uniques(tables: MemoryTables) -> Iterator[str]:
    by_key = {(known.until_ms, *key): known.id for key, known in tables.unique.scan()}
    if by_key != dict(tables.unique_until.scan()):
        yield "unique keys by lane and by time differ"


def _kept(tables: MemoryTables) -> Iterator[str]:
    sizes = [size_of(len(row.payload)) for _, _, row in _rows(tables) if is_kept(*row.lane)]
    if tables.last(kept.BYTES) != sum(sizes):
        yield f"kept answers count {tables.last(kept.BYTES)} bytes, there are {sum(sizes)}"


def _state(tables: MemoryTables) -> Iterator[str]:
    newest, seen = tables.last("version"), set[int]()
    for (namespace, key), entry in tables.state.scan():
        if (entry.namespace, entry.key) != (namespace, key):
            yield f"{namespace}/{key} holds an entry of {entry.namespace}/{entry.key}"
        if not 0 < entry.version <= newest or entry.version in seen:
            yield f"{namespace}/{key} is at version {entry.version}, the newest is {newest}"
        seen.add(entry.version)
    for version, change in tables.change.scan():
        if version != change.version or version > newest or change.old == change.new:
            yield f"change {version} of {change.namespace}/{change.key} changes nothing, or is no change yet"
        if change.namespace.startswith("$"):
            yield f"change {version} is of {change.namespace}, which leaves none"
    size = sum(changelog.size_of(change) for _, change in tables.change.scan())
    if tables.last(changelog.BYTES) != size:
        yield f"the change log counts {tables.last(changelog.BYTES)} bytes, there are {size}"


def _histories(tables: MemoryTables) -> Iterator[str]:
    counted = Shares()
    for (kind, id), content in tables.history.scan():
        place = place_of(kind, content)
        counted.add(place, 1, len(content))
        if tables.placed.get((*place, id)) != len(content):
            yield f"{kind} record {id} is not listed at {place}"
    if len(tables.placed) != len(tables.history):
        yield f"{len(tables.placed)} records are listed, there are {len(tables.history)}"
    for kind in KINDS:
        for place in {*counted.of_kind(kind), *tables.shares.of_kind(kind)}:
            if (held := tables.shares.of(place)) != (there := counted.of(place)):
                yield f"{place} counts {held}, there are {there}"


def _served(tables: MemoryTables) -> Iterator[str]:
    served = {Lane(*lane) for session in tables.subscribing() for lane in session.lanes}
    if tables.subscribing():
        for lane, row in tables.lane.scan():
            if row.served != (lane in served):
                yield f"{lane} is served: {row.served}, its sessions say otherwise"
    for key, row in tables.lane.scan():
        if key != (row.policy.topic, row.policy.step):
            yield f"{key} has the policy of another lane"
