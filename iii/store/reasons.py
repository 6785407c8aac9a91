"""Why a message waits: the one thing that holds it now, in words. Exact, as of the moment it is asked.

state     held by
leased    running: the instance that has it
dead      that it died
behind    group: the message that heads its group, and what holds that one
later     retry, or delay: until when
ready     paused, no_step, limit (max_in_flight), quarantine (a suspect), busy (every slot taken); else
          nothing: ready
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from iii.formats.units import rough_text
from iii.model import ARCHIVE, SUSPECT_CRASHES, LaneStats, SessionRow, Waiting
from iii.store.contract import Store
from iii.store.keeping import FORGOTTEN, step_of

__all__ = ["WHY_FORGOTTEN", "Caps", "Reason", "forgotten_steps", "why"]

FORGOTTEN_SHOWN_MS = 7 * 24 * 3600 * 1000
WHY_FORGOTTEN = "no instance serves it, and the change log had no room for more (store.max_changes)"

Code: TypeAlias = Literal[
    "paused", "group", "retry", "delay", "limit", "no_step", "quarantine", "busy", "running", "dead", "ready"
]


class Reason(Struct, frozen=True):
    """`until_ms`: wall clock, where it is known. `held_by`: the id of the message it waits behind."""

    code: Code
    text: str
    until_ms: int | None = None
    held_by: str | None = None


class Caps(Struct, frozen=True):
    """What holds for a lane: slots in one instance, live leases over all."""

    slots: int
    max_in_flight: int | None


def why(
    store: Store,
    message: Waiting,
    caps: Callable[[str, str], Caps | None],
    find: Callable[[int], Waiting | None],
) -> Reason:
    """`caps(topic, step)`: None for a step that this process does not know. `find`: a message by its id."""
    if message.step == ARCHIVE and message.dead is not None:
        dead = message.dead
        where = f"{dead.topic} of {dead.step}" if dead.step else dead.topic
        return Reason("dead", f"it died in {where} after {_times(dead.attempts, 'attempt')}; redrive it")
    match message.state:
        case "leased":
            return Reason("running", _runs_where(store, message))
        case "behind":
            return _behind(store, message, caps, find)
        case "later":
            return _later(store, message)
    lane = _lane(store, message)
    return _ready(store, message, lane, caps(message.topic, message.step)) if lane else _free()


def forgotten_steps(store: Store) -> list[str]:
    """The steps whose state triggers miss changes, for want of room in the log; nobody serves them yet."""
    since_ms = store.clock.wall_ms() - FORGOTTEN_SHOWN_MS
    return sorted({step_of(mark) for mark, at_ms in store.marks(FORGOTTEN).items() if at_ms > since_ms})


def _behind(
    store: Store,
    message: Waiting,
    caps: Callable[[str, str], Caps | None],
    find: Callable[[int], Waiting | None],
) -> Reason:
    group = message.group or ""
    id = store.head(message.topic, message.step, group)
    head = None if id is None else find(id)
    if id is None or head is None or head.state == "behind":
        return Reason("group", f'its group "{group}" runs one at a time, and another one is before it')
    reason = why(store, head, caps, find)
    first = store.message_id(id)
    text = f'message {first} is before it in group "{group}"; that one: {reason.text}'
    return Reason("group", text, reason.until_ms, first)


def _later(store: Store, message: Waiting) -> Reason:
    now_ms = store.clock.delay_ms()
    left_ms = max(0, (message.due_ms or now_ms) - now_ms)
    until_ms = store.clock.wall_ms() + left_ms
    wait = f"in {rough_text(left_ms)}"
    lane = _lane(store, message)
    held = "; but its queue is paused" if lane and lane.paused else ""
    if message.attempts and message.error:
        told = f"{_times(message.attempts, 'attempt')} failed, the next one is due {wait}{held}"
        return Reason("retry", told, until_ms)
    return Reason("delay", f"it was delayed and is due {wait}{held}", until_ms)


def _ready(store: Store, message: Waiting, lane: LaneStats, caps: Caps | None) -> Reason:
    if lane.paused:
        return Reason("paused", "its queue is paused; resume it")
    if not lane.served:
        named = f"step {message.step}" if message.step else f"a step with a queue trigger on {message.topic}"
        return Reason("no_step", f"no step serves it: no running instance has {named}")
    if caps is not None and caps.max_in_flight is not None and lane.leased >= caps.max_in_flight:
        return Reason("limit", f"max_in_flight is {caps.max_in_flight}, and as many are running")
    serving = [row for row in store.sessions() if (message.topic, message.step) in map(tuple, row.lanes)]
    served_by = [row for row in serving if row.suspects != "only"]
    if not served_by:
        return Reason("no_step", "no step serves it: no instance runs at the moment")
    if message.crashes >= SUSPECT_CRASHES:
        return Reason("quarantine", _suspect(message, serving))
    slots = caps.slots * len(served_by) if caps is not None else None
    if slots is not None and lane.leased >= slots:
        return Reason("busy", f"every slot is busy: {lane.leased} of {slots} run, {lane.ready} are ready")
    if lane.ready > 1:
        return Reason("busy", f"it is one of {lane.ready} that are ready; slots take them as they come free")
    return _free()


def _suspect(message: Waiting, serving: list[SessionRow]) -> str:
    died = f"{_times(message.crashes, 'worker')} died while running it"
    if any(row.suspects == "one" for row in serving):
        return f"{died}: an instance runs one such message at a time"
    pid = next((row.pid for row in serving if row.suspects == "only"), None)
    where = f"pid {pid}" if pid is not None else "it starts in a moment"
    return f"{died}: it waits for the quarantine ({where}), which runs such messages one at a time, alone"


def _free() -> Reason:
    return Reason("ready", "nothing holds it: the next free slot takes it")


def _runs_where(store: Store, message: Waiting) -> str:
    row = next((row for row in store.sessions() if row.id == message.session), None)
    where = f"instance pid {row.pid}" if row else f"session {message.session}, which has just ended"
    return f"attempt {message.attempts + 1} is running on {where}"


def _lane(store: Store, message: Waiting) -> LaneStats | None:
    lanes = store.stats()
    return next((row for row in lanes if (row.topic, row.step) == (message.topic, message.step)), None)


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
