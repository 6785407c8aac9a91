"""In the LMDB store: durability, leases, deaths."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from mutant import around, instead, mutant

COMMITS = "tests/store/test_conformance_commits.py::test_"
MESSAGES = "tests/store/test_conformance_messages.py::test_"
SESSIONS = "tests/store/test_conformance_sessions.py::test_"
SUSPECTS = "tests/store/test_conformance_suspects.py::test_"
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
    f"{SUSPECTS}10_each_whose_handler_ran_counts_a_crash_and_the_others_stay_unmarked[lmdb]",
)
def the_board_is_not_consulted() -> None:
    from iii.store.lmdb import sessions

    around(sessions, "recover", lambda original: lambda applier, session, _: original(applier, session, ()))


@mutant(
    "a suspect takes the blame alone, whatever else ran",
    f"{SUSPECTS}10_a_suspect_that_ran_does_not_take_the_others_crash_upon_itself[lmdb]",
)
def one_is_blamed_for_all() -> None:
    from iii.store.lmdb import sessions

    def the_suspects(original: Callable[..., int]) -> Callable[..., int]:
        def give_back(applier: Any, session: int, crashed: Any, **alone: bool) -> int:
            leases = sessions._leases(applier, session)
            suspects = {id for id in crashed if id in leases and leases[id][3].crashes}
            return original(applier, session, suspects or crashed, **alone)

        return give_back

    around(sessions, "give_back", the_suspects)


@mutant(
    "a death in the quarantine is one as any other",
    f"{SUSPECTS}10_the_death_of_a_quarantine_counts_as_alone_too[lmdb]",
)
def nothing_dies_alone() -> None:
    from iii.store.lmdb import sessions

    def beside_others(original: Callable[..., int]) -> Callable[..., int]:
        return lambda applier, session, crashed, **_: original(applier, session, crashed)

    around(sessions, "give_back", beside_others)


@mutant(
    "several suspects run in one session",
    f"{SUSPECTS}17_a_quarantine_is_granted_suspects_alone_and_one_at_a_time[lmdb]",
    f"{SUSPECTS}17_a_session_that_asks_for_one_runs_it_beside_other_work[lmdb]",
)
def suspects_run_together() -> None:
    from iii.store.lmdb import suspects

    instead(suspects, "may_have_one", lambda moves: moves.suspects != "none")


@mutant(
    "suspects run beside everything else",
    f"{SUSPECTS}17_a_session_that_asks_for_none_gets_what_waits_behind_suspects[lmdb]",
)
def suspects_run_anywhere() -> None:
    from iii.store.lmdb import suspects

    instead(suspects, "may_have_one", lambda moves: True)


@mutant(
    "a quarantine takes what is no suspect",
    f"{SUSPECTS}17_a_quarantine_is_granted_suspects_alone_and_one_at_a_time[lmdb]",
    f"{SUSPECTS}17_a_message_with_one_crash_is_no_suspect[lmdb]",
)
def a_quarantine_takes_all() -> None:
    from iii.store.lmdb.grant import Granting

    def all_of_it(original: Callable[..., Any]) -> Callable[..., Any]:
        def grant(self: Any) -> Any:
            applier = self._applier
            kind, applier.suspects = applier.suspects, "one"
            try:
                return original(self)
            finally:
                applier.suspects = kind

        return grant

    around(Granting, "grant", all_of_it)


@mutant(
    "a quarantine counts as a subscriber",
    f"{SUSPECTS}16_a_quarantine_subscribes_to_nothing_sets_nothing_and_adopts_nothing[lmdb]",
)
def a_quarantine_subscribes() -> None:
    from iii.store.lmdb.catalog import Catalog

    instead(Catalog, "subscribing", lambda self: list(self.sessions.values()))


@mutant(
    "a suspect that is ready is listed nowhere",
    f"{SUSPECTS}17_a_quarantine_is_granted_suspects_alone_and_one_at_a_time[lmdb]",
)
def suspects_are_not_listed() -> None:
    from iii.store.lmdb import suspects

    instead(suspects, "list_suspect", lambda moves, lane, rank, id: None)


@mutant(
    "nobody hears that a suspect is ready",
    f"{SUSPECTS}a_session_hears_when_suspects_are_ready_and_when_none_is_left[lmdb]",
)
def suspects_are_not_told() -> None:
    from iii.store.lmdb.store import LmdbStore

    instead(LmdbStore, "on_suspects", lambda self, call: None)


@mutant(
    "a handler that has ended counts a crash until its commit lands",
    f"{SUSPECTS}10_a_handler_that_has_ended_is_no_crash_whenever_it_is_settled[lmdb]",
    "tests/engine/test_handler_ends.py::test_the_board_is_clear_when_the_handler_has_ended_before_its_commit",
)
def the_board_is_cleared_by_the_commit_alone() -> None:
    from iii.store.lmdb.store import LmdbStore

    instead(LmdbStore, "end", lambda self, lease: None)


@mutant("what was settled stays on the running board", f"{SUSPECTS}10_a_settled_start_is_no_crash[lmdb]")
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
