"""Every invariant of the file, recounted in one snapshot. Knows no event: it judges what lies there.

    pages     each is reachable once or free, of its kind, its keys in order (LMDB's own structure)
    every     each row can be decoded; no table is there but those of keys.TABLES
    meta      a format number that is known, a time of creation, an anchor of the delay clock; an epoch begins
              no later than at the next message and the next change
    kept      what kept answers take is what there is, unless the first release kept or removed some since
    counter   the numbers given last are not below any that is in use; each lane's and namespace's count is
              what there is; no other row
    mark      a name and a number
    lane      a number; a (topic, step) has one row; served = some session subscribes (while there are any)
    messages  (ready, later, behind, lease) in exactly one table, of a lane that exists, with an id that was
              given; a payload over BODY_BYTES_MIN in `body`, any other in the record; in a lane without
              a step it expires
    behind    in a group, under the group's hash
    lease     of a session that exists, granted by a commit that has happened
    suspects  each ready one is listed; of the leases of a session as many as it may have (verify_suspects.py)
    group     exactly the groups with a message in ready, later or lease: its only one; none behind without
    body      of a message that is there
    unique    of a lane that exists and an id that was given
    expiry    exactly the ready messages that expire and the unique keys; run records apart
    state     a namespace and a key; each version once
    change    not newer than the newest version, something changed, of no namespace of the engine's own; the
              newest one of a key left what the state holds
    session   a number that was given
    run audit a number that was given; counted where it belongs (verify_histories.py)

A page that is not as it must be is told alone: what LMDB would read through it means nothing, or ends the
process.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from iii.model import ARCHIVE
from iii.store.kept import size_of
from iii.store.lmdb.catalog import LaneEntry
from iii.store.lmdb.damage import page_findings
from iii.store.lmdb.environment import CLOCK, CREATED, FORMAT_KEY, Environment, decode_anchor
from iii.store.lmdb.kept import Total, miscounted
from iii.store.lmdb.keys import (
    BODY,
    BODY_BYTES_MIN,
    COUNTERS,
    COUNTERS_KEY,
    EPOCH,
    EPOCH_VALUE,
    EPOCHS_KEY,
    EXPIRES_READY,
    EXPIRES_RUNS,
    EXPIRES_UNIQUE,
    EXPIRY_HEAD,
    FORMAT,
    GROUP,
    KEPT,
    KEPT_KEY,
    LANE_COUNTS,
    READY,
    STATE_HEAD,
    SUSPECT,
    TABLES,
    UNIQUE,
    UNIQUE_VALUE,
    hash16,
    state_key,
    u32,
    u64,
)
from iii.store.lmdb.moves import expiry_key
from iii.store.lmdb.rows import ChangeRow, decode_change, decode_lane, decode_session
from iii.store.lmdb.snapshot import Found, Rows
from iii.store.lmdb.verify_histories import HistoryCounts
from iii.store.lmdb.verify_suspects import SuspectCounts

__all__ = ["verify"]


class _Numbers(NamedTuple):
    commit: int
    catalog: int
    id: int
    version: int
    lane: int
    session: int
    run: int
    audit: int


def verify(environment: Environment) -> list[str]:
    """The broken invariants as sentences; [] when all hold."""
    with environment.begin_read() as txn:
        findings = [f"page structure: {finding}" for finding in page_findings(environment.file)]
        if findings:
            return findings
        rows = Rows(txn, environment.tables)
        numbers = _numbers(rows)
        if numbers is not None:
            lanes, counts = _lanes(rows, numbers), _Counts(rows)
            messages = _Messages(rows, numbers, lanes, counts.lanes)
            messages.check()
            messages.suspects.check(counts.suspects)
            if counts.kept is not None and (finding := miscounted(counts.kept, messages.kept)):
                rows.say(finding)
            _state(rows, numbers, counts.namespaces)
            _marks(rows)
            counts.histories.check(rows, {"run": numbers.run, "audit": numbers.audit})
        return rows.findings


# --------------------------------------------------------------------------------------- what is numbered


def _numbers(rows: Rows) -> _Numbers | None:
    for name in rows.txn.cursor().iternext(values=False):
        if name.decode(errors="replace") not in TABLES:
            rows.say(f"there is a table {name!r}, which iii does not make")
    raw = rows.get("meta", FORMAT_KEY)
    if raw is None or len(raw) != u64.size or not 0 < u64.unpack(raw)[0] <= FORMAT:
        rows.say(f"meta: the format is {raw!r}, known are 1 to {FORMAT}")
    epochs = [each for each in rows.of("meta", _meta_row) if each is not None]
    raw = rows.get("counter", COUNTERS_KEY)
    if raw is not None and len(raw) != COUNTERS.size:
        rows.say(f"counter: the numbers given last have {len(raw)} bytes, {COUNTERS.size} are needed")
        return None
    numbers = _Numbers(*COUNTERS.unpack(raw) if raw else [0] * 8)
    for id, version in epochs:
        if id > numbers.id + 1 or version > numbers.version + 1:
            rows.say(f"an epoch begins at message {id} and change {version}, which have not happened")
    return numbers


def _meta_row(key: bytes, value: bytes) -> tuple[int, int] | None:
    """Of an epoch: the first message and the first change of it."""
    if key == CLOCK:
        decode_anchor(value)
    elif key in (FORMAT_KEY, CREATED):
        u64.unpack(value)
    elif key.startswith(EPOCHS_KEY):
        EPOCH_VALUE.unpack(value)
        _, id, version = EPOCH.unpack(key)
        return id, version
    else:
        raise ValueError("nothing of that name is known")
    return None


class _Counts:
    """The counts as they are stored: those of lanes by number, those of namespaces by name."""

    def __init__(self, rows: Rows) -> None:
        self.lanes: dict[int, tuple[int, ...]] = {}
        self.namespaces: dict[str, int] = {}
        self.histories = HistoryCounts()
        self.kept: Total | None = None
        self.suspects: set[bytes] = set()
        for _ in rows.of("counter", self._read):
            pass

    def _read(self, key: bytes, value: bytes) -> None:
        if key[:1] == b"l":
            self.lanes[u32.unpack(key[1:])[0]] = LANE_COUNTS.unpack(value)
        elif key[:1] == b"n":
            self.namespaces[key[1:].decode()] = u64.unpack(value)[0]
        elif key[:1] in (b"h", b"i", b"j"):
            self.histories.read(key, value)
        elif key[:1] == SUSPECT:
            READY.unpack(key[1:])
            self.suspects.add(key[1:])
        elif key == KEPT_KEY:
            self.kept = Total(*KEPT.unpack(value))
        elif key != COUNTERS_KEY:
            raise ValueError("it counts nothing that there is")


def _lanes(rows: Rows, numbers: _Numbers) -> dict[int, LaneEntry]:
    found = rows.of("lane", lambda key, value: (u32.unpack(key)[0], decode_lane(value)))
    lanes = {number: LaneEntry(number, row) for number, row in found}
    names: dict[tuple[str, str], int] = {}
    for number, lane in lanes.items():
        if number > numbers.lane:
            rows.say(f"lane {number} is newer than the newest lane {numbers.lane}")
        twin = names.setdefault((lane.topic, lane.step), number)
        if twin != number:
            rows.say(f"lane {lane.topic}/{lane.step} is there twice, as {twin} and {number}")
    _sessions(rows, numbers, lanes)
    return lanes


def _sessions(rows: Rows, numbers: _Numbers, lanes: dict[int, LaneEntry]) -> None:
    sessions = dict(rows.of("session", lambda key, value: (u32.unpack(key)[0], decode_session(value))))
    for session in sessions:
        if session > numbers.session:
            rows.say(f"session {session} is newer than the newest session {numbers.session}")
    subscribing = [entry for entry in sessions.values() if entry.suspects != "only"]
    served = {
        (policy.topic, policy.step) for entry in subscribing for policy in entry.policies if policy.step
    }
    for lane in lanes.values():
        if subscribing and lane.served != ((lane.topic, lane.step) in served):
            rows.say(f"lane {lane.topic}/{lane.step} says served={lane.served}, the sessions do not")


def _marks(rows: Rows) -> None:
    for name in rows.of("mark", lambda key, value: (key.decode(), u64.unpack(value))[0]):
        if not name:
            rows.say("a mark has no name")


# ----------------------------------------------------------------------------------------------- messages


class _Messages:
    def __init__(
        self,
        rows: Rows,
        numbers: _Numbers,
        lanes: dict[int, LaneEntry],
        counts: dict[int, tuple[int, ...]],
    ) -> None:
        self._rows, self._say, self._numbers, self._lanes = rows, rows.say, numbers, lanes
        self._stored = counts
        self._sessions = set(rows.of("session", lambda key, _: int(u32.unpack(key)[0])))
        self._by_name = {(lane.topic, lane.step): number for number, lane in lanes.items()}
        self._places: dict[int, str] = {}
        self._counted: dict[int, Counter[str]] = defaultdict(Counter)
        self._heads: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        self._behind: dict[tuple[int, bytes], int] = {}
        self.suspects = SuspectCounts(rows)
        self._bodies: set[bytes] = set()
        self._expiring: set[bytes] = set()
        self.kept: dict[int, int] = {}  # answers: how large each is

    def check(self) -> None:
        for found in self._rows.messages():
            self._message(found)
        self._counts()
        self._groups()
        self._left_over()
        self._uniques()
        self._expiry()

    def _message(self, found: Found) -> None:
        table, number, id, row = found[:4]
        lane = self._lanes.get(number)
        if lane is None:
            self._say(f"message {id} in {table} is of lane {number}, which does not exist")
            return
        if id in self._places:
            self._say(f"message {id} is in {self._places[id]} and in {table}")
        if id > self._numbers.id:
            self._say(f"message {id} is newer than the newest id {self._numbers.id}")
        self._places[id] = table
        self._counted[number][table] += 1
        self._grouped(found)
        self.suspects.see(found)
        self._body(found)
        if lane.expires != bool(row.expires_ms):
            self._say(f"message {id} of {lane.topic}/{lane.step} expires at {row.expires_ms}")
        if table == "ready" and lane.expires:
            self._expiring.add(expiry_key(lane, found.rank, id, row.expires_ms))
        if lane.kept and table == "ready":
            body = self._rows.get("body", BODY.pack(number, id)) if row.payload is None else row.payload
            self.kept[id] = size_of(len(body or b""))
        if table == "lease":
            self._leased(found)
        if row.dead is not None and lane.step == ARCHIVE:
            self._dead(found)

    def _grouped(self, found: Found) -> None:
        group = found.row.group
        hashed = None if group is None else hash16(group)
        if found.table != "behind":
            if hashed is not None:
                self._heads[found.lane, hashed].append(found.id)
        elif hashed is None:
            self._say(f"message {found.id} is behind without a group")
        else:
            if found.hashed != hashed:
                self._say(f"message {found.id} is behind another group than its own")
            self._behind[found.lane, found.hashed] = found.id

    def _body(self, found: Found) -> None:
        key, payload = BODY.pack(found.lane, found.id), found.row.payload
        if payload is None:
            self._bodies.add(key)
            body = self._rows.get("body", key)
            if body is None:
                self._say(f"message {found.id} has no body")
            elif len(body) <= BODY_BYTES_MIN:
                self._say(f"the body of message {found.id} has {len(body)} bytes: its record has room for it")
        elif len(payload) > BODY_BYTES_MIN:
            self._say(f"message {found.id} keeps {len(payload)} bytes of payload in its record")

    def _leased(self, found: Found) -> None:
        if found.session not in self._sessions:
            self._say(f"message {found.id} is leased to session {found.session}, which does not exist")
        if not 0 < found.token <= self._numbers.commit:
            self._say(f"the lease of message {found.id} was granted by a commit that has not happened")

    def _dead(self, found: Found) -> None:
        assert found.row.dead is not None
        origin = self._by_name.get((found.row.dead.topic, found.row.dead.step))
        if origin is None:
            self._say(f"dead letter {found.id} comes from a lane that does not exist")
        else:
            self._counted[origin]["dead"] += 1

    def _counts(self) -> None:
        for number in self._stored.keys() - self._lanes.keys():
            self._say(f"there are counts of lane {number}, which does not exist")
        names = ("ready", "later", "behind", "lease", "dead")
        for number, lane in self._lanes.items():
            for name, count in zip(names, self._stored.get(number, (0,) * 7), strict=False):
                there = self._counted[number][name]
                if count != there:
                    self._say(f"lane {lane.topic}/{lane.step} counts {count} {name}, there are {there}")

    def _groups(self) -> None:
        heads = dict(self._rows.of("group", lambda key, value: (GROUP.unpack(key), u64.unpack(value)[0])))
        for group, ids in self._heads.items():
            if [heads.get(group)] != ids:
                self._say(
                    f"a group of lane {group[0]} has head {heads.get(group)}, but {ids} are out in front"
                )
        for group, head in heads.items():
            if group not in self._heads:
                self._say(f"a group of lane {group[0]} has head {head}, which is in no table")
        for group, id in self._behind.items():
            if group not in heads:
                self._say(f"message {id} is behind a group without a head")

    def _left_over(self) -> None:
        for key in self._rows.of("body", lambda key, _: (BODY.unpack(key), key)[1]):
            if key not in self._bodies:
                self._say(f"the body of message {BODY.unpack(key)[1]} belongs to no message")

    def _uniques(self) -> None:
        found = self._rows.of(
            "unique", lambda key, value: (UNIQUE.unpack(key)[0], key, UNIQUE_VALUE.unpack(value))
        )
        for number, key, (id, until_ms) in found:
            self._expiring.add(EXPIRY_HEAD.pack(until_ms, EXPIRES_UNIQUE) + key)
            if number not in self._lanes:
                self._say(f"a unique key of message {id} is of a lane that does not exist")
            if id > self._numbers.id:
                self._say(
                    f"a unique key stands for message {id}, newer than the newest id {self._numbers.id}"
                )

    def _expiry(self) -> None:
        listed = set(self._rows.of("expiry", lambda key, _: (EXPIRY_HEAD.unpack_from(key), key)[1]))
        listed = {key for key in listed if key[8] != EXPIRES_RUNS}
        for key in sorted(listed ^ self._expiring):
            what = "ready message" if key[8] == EXPIRES_READY else "unique key"
            self._say(f"a {what} {'expires that is not there' if key in listed else 'never expires'}")


# -------------------------------------------------------------------------------------------------- state


def _state(rows: Rows, numbers: _Numbers, counts: dict[str, int]) -> None:
    counted: Counter[str] = Counter()
    versions: set[int] = set()
    for namespace, name, version in rows.of("state", _state_row):
        counted[namespace] += 1
        if not namespace or not name:
            rows.say(f"state: version {version} has no namespace or no key")
        if not 0 < version <= numbers.version or version in versions:
            rows.say(f"{namespace}/{name} has version {version}, which is taken or has not happened")
        versions.add(version)
    if counts != dict(counted):
        rows.say(f"namespaces count {counts}, there are {dict(counted)}")
    _changes(rows, numbers)


def _state_row(key: bytes, value: bytes) -> tuple[str, str, int]:
    namespace, _, name = key.partition(b"\0")
    return namespace.decode(), name.decode(), STATE_HEAD.unpack_from(value)[0]


def _changes(rows: Rows, numbers: _Numbers) -> None:
    newest: dict[bytes, tuple[int, ChangeRow]] = {}
    for version, row in rows.of("change", lambda key, value: (u64.unpack(key)[0], decode_change(value))):
        what = f"change {version} of {row.namespace}/{row.key}"
        if version > numbers.version:
            rows.say(f"{what} is newer than the newest version {numbers.version}")
        if row.old == row.new:
            rows.say(f"{what} changed nothing")
        if row.namespace.startswith("$"):
            rows.say(f"{what} is of a namespace that leaves no changes")
        newest[state_key(row.namespace, row.key)] = (version, row)
    for key, (version, row) in newest.items():
        raw = rows.get("state", key)
        held = None if raw is None else (raw[: u64.size], raw[STATE_HEAD.size :])
        if held != (None if row.new is None else (u64.pack(version), row.new)):
            rows.say(f"change {version} of {row.namespace}/{row.key} did not leave what the state holds")
