"""In the LMDB store: order and limits, what happens once, what messages are called, verify."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from mutant import around, instead, mutant

GRANTS = "tests/store/test_conformance_grants.py::test_"
CREDITS = "tests/store/test_conformance_credits.py::test_25_"
COMMITS = "tests/store/test_conformance_commits.py::test_"
MESSAGES = "tests/store/test_conformance_messages.py::test_"
EPOCHS = "tests/lmdb/test_epochs.py::test_"


# ------------------------------------------------------------------------------------- order and limits


@mutant(
    "the next of a group comes forward while its head waits for a retry",
    f"{GRANTS}08_retry_delay_and_release_of_the_head_hold_its_group[lmdb]",
)
def the_head_of_a_group_is_released_too_soon() -> None:
    from iii.store.lmdb.apply import Applier
    from iii.store.lmdb.keys import hash16, u64

    def comes_forward(original: Callable[..., None]) -> Callable[..., None]:
        def retry(self: Applier, op: Any) -> None:
            _, lane, _, row = self.find_lease(op.lease)
            original(self, op)
            if row.group:
                self._come_forward(lane, hash16(row.group), u64.pack(op.lease.id))

        return retry

    around(Applier, "_retry", comes_forward)


@mutant(
    "the cap is compared with this session's leases alone",
    f"{MESSAGES}13_max_in_flight_caps_live_leases_over_all_sessions[lmdb]",
)
def max_in_flight_counted_per_instance() -> None:
    from iii.store.lmdb import grant

    at_work = threading.local()

    def known(original: Callable[..., Any]) -> Callable[..., Any]:
        def granting(self: Any) -> Any:
            at_work.live = self._applier.live
            return original(self)

        return granting

    def own_alone(original: Callable[..., int]) -> Callable[..., int]:
        def room(lane: Any, level: int, ready: int, leased: int) -> int:
            return original(lane, level, ready, sum(held[1] is lane for held in at_work.live.values()))

        return room

    around(grant.Granting, "grant", known)
    around(grant, "room", own_alone)


@mutant(
    "a pause is kept and not looked at",
    f"{MESSAGES}15_a_paused_lane_grants_nothing_and_keeps_its_messages[lmdb]",
)
def a_paused_lane_is_granted() -> None:
    from iii.store.lmdb import grant

    def never_paused(original: Callable[..., int]) -> Callable[..., int]:
        def room(lane: Any, *numbers: int) -> int:
            paused, lane.paused = lane.paused, False
            try:
                return original(lane, *numbers)
            finally:
                lane.paused = paused

        return room

    around(grant, "room", never_paused)


@mutant(
    "a level is a demand: what is in flight does not count",
    f"{CREDITS}below_a_lowered_level_nothing_is_granted_until_enough_is_settled[lmdb]",
    f"{CREDITS}a_lease_is_in_flight_whether_or_not_its_handler_has_started[lmdb]",
)
def what_is_in_flight_does_not_count() -> None:
    from iii.store.lmdb import grant

    def above(original: Callable[..., int]) -> Callable[..., int]:
        return lambda lane, level, *numbers: original(lane, level + lane.in_flight, *numbers)

    around(grant, "room", above)


@mutant(
    "what a group grants counts after its failure too",
    "tests/lmdb/test_lmdb_credits.py::test_what_a_failed_group_granted_is_granted_again",
)
def what_a_failed_group_granted_is_in_flight() -> None:
    from iii.store.lmdb.applying import Applying
    from iii.store.lmdb.moves import Moves

    def remembered(original: Callable[..., None]) -> Callable[..., None]:
        def forget(self: Applying) -> None:
            original(self)
            self._stale = False

        return forget

    around(Applying, "forget", remembered)
    instead(Moves, "forget_live", lambda self: None)


@mutant(
    "any ready row is work",
    "tests/lmdb/test_lmdb_credits.py::"
    "test_a_backlog_of_which_nothing_may_be_granted_takes_no_write_transaction[paused]",
    "tests/lmdb/test_lmdb_credits.py::test_levels_need_no_write_transaction_where_there_is_nothing_to_grant",
)
def every_ring_takes_the_write_lock() -> None:
    from iii.store.lmdb import grant

    around(grant, "may_grant", lambda original: lambda applier, txn: True)


@mutant(
    "a session that goes on after its burial begins without levels",
    f"{CREDITS}the_session_that_follows_a_buried_one_keeps_its_levels[lmdb]",
)
def a_burial_ends_the_levels() -> None:
    from iii.store.lmdb import sessions

    def without(original: Callable[..., None]) -> Callable[..., None]:
        def open_session(applier: Any, session: int, entry: Any) -> None:
            applier.levels.clear()
            original(applier, session, entry)

        return open_session

    around(sessions, "open_session", without)


@mutant(
    "what was never started returns cleared of suspicion",
    "tests/store/test_conformance_suspects.py::test_10_a_return_clears_neither_count[lmdb]",
)
def a_return_is_a_release() -> None:
    from iii.model import Release
    from iii.store.lmdb.apply import Applier

    instead(Applier, "_return", lambda self, op: self._release(Release(op.lease)))


@mutant(
    "who leaves the write transaction looks at nobody",
    "tests/liveness/test_hand_on.py::test_a_store_lets_in_who_waits_after_its_commit",
)
def the_lock_is_not_handed_on() -> None:
    from iii.store.lmdb.holder import Holder

    instead(Holder, "hand_on", lambda self: None)


@mutant("a delayed message is ready at once", f"{GRANTS}07_nothing_is_granted_before_it_is_due[lmdb]")
def a_delay_is_ignored() -> None:
    from iii.store.lmdb.moves import Moves

    def at_once(original: Callable[..., None]) -> Callable[..., None]:
        return lambda self, lane, id, priority, row, due_ms: original(self, lane, id, priority, row, 0)

    around(Moves, "rest", at_once)


# ------------------------------------------------------------------------------------------------ once


@mutant(
    "two instances move one cursor",
    f"{COMMITS}09_a_mark_is_compare_and_set[lmdb]",
    "tests/engine/test_cron_source.py::test_two_instances_make_one_message_of_a_tick",
)
def a_mark_is_not_compared() -> None:
    from iii.store.lmdb.keys import u64
    from iii.store.lmdb.state import StateWrites

    def whatever_it_is(original: Callable[..., None]) -> Callable[..., None]:
        def mark(self: StateWrites, op: Any) -> None:
            raw = self._moves.txn.get(op.name.encode(), db=self._moves.tables.mark)
            original(self, replace(op, expected=u64.unpack(raw)[0] if raw else None))

        return mark

    around(StateWrites, "mark", whatever_it_is)


@mutant(
    "two Txns of one group each find the key unknown",
    f"{MESSAGES}14_of_two_txns_in_one_commit_the_second_knows_the_key_of_the_first[lmdb]",
)
def a_unique_key_is_looked_up_before_the_writer() -> None:
    from iii.store.lmdb.apply import Applier
    from iii.store.lmdb.keys import UNIQUE, hash16

    before: dict[int, set[bytes]] = {}

    def looked_up(original: Callable[..., None]) -> Callable[..., None]:
        def begin(self: Applier, txn: Any, *now: int) -> None:
            original(self, txn, *now)
            before[id(self)] = {bytes(key) for key, _ in txn.cursor(self.tables.unique)}

        return begin

    def as_it_was(original: Callable[..., int | None]) -> Callable[..., int | None]:
        def known_id(self: Applier, op: Any, lane: Any) -> int | None:
            key = UNIQUE.pack(lane.number, hash16(op.unique.key))
            return original(self, op, lane) if key in before[id(self)] else None

        return known_id

    around(Applier, "begin", looked_up)
    around(Applier, "_known_id", as_it_was)


@mutant(
    "two requests with one Idempotency-Key both commit",
    "tests/web/test_idempotency.py::test_of_two_instances_one_commits_and_the_other_replays_it",
    f"{MESSAGES}14_an_exclusive_key_refuses_the_whole_txn[lmdb]",
)
def an_exclusive_key_is_not() -> None:
    from iii.store.lmdb.apply import Applier

    def shared(original: Callable[..., int | None]) -> Callable[..., int | None]:
        def known_id(self: Applier, op: Any, lane: Any) -> int | None:
            return original(self, replace(op, unique=replace(op.unique, exclusive=False)), lane)

        return known_id

    around(Applier, "_known_id", shared)


class _Unlike(bytes):
    """Equal to nothing."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


@mutant(
    "equal bytes fire triggers",
    f"{COMMITS}18_equal_bytes_are_no_change_but_the_version_is_still_compared[lmdb]",
)
def a_write_that_changes_nothing_is_a_change() -> None:
    from iii.store.lmdb import state
    from iii.store.lmdb.state import StateWrites

    def as_bytes(original: Callable[..., bytes]) -> Callable[..., bytes]:
        return lambda row: original(tuple(bytes(each) if type(each) is _Unlike else each for each in row))

    def as_if_changed(original: Callable[..., None]) -> Callable[..., None]:
        def land(self: StateWrites, headers: dict[str, str]) -> None:
            for written in self.written.values():
                if written.old is not None:
                    written.old = _Unlike(written.old)
            original(self, headers)

        return land

    around(state, "encode", as_bytes)
    around(StateWrites, "land", as_if_changed)


@mutant(
    "who follows gets its own process's changes alone where another committed in between",
    "tests/lmdb/test_recent_changes.py::test_a_change_of_another_process_in_between_is_not_missed",
)
def the_changes_of_others_are_missed() -> None:
    from iii.store.lmdb.recent import Recent

    def own_alone(original: Callable[..., Any]) -> Callable[..., Any]:
        def since(self: Recent, after: int, version: int, limit: int) -> Any:
            return original(self, after, self._run[-1].end if self._run else version, limit)

        return since

    around(Recent, "since", own_alone)


# ------------------------------------------------------------------------------ what messages are called


@mutant(
    "whoever finds an epoch gives ids in it: a restored backup gives them again",
    f"{EPOCHS}a_backup_that_is_restored_in_place_gives_no_id_again",
    f"{EPOCHS}a_backup_that_is_used_while_the_original_runs_gives_no_id_again",
)
def a_copy_goes_on_in_its_epoch() -> None:
    from iii.store.lmdb.epochs import Epochs

    def goes_on(original: Callable[..., None]) -> Callable[..., None]:
        def settle(self: Epochs, txn: Any, counters: Any) -> None:
            if found := self._newest(txn).epoch:
                self._own = found
            original(self, txn, counters)

        return settle

    around(Epochs, "settle", goes_on)


@mutant(
    "a command that lists queues keeps the epoch of a restored backup from beginning",
    f"{EPOCHS}who_only_looks_at_a_restored_store_hides_nothing_from_the_one_that_writes",
)
def who_only_looks_counts() -> None:
    from iii.store.lmdb import holder

    def unknowing(original: Callable[..., bool]) -> Callable[..., bool]:
        def is_locked(fd: int, at: int, *length: int, **asked: int) -> bool:
            knows = holder.KNOWING <= at < holder.KNOWING + holder.SLOTS
            return False if knows else original(fd, at, *length, **asked)

        return is_locked

    around(holder, "is_locked", unknowing)


# ------------------------------------------------------------------------------------- the proof itself


@mutant(
    "verify finds every table in order", "tests/lmdb/test_lmdb_verify.py::test_verify_finds[a ready row lost]"
)
def verify_sees_nothing() -> None:
    from iii.store.lmdb import verify

    instead(verify, "verify", lambda opened: [])
