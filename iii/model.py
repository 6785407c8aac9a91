"""What crosses the waist: values handed to a store and values it hands back. The one-page map of iii.

A handler's effects are a `Txn`: a list of plain ops, committed whole or not at all. Payloads and
state values are opaque bytes here (JSON above); only Merge is evaluated below. A message's state *is*
the table that holds it, and there is no other way to move than these:

    from                  event           to
    -                     Enqueue         ready | later | behind   (a delay; its group has a head)
    later                 due             ready
    behind                head left       ready | later            (the oldest of its group; not due)
    ready                 grant           leased
    leased                Ack             -
    leased                Retry, Release  ready | later            (Retry counts an attempt, Release does not)
    leased                Return          ready                    (never started: rests as it was)
    leased                session left    ready                    (nothing is counted)
    leased                session died    ready                    (crashes + 1 where the handler ran)
    ready, later, behind  Discard         -
    ready                 expired         -                        (dead letters; lanes nobody subscribes to)
    ready                 adopted         ready | behind           (into the lane of its first subscriber,
    later                 adopted         later | behind            whose group may have a head)
    behind                adopted         behind

A store may make two of them in one write: what becomes ready may be granted by the same commit.

What a refused Txn leads to, by who sent it (None: the Txn is dropped silently):

    refusal     message step                      HTTP    Txn kept and tried again
    Conflict    failed attempt, effects dropped   409     no
    BadMerge    failed attempt, effects dropped   500     no
    QueueFull   failed attempt, effects dropped   503     no
    TooLarge    failed attempt, effects dropped   500 *   no
    LeaseLost   None                              -       no
    StoreFull   -                                 503     message steps: with backoff, lease kept

    * 400 or 413 where the request itself is what is too large (web/blame.py)
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

ARCHIVE = "$dead"
"""The step of the lanes that hold dead letters: (dead-letter topic, "$dead"). They are granted to nobody."""

TAIL = "changes"
"""The mark below which every change has been turned into messages; the change log is trimmed below it."""

PRIORITIES = {"low": 64, "normal": 128, "high": 192}

MessageState: TypeAlias = Literal["ready", "later", "behind", "leased"]

SUSPECT_CRASHES = 2
"""A message with so many crashes is a suspect: it runs one at a time, under `iii run` in a quarantine."""

Suspects: TypeAlias = Literal["none", "one", "only"]
"""Which suspects a session is granted: none; one at a time beside other work; one at a time and nothing else,
which makes it a quarantine."""

MOVES: frozenset[tuple[str, str, str]] = frozenset(
    {
        ("-", "Enqueue", "ready"),
        ("-", "Enqueue", "later"),
        ("-", "Enqueue", "behind"),
        ("later", "due", "ready"),
        ("behind", "head left", "ready"),
        ("behind", "head left", "later"),
        ("ready", "grant", "leased"),
        ("leased", "Ack", "-"),
        ("leased", "Retry", "ready"),
        ("leased", "Retry", "later"),
        ("leased", "Release", "ready"),
        ("leased", "Release", "later"),
        ("leased", "Return", "ready"),
        ("leased", "session left", "ready"),
        ("leased", "session died", "ready"),
        ("ready", "Discard", "-"),
        ("later", "Discard", "-"),
        ("behind", "Discard", "-"),
        ("ready", "expired", "-"),
        ("ready", "adopted", "ready"),
        ("ready", "adopted", "behind"),
        ("later", "adopted", "later"),
        ("later", "adopted", "behind"),
        ("behind", "adopted", "behind"),
    }
)
"""(from, event, to): the table above; the memory store asserts each of its moves against it."""


class Lane(NamedTuple):
    """A queue: one topic as one step sees it. step "" = nobody subscribed yet, ARCHIVE = dead letters."""

    topic: str
    step: str


class LanePolicy(Struct, frozen=True):
    """How the store treats a lane. step "" sets the policy of a topic without subscribing to it."""

    topic: str
    step: str
    max_in_flight: int | None = None  # live leases over all instances; None = no cap
    max_depth: int | None = None  # ready + later + behind; one more Enqueue is QueueFull
    retention_ms: int | None = None  # lanes without a subscriber: from enqueue; None = 7 days


class Unique(Struct, frozen=True):
    """An Enqueue with an equal key in the same lane is not enqueued again within `ttl_ms`."""

    key: str
    ttl_ms: int
    exclusive: bool = False  # True: a known key refuses the whole Txn with Conflict


class DeadLetter(Struct, frozen=True, array_like=True):
    """Where a dead letter came from and why it died."""

    topic: str
    step: str
    error: str
    attempts: int
    died_ms: int  # wall clock
    enqueued_ms: int = 0  # of the message that died, wall clock; 0 = a letter from before this was written


# ---------------------------------------------------------------------------------------------- ops


class Put(Struct, frozen=True, gc=False, tag=True):
    """Write a value. if_version: None = whatever is there, 0 = must not exist, n = must be at version n."""

    namespace: str
    key: str
    value: bytes
    if_version: int | None = None


class Merge(Struct, frozen=True, gc=False, tag=True):
    """Apply a JSON patch (merge.py) to the value at commit, in the writer: it never conflicts."""

    namespace: str
    key: str
    patch: bytes


class Delete(Struct, frozen=True, gc=False, tag=True):
    """Delete a value; nothing there = nothing happens, unless if_version says otherwise."""

    namespace: str
    key: str
    if_version: int | None = None


class Enqueue(Struct, frozen=True, tag=True):
    """One message per step subscribed to `topic` (or into lane (topic, "") where there is none)."""

    topic: str
    payload: bytes
    priority: int = 128  # 0-255, higher first
    delay_ms: int = 0
    group: str | None = None  # one at a time, in commit order
    unique: Unique | None = None
    headers: dict[str, str] = {}
    step: str | None = None  # only this lane of the topic; None = every subscriber's
    id: int | None = None  # keep this id, which an Ack or Discard earlier in the Txn set free; None = new
    dead: DeadLetter | None = None  # set exactly for step=ARCHIVE


class Lease(NamedTuple):
    """The right to settle one attempt. `token` is the number of the commit that granted it."""

    session: int
    id: int
    token: int


class Ack(Struct, frozen=True, tag=True):
    """The message is done and leaves the store. `failed`: it leaves for its dead-letter topic instead."""

    lease: Lease
    failed: bool = False


class Retry(Struct, frozen=True, tag=True):
    """The attempt failed and counts; the message is due again after `delay_ms`."""

    lease: Lease
    delay_ms: int
    error: str


class Release(Struct, frozen=True, tag=True):
    """Give the message back without counting the attempt (Snooze, drain)."""

    lease: Lease
    delay_ms: int = 0


class Return(Struct, frozen=True, tag=True):
    """The message was granted and its handler never began: it rests again exactly as it was."""

    lease: Lease


class Hold(Struct, frozen=True, tag=True):
    """LeaseLost unless the lease is live; carried by every flush."""

    lease: Lease


class Mark(Struct, frozen=True, gc=False, tag=True):
    """Set a durable cursor by compare-and-set: Conflict unless it is `expected` (None = not set yet)."""

    name: str
    value: int
    expected: int | None


class Record(Struct, frozen=True, gc=False, tag=True):
    """Append a row to a bounded history."""

    kind: Literal["run", "audit"]
    content: bytes


class Pause(Struct, frozen=True, gc=False, tag=True):
    """Stop (or resume) granting messages of a lane, over all instances and restarts."""

    topic: str
    step: str
    paused: bool


class Discard(Struct, frozen=True, gc=False, tag=True):
    """Remove a message that `Store.waiting` showed; Conflict when it has moved since."""

    topic: str
    step: str
    state: MessageState
    priority: int
    id: int
    due_ms: int = 0  # delay clock, as Waiting.due_ms; used with state "later"


Op: TypeAlias = (
    Put | Merge | Delete | Enqueue | Ack | Retry | Release | Return | Hold | Mark | Record | Pause | Discard
)


class Checked(Struct, frozen=True, gc=False):
    """What of a Txn is known to be within the limits of its store: its first `ops`, `size` bytes in all."""

    ops: int
    size: int


UNCHECKED = Checked(0, 0)


class Txn(Struct, frozen=True):
    """What one handler (or tool) wants written, in order. Empty is legal and commits nothing."""

    ops: tuple[Op, ...] | list[Op]
    headers: dict[str, str] = {}  # stamped on each change (traceparent, iii-hops): triggers inherit it
    checked: Checked = UNCHECKED  # by the draft it comes from; nothing else may say so


NO_EFFECTS = Txn(())


# ------------------------------------------------------------------------------------------- answers


class Committed(NamedTuple):
    """`version`: the newest change version when the Txn landed. `ids`: per Enqueue op, its copies' numbers,
    of which Store.message_id makes what they are called outside."""

    version: int
    ids: list[list[int]]


class Message(Struct, frozen=True):
    """A granted message: what a worker gets with its lease."""

    lease: Lease
    topic: str
    step: str
    payload: bytes
    priority: int
    attempt: int  # this attempt, from 1
    crashes: int  # deaths of a session in which its handler ran, since its last settlement
    group: str | None
    headers: dict[str, str]
    enqueued_ms: int  # wall clock
    error: str | None  # of the last failed attempt
    dead: DeadLetter | None  # set where a dead letter's copy is delivered to a subscriber
    due_ms: int = 0  # wall clock, after a delay or a retry: when it could run; 0 = from its enqueue on
    alone: int = 0  # such deaths of a quarantine, where nothing else ran


class Waiting(Struct, frozen=True):
    """A message at rest, as `Store.waiting` shows it."""

    id: int
    topic: str
    step: str
    state: MessageState
    priority: int
    attempts: int  # failed attempts so far
    payload: bytes
    headers: dict[str, str]
    group: str | None
    enqueued_ms: int  # wall clock
    due_ms: int | None  # delay clock, state "later" only
    error: str | None
    crashes: int
    dead: DeadLetter | None
    session: int = 0  # whose lease, state "leased" only
    alone: int = 0


class Page(Struct, frozen=True):
    """What `Store.browse` found, each with the cursor behind it. `looked_at`: rows that were read;
    `next`: the cursor to go on from, None = that is all."""

    messages: list[tuple[bytes, Waiting]]
    looked_at: int
    next: bytes | None


class Entry(Struct, frozen=True, gc=False):
    """A state value. `version` is the version of the change that wrote it."""

    namespace: str
    key: str
    value: bytes
    version: int
    updated_ms: int  # wall clock


class Change(Struct, frozen=True):
    """A row of the change log. old None = created, new None = deleted. One per (Txn, key)."""

    version: int
    namespace: str
    key: str
    old: bytes | None
    new: bytes | None
    headers: dict[str, str]


class LaneStats(Struct, frozen=True):
    """Exact counts of one lane; done and failed attempts since the store was made."""

    topic: str
    step: str
    ready: int
    later: int
    behind: int
    leased: int
    dead: int  # dead letters from this lane that still lie in an archive
    done: int
    failed: int
    oldest_ms: int | None  # wall clock of the oldest ready message's enqueue
    paused: bool
    served: bool  # a live session (or else the last one) subscribes to it


class SessionRow(Struct, frozen=True):
    """One instance that has the store open with a session."""

    id: int
    pid: int
    opened_ms: int  # wall clock
    lanes: list[tuple[str, str]]
    suspects: Suspects = "one"
