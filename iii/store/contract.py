"""The waist: what every store promises. One conformance test per number, run over each store.

 1. A Txn lands whole or not at all; a returned refusal wrote nothing.
 2. Versions strictly increase, one per change; none becomes visible below one already seen.
 3. After `commit` returned, every reader (of every process) sees it, and it survives a power cut.
 4. At most one live lease per message, over all sessions.
 5. Any op on a lost lease refuses the *whole* Txn with LeaseLost. A session settles its own leases alone:
    another one's is lost to it.
 6. A lane's messages are granted in order of priority, then age (id).
 7. Nothing is granted before it is due.
 8. A group's messages run in commit order, one at a time, over all sessions and retries.
 9. Mark is compare-and-set.
10. A dead session's leases return to ready: each whose handler ran then counts a crash, in a quarantine as
    `alone` too; the others come back unmarked. Any settlement sets both counts to 0, a Return neither.
11. The store never gives up on a message; whoever settles does.
12. A dead letter is Ack(failed=True) + Enqueue(step=ARCHIVE, dead=...) in one Txn. Besides the archive's row,
    each subscriber of its topic gets a copy that carries `dead`; a copy that dies is archived and delivered
    no more.
13. A lane holds at most `max_depth` waiting messages (QueueFull), leases at most `max_in_flight`.
14. An Enqueue whose `unique` key is still known returns the known id and enqueues nothing (exclusive:
    Conflict).
15. A paused lane grants nothing; its messages stay.
16. A topic's subscribers are the union over live sessions, else the last recorded; each gets its own copy.
    Without any, the message lies in (topic, ""), for `retention_ms`, until the first subscriber adopts the
    lane whole. At most `topics_max` topics without any are known: an Enqueue to one more is refused
    (QueueFull), but those in which nothing lies are forgotten for it.
17. A suspect (crashes >= SUSPECT_CRASHES) is granted to a session that asked for such when it was opened,
    which has one at a time: beside other work ("one"), or with no other lease at all ("only", a quarantine;
    it subscribes to nothing). A session that asked for none gets what waits behind a suspect.
18. One change per (Txn, key) that really changed a value; namespaces that begin with "$" leave no changes.
19. Counts are exact: `stats` equals a recount.
20. Expired rows (retention of lanes without a step, 30 days of dead letters, unique keys) go by themselves.
21. What a message is called outside (`message_id`) stays the same as long as it is there, and is given once:
    neither this store nor one that a copy of it became (a restored backup) ever calls another one so.
22. The change log takes about `changes_bytes_max`: what lies below TAIL goes, the oldest first; above it, a
    trigger that no session serves is forgotten. One that is served holds it: beyond 4 times as much, a Txn
    that leaves changes is refused (ChangesHeld) unless it settles a message (8 times then). What deletes or
    settles alone always lands.
23. A history keeps the newest rows. Runs that failed have a number of rows of their own, as have refused
    logins: no other row takes their place, nor they its, and where the bytes are too many the part with more
    of them loses its oldest. Where failures are too many, the step with the most loses its oldest.
24. Kept answers (messages of lanes "$http/<step>" without a step; kept.py) take `kept_bytes_max` at most, the
    oldest go first; with one goes its unique key, which may be used again.
25. A session holds at most as many live leases of a lane as its credit says, counted when the settlements of
    the commit that grants are made: granted or delivered, started or not, ended or being settled. What is
    ready below that is granted at once, to whoever has credit. A level counts until the next one is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from iii.clock import Clock
from iii.errors import StoreDamaged
from iii.model import (
    Change,
    Committed,
    Entry,
    Lane,
    LanePolicy,
    LaneStats,
    Lease,
    Message,
    MessageState,
    Page,
    SessionRow,
    Suspects,
    Txn,
    Waiting,
)
from iii.sections import KEEP_FAILED, HistoryConfig, HttpConfig, QueueRules, StoreConfig

__all__ = [
    "CHANGES_BYTES_MAX",
    "DEAD_RETENTION_MS",
    "HEALTHS",
    "RETENTION_MS",
    "Answer",
    "Health",
    "Held",
    "Limits",
    "Store",
    "StoreFigures",
]

RETENTION_MS = QueueRules("").retention_ms
DEAD_RETENTION_MS = 30 * 24 * 3600 * 1000
_HISTORY, _HTTP = HistoryConfig(), HttpConfig()
CHANGES_BYTES_MAX = StoreConfig(Path()).changes_bytes_max

Health: TypeAlias = Literal["starting", "ready", "draining"]
"""What a process says of itself."""
HEALTHS: tuple[Health, ...] = get_args(Health)


class Limits(Struct, frozen=True):
    """What a Txn may hold; one over it is refused (TooLarge) with both numbers. Sizes in bytes of UTF-8."""

    namespace_bytes_max: int = 128  # at least 1, no NUL
    key_bytes_max: int = 380  # at least 1
    name_bytes_max: int = 128  # topic and step, of [A-Za-z0-9._:-]; "$..." and "/" only in the engine's own
    payload_bytes_max: int = 1 << 20
    value_bytes_max: int = 4 << 20
    topics_max: int = 1_000  # without a step: a lane is looked at whenever lanes are counted
    ops_max: int = 10_000
    txn_bytes_max: int = 16 << 20
    runs_max: int = _HISTORY.keep  # rows kept of Record("run"): the newest that did not fail
    runs_failed_max: int = KEEP_FAILED  # and the newest that did (quotas.py tells which)
    runs_age_ms_max: int = _HISTORY.max_age_ms
    runs_bytes_max: int = _HISTORY.max_bytes
    audits_max: int = 10_000  # without refused logins
    audits_refused_max: int = 1_000
    audits_bytes_max: int = 64 << 20
    changes_max: int = 10_000  # versions kept below the newest although nobody needs them any more
    changes_bytes_max: int = CHANGES_BYTES_MAX  # of them, and of what triggers wait for that nobody serves
    kept_bytes_max: int = _HTTP.idempotency_bytes_max  # of kept answers together

    def within(self, map_bytes: int) -> Limits:
        """The same for a store that may become so large: the change log takes a sixteenth of it at most, kept
        answers a quarter."""
        return replace(
            self,
            changes_bytes_max=max(1, min(self.changes_bytes_max, map_bytes // 16)),
            kept_bytes_max=max(1, min(self.kept_bytes_max, map_bytes // 4)),
        )

    def run_until_ms(self, now_ms: int) -> int:
        """When a run record of now goes: runs_age_ms_max later, or up to a 64th of it more."""
        step_ms = max(1, self.runs_age_ms_max // 64)
        return (now_ms // step_ms + 1) * step_ms + self.runs_age_ms_max


class Held(NamedTuple):
    """How many rows the histories hold, by the parts of quotas.py."""

    runs: int = 0
    failed: int = 0
    acts: int = 0
    refused: int = 0


class StoreFigures(Struct, frozen=True):
    """What a store has done since it was opened, in this process, and how large it is. 0: not known."""

    commits: int = 0
    items: int = 0  # Txns and credits in them
    commit_s: float = 0.0  # in the commits themselves, fsync included
    file_bytes: int = 0
    used_bytes: int = 0  # of the map: the file up to its last page
    map_bytes: int = 0
    changes_bytes: int = 0  # of the change log, as of its last look
    changes_held_by: str | None = None  # the step whose state trigger keeps it over its bound
    kept_bytes: int = 0  # of kept answers; how many there are, and how many went for want of room
    kept_answers: int = 0
    kept_evicted: int = 0  # since the store was made
    kept_bytes_max: int = 0  # their bound


class Answer(Protocol):
    """What takes the outcome of a Txn, on the loop. An asyncio.Future is one."""

    def done(self) -> bool:
        """Whether it wants no outcome any more."""

    def set_result(self, committed: Committed, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class Store(Protocol):
    """One process's door to the durable state. Opened and used on one event loop; reads are synchronous."""

    clock: Clock
    limits: Limits

    async def open(self) -> None:
        """Open or create. StoreDamaged, StoreIncompatible, StoreBusy: why not; nothing was changed then."""

    async def close(self) -> None:
        """Finish what was submitted, end the session (its leases are released), close. Idempotent."""

    def on_damage(self, call: Callable[[StoreDamaged], object]) -> None:
        """`call` is called, once and on the loop, where what lies on the disk turns out to be damaged.

        From then on nothing is read or written, every call raises StoreDamaged, and close() lets go of the
        leases without a commit: no attempt and no crash is counted.
        """

    # -- writing

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        """Hand over a Txn; the future resolves when it is durable, or with the Refusal that wrote nothing.

        Cancelling the future does not cancel the Txn. Limits are checked here: TooLarge raises at once.
        """

    def post(self, txn: Txn, answer: Answer) -> None:
        """As `submit`, but `answer` takes the outcome: what settles a message waits for nothing."""

    def commit(self, txn: Txn) -> Awaitable[Committed]:
        """`submit` and wait. A waiter's cancellation does not cancel the Txn."""

    # -- working

    async def open_session(self, policies: Sequence[LanePolicy], suspects: Suspects = "one") -> int:
        """Register as a worker that serves the policies' lanes (those with a step); returns the session id.

        Recovers the dead sessions it finds. Only a process with a session is granted messages. `suspects`:
        which it is granted (17); a quarantine sets no policy and adopts nothing.
        """

    async def close_session(self) -> None:
        """Release this session's leases without counting an attempt and leave. Idempotent."""

    @property
    def session(self) -> int:
        """The id of this process's session as it is now (one that peers buried gets another); 0 = none."""
        ...

    def show(self, health: Health, requests: Callable[[], int]) -> None:
        """How this session is, for whoever lists the instances. `requests`: asked now and then, in any
        thread, how many HTTP requests are being answered."""

    def has_idle_peer(self) -> bool:
        """Whether another live session is ready and runs nothing."""
        ...

    def credit(self, levels: Mapping[Lane, int]) -> Awaitable[None]:
        """Set how many messages of each of these lanes the session may hold leased; other lanes keep theirs.

        A level is no demand: it is not used up, and counts until the next one, also in the session that
        follows where peers bury this one; closing the session ends it. At first it is 0. To await it is to
        know that from now on nothing is granted above it, and that what was granted before is delivered, as
        is what was ready below it. That never fails: a level holds whatever becomes of its group, and a store
        that is damaged or closed meanwhile grants nothing. Cancelling it changes nothing.
        """

    def on_deliver(self, call: Callable[[list[Message]], object]) -> None:
        """`call` is called on the loop with the messages that a commit granted to this session, after its
        answers. It must not raise. Messages of a session that peers have buried meanwhile do not come.
        """

    def on_suspects(self, call: Callable[[bool], object]) -> None:
        """`call` is called on the loop whenever it changes, False at first, whether a suspect is ready in a
        lane that is served and not paused. Only a store with a session looks, once a second at least."""

    def start(self, lease: Lease) -> None:
        """The handler of `lease`, a live one, begins now: from here on a death of this process counts as its
        crash."""

    def end(self, lease: Lease) -> None:
        """That handler has ended: from here on no death does, whenever it is settled."""

    def blame(self, message_ids: Collection[int]) -> None:
        """This process ends now, and of all that run here these are to blame for it: the others come back as
        they were. May be called in any thread; nothing is started after it."""

    # -- following

    async def changes(self, after: int, limit: int, wait_ms: int | None) -> list[Change]:
        """Changes with version > `after`, in order, at most `limit`; parks while there are none."""

    async def gone(self, session: int) -> None:
        """Returns once this session is on record no more: it left, or it died and was recovered."""

    # -- what messages are called (numbers are Lease.id, Waiting.id, Committed.ids)

    def message_id(self, number: int) -> str:
        """The id of the message with this number outside of the store: see message_ids.py.

        From memory, in any thread, for what this process was granted or has enqueued; the loop may ask for
        any."""
        ...

    def number_of(self, message_id: str) -> int | None:
        """The number of the message that is called so, in full or by its number alone; None where it was
        given in an epoch that this number is not of, or looks like no id. Whether it is there `find` says."""
        ...

    # -- reading (each a consistent snapshot of its own)

    def get(self, namespace: str, key: str) -> Entry | None: ...

    def scan(self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Entry]:
        """Entries in byte order of their key, > `after` where given."""
        ...

    def namespaces(self) -> list[tuple[str, int]]:
        """(namespace, number of keys), without those that begin with "$"."""
        ...

    def version(self) -> int:
        """The newest change version; 0 at first."""
        ...

    def mark(self, name: str) -> int | None: ...

    def marks(self, prefix: str) -> dict[str, int]: ...

    def stats(self) -> list[LaneStats]:
        """One row per lane that was ever used, but for forgotten topics (16), sorted by (topic, step)."""
        ...

    def waiting(
        self, topic: str, *, step: str | None = None, states: Iterable[MessageState] = (), limit: int = 100
    ) -> list[Waiting]:
        """Messages of a topic's lanes (or of one), ready first as granted, then later, behind, leased.

        The archive (step ARCHIVE) is a lane of its dead-letter topic like the others. No states = all.
        """
        ...

    def browse(
        self, topic: str, step: str, state: MessageState, *, after: bytes = b"", limit: int = 256
    ) -> Page:
        """The messages of one lane in one state, from behind the cursor `after` on: reads at most `limit`
        rows, or about a MiB of payloads, whether they are of this lane or not.

        Ready as they are granted, later by the time they are due, behind by group, leased by session.
        """
        ...

    def find(self, id: int, *, after: bytes = b"", limit: int = 4096) -> tuple[Waiting | None, bytes | None]:
        """The message with this id, wherever it lies; else None, and the cursor to look further from, None
        where there is no such message. Reads about `limit` rows."""
        ...

    def head(self, topic: str, step: str, group: str) -> int | None:
        """The id of the message that a group's others wait behind."""
        ...

    def known(self, topic: str, step: str, unique_key: str) -> Waiting | None:
        """The ready message that an Enqueue of priority 128 with this unique key stored, while known."""
        ...

    def records(
        self, kind: Literal["run", "audit"], *, limit: int = 100, before: int | None = None
    ) -> list[tuple[int, bytes]]:
        """(row id, content), newest first."""
        ...

    def held(self) -> Held:
        """How many rows `records` has. Those that an earlier version wrote are counted once this one has
        kept a row of the same kind, 1,000 with each commit that does."""
        ...

    def sessions(self) -> list[SessionRow]: ...

    def unsettled(self, lanes: Iterable[Lane] | None = None) -> int:
        """Messages that still have something to run: ready, later, behind or leased in subscribed lanes."""
        ...

    # -- care

    def figures(self) -> StoreFigures:
        """For metrics."""
        ...

    def verify(self) -> list[str]:
        """Every invariant of the tables, recounted; the broken ones as sentences, [] when all hold."""
        ...

    async def backup(self, dest: Path) -> None:
        """A consistent copy into the new or empty folder `dest`, while running."""
