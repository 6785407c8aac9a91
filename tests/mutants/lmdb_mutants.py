"""In the LMDB store: durability, leases, deaths."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from mutant import around, instead, mutant

COMMITS = "tests/store/test_conformance_commits.py::test_"
MESSAGES = "tests/store/test_conformance_messages.py::test_"
SESSIONS = "tests/store/test_conformance_sessions.py::test_"
POWER_CUT = "tests/crash/test_power_cut.py::test_what_was_acknowledged_survives_a_power_cut"


# ------------------------------------------------------------------------------------------ durability


@mutant("the loop is told before LMDB commits", POWER_CUT)
def accepted_before_the_commit() -> None:
    from iii.store.lmdb.applying import Applying
    from iii.store.lmdb.group import Group
    from iii.store.lmdb.writer import Writer

    at_work = threading.local()

    def known(original: Callable[..., Group]) -> Callable[..., Group]:
        def attempt(self: Writer, items: Any, **asked: bool) -> Group:
            at_work.writer = self
            return original(self, items, **asked)

        return attempt

    def too_soon(original: Callable[..., None]) -> Callable[..., None]:
        def flush(self: Applying, txn: Any, group: Group) -> None:
            original(self, txn, group)
            writer, told = at_work.writer, threading.Event()
            writer._tell(Group(group.answers[:]))
            loop = writer._loop
            loop.call_soon_threadsafe(loop.call_soon, told.set)
            told.wait(5)

        return flush

    around(Writer, "_attempt", known)
    around(Applying, "flush", too_soon)


def _opened_with(**asked: bool) -> None:
    import lmdb

    around(lmdb, "open", lambda original: lambda *path, **given: original(*path, **(given | asked)))


@mutant("a commit does not wait for the disk at all", POWER_CUT)
def pages_are_not_synced() -> None:
    _opened_with(sync=False)


@mutant("a commit syncs its pages and not the page that makes them count", POWER_CUT)
def the_meta_page_is_not_synced() -> None:
    _opened_with(metasync=False)


@mutant("the ops before the refused one are not taken back", f"{COMMITS}01_a_refused_txn_wrote_nothing")
def a_refused_txn_stays() -> None:
    from iii.store.lmdb.moves import Moves

    def stays(self: Moves) -> None:
        self.undo = None

    instead(Moves, "take_back", stays)


@mutant(
    "a count goes on although the move it counts was taken back", f"{COMMITS}01_a_refused_txn_wrote_nothing"
)
def a_counter_is_kept_apart() -> None:
    from iii.store.lmdb.moves import Moves

    def rows_alone(self: Moves, lane: Any, counts: object, fresh: int) -> None:
        del lane.fresh[fresh:]

    instead(Moves, "_restore_lane", rows_alone)


# ---------------------------------------------------------------------------------------------- leases


@mutant("an old attempt settles a later one", f"{COMMITS}05_a_lost_lease_refuses_the_whole_txn[lmdb]")
def the_token_is_not_compared() -> None:
    from iii.store.lmdb.moves import Moves

    def any_token(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, lease: self.live.get(lease.id) or original(self, lease)

    around(Moves, "find_lease", any_token)


@mutant(
    "a flush lands although its message runs elsewhere by now",
    f"{COMMITS}05_a_lost_lease_refuses_the_whole_txn[lmdb]",
)
def a_flush_does_not_hold_its_lease() -> None:
    from iii.store.lmdb.apply import Applier

    instead(Applier, "_hold", lambda self, op: None)


@mutant(
    "who wakes up after its session was buried does not hear of it",
    "tests/lmdb/test_lmdb_processes.py::test_a_session_buried_alive_goes_on_as_a_new_one",
)
def a_buried_session_settles_on() -> None:
    from iii.store.lmdb.applying import Applying

    def unheard(original: Callable[..., None]) -> Callable[..., None]:
        def see_others(self: Applying, txn: Any, group: Any, due_ms: int) -> None:
            live = dict(self._applier.live)
            original(self, txn, group, due_ms)
            if group.session_lost:
                group.session_lost = 0
                self._applier.live.update(live)

        return see_others

    around(Applying, "_see_others", unheard)


@mutant(
    "a session that closes gives back what was settled in the same commit",
    f"{SESSIONS}04_what_was_settled_just_before_a_session_closes_is_not_given_back[lmdb]",
)
def a_settled_lease_is_given_back() -> None:
    from iii.store.lmdb.applying import Applying

    def late(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, items: Any, group: Any) -> Any:
            self._delete_settled = lambda group: None
            try:
                return original(self, items, group)
            finally:
                del self._delete_settled

        return run

    around(Applying, "_run", late)


# ---------------------------------------------------------------------------------------------- deaths


@mutant(
    "no death counts against the messages that ran",
    f"{SESSIONS}10_all_started_ones_become_suspects_where_none_was_and_the_others_stay_unmarked[lmdb]",
)
def the_board_is_not_consulted() -> None:
    from iii.store.lmdb import sessions

    around(sessions, "recover", lambda original: lambda applier, session, _: original(applier, session, ()))


@mutant(
    "a death counts against everything that ran, although one is known to kill",
    f"{SESSIONS}10_a_suspect_among_the_started_takes_the_blame_alone[lmdb]",
)
def all_that_ran_are_blamed() -> None:
    from iii.store.lmdb import sessions

    def all_of_them(original: Callable[..., int]) -> Callable[..., int]:
        def recover(applier: Any, session: int, started: Any) -> int:
            back = sessions.give_back
            everybody = {id: 1 for id in sessions._leases(applier, session) if id in started}
            sessions.give_back = lambda applier, session, _: back(applier, session, everybody)
            try:
                return original(applier, session, started)
            finally:
                sessions.give_back = back

        return recover

    around(sessions, "recover", all_of_them)


@mutant(
    "several suspects run in one session",
    f"{SESSIONS}17_a_session_runs_at_most_one_suspect_beside_normal_work[lmdb]",
)
def suspects_run_together() -> None:
    from iii.store.lmdb.grant import Granting

    instead(Granting, "_may_suspect", lambda self: True)


@mutant("what was settled stays on the running board", f"{SESSIONS}10_a_settled_start_is_no_blame[lmdb]")
def a_settled_start_is_blamed() -> None:
    from iii.store.lmdb.liveness import OwnSession

    instead(OwnSession, "end", lambda self, message_id: None)


@mutant("a snoozed message has one try less", f"{MESSAGES}11_the_store_gives_up_on_no_message[lmdb]")
def a_release_counts_an_attempt() -> None:
    from iii.store.lmdb.apply import Applier

    def counted(original: Callable[..., None]) -> Callable[..., None]:
        def release(self: Applier, op: Any) -> None:
            self.find_lease(op.lease)[3].attempts += 1
            original(self, op)

        return release

    around(Applier, "_release", counted)
