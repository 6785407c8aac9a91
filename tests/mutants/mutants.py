"""Known bugs, as edits of one function each: what the text of the function is, what it becomes, who notices.

An edit replaces the code of the function in place, so that whoever imported it runs the bug. Where the text
is not found the mutant does not fit any more: rewrite it.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from types import FunctionType
from typing import NamedTuple


class Edit(NamedTuple):
    """`at`: module:function or module:Class.method."""

    at: str
    old: str
    new: str


class Mutant(NamedTuple):
    """`noticed_by`: tests that pass without it and must fail with it."""

    bug: str
    edits: tuple[Edit, ...]
    noticed_by: tuple[str, ...]


def apply(mutant: Mutant) -> None:
    sources: dict[FunctionType, str] = {}
    for edit in mutant.edits:
        function = _function(edit.at)
        source = sources.get(function) or textwrap.dedent(inspect.getsource(function))
        if (count := source.count(edit.old)) != 1:
            raise LookupError(f"{edit.at} holds {edit.old!r} {count} times, not once: the mutant is old")
        sources[function] = source.replace(edit.old, edit.new)
    for function, source in sources.items():
        made: dict[str, object] = {}
        exec(f"from __future__ import annotations\n{source}", function.__globals__, made)
        (mutated,) = (each for each in made.values() if isinstance(each, FunctionType))
        function.__code__ = mutated.__code__


def _function(at: str) -> FunctionType:
    module, _, path = at.partition(":")
    found: object = importlib.import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = getattr(found, "__func__", found)
    assert isinstance(found, FunctionType), at
    return found


def _mutant(bug: str, at: str, old: str, new: str, *noticed_by: str) -> Mutant:
    return Mutant(bug, (Edit(at, old, new),), noticed_by)


LMDB = "iii.store.lmdb"
CLAIMS = "tests/store/test_conformance_claims.py::test_"
COMMITS = "tests/store/test_conformance_commits.py::test_"
MESSAGES = "tests/store/test_conformance_messages.py::test_"
SESSIONS = "tests/store/test_conformance_sessions.py::test_"
EPOCHS = "tests/lmdb/test_epochs.py::test_"
OUTCOMES = "tests/engine/test_outcomes.py::test_"
POWER_CUT = "tests/crash/test_power_cut.py::test_what_was_acknowledged_survives_a_power_cut"

ALL: dict[str, Mutant] = {
    # -- durability
    "accepted_before_the_commit": _mutant(
        "the loop is told before LMDB commits",
        f"{LMDB}.writer:Writer._attempt",
        "self._applying.flush(txn, group)",
        "self._applying.flush(txn, group); told = threading.Event(); self._tell(Group(group.answers[:]));"
        "self._loop.call_soon_threadsafe(self._loop.call_soon, told.set); told.wait(5)",
        POWER_CUT,
    ),
    "pages_are_not_synced": _mutant(
        "a commit does not wait for the disk at all",
        f"{LMDB}.environment:Environment.__init__",
        'sync=fsync != "interval"',
        "sync=False",
        POWER_CUT,
    ),
    "the_meta_page_is_not_synced": _mutant(
        "a commit syncs its pages and not the page that makes them count",
        f"{LMDB}.environment:Environment.__init__",
        'metasync=fsync == "commit"',
        "metasync=False",
        POWER_CUT,
    ),
    # -- one outcome, one commit
    "acknowledged_before_the_handler": _mutant(
        "a message is acknowledged when it starts, not with its effects",
        "iii.running.runner:Runner.start",
        "self._store.start(message.lease)",
        'self._store.submit(__import__("iii.model").model.Txn((__import__("iii.model").model.Ack(message.lease),)))',
        f"{OUTCOMES}effects_and_settlement_are_one_commit",
    ),
    "effects_apart_from_the_settlement": _mutant(
        "what a handler wrote and its settlement are two Txns",
        "iii.running.settler:Settler.settle",
        "self._store.post(attempt.txn, attempt)",
        "effects = [op for op in attempt.txn.ops if not hasattr(op, 'lease')]\n"
        "        if effects:\n"
        "            self._store.submit(Txn(effects))\n"
        "            attempt.txn = Txn([op for op in attempt.txn.ops if hasattr(op, 'lease')])\n"
        "        self._store.post(attempt.txn, attempt)",
        f"{OUTCOMES}effects_and_settlement_are_one_commit",
    ),
    "a_refused_txn_stays": _mutant(
        "the ops before the refused one are not taken back",
        f"{LMDB}.moves:Moves.take_back",
        "reversed(undo)",
        "()",
        f"{COMMITS}01_a_refused_txn_wrote_nothing",
    ),
    "a_retry_drops_the_state": _mutant(
        "a failed attempt's state writes are dropped with its enqueues",
        "iii.running.settler:Settler._kept",
        "return ctx.end(enqueues=False, clears=False)",
        "return ctx.end(enqueues=False, clears=False) and NO_EFFECTS",
        f"{OUTCOMES}what_a_raising_attempt_keeps",
    ),
    "a_retry_keeps_the_enqueues": _mutant(
        "a failed attempt's enqueues are sent, and the retry sends them again",
        "iii.running.settler:Settler._kept",
        "return ctx.end(enqueues=False, clears=False)",
        "return ctx.end(clears=False)",
        f"{OUTCOMES}what_a_raising_attempt_keeps",
    ),
    "a_failed_attempt_clears": _mutant(
        "what a handler cleared before it raised goes with the retry",
        "iii.running.settler:Settler._kept",
        "return ctx.end(enqueues=False, clears=False)",
        "return ctx.end(enqueues=False)",
        "tests/engine/test_clear.py::test_a_handler_that_raises_after_a_clear_leaves_everything",
    ),
    "a_hop_counts_twice": _mutant(
        "a state trigger adds 2 to the hops of its chain",
        "iii.trace:hopped",
        "carried.pop(GENERATION, None)",
        "carried[HOPS] = f'{count + 1}:{wall_ms}'",
        "tests/engine/test_hops.py::test_a_loop_over_state_and_a_queue_dies_at_its_100th_state_hop",
    ),
    "a_dead_letter_in_two_txns": _mutant(
        "the message is acknowledged in one Txn and buried in the next",
        "iii.running.settler:Settler.settle",
        "self._store.post(attempt.txn, attempt)",
        "letters = [op for op in attempt.txn.ops if type(op) is Enqueue and op.dead]\n"
        "        if letters:\n"
        "            self._store.submit(Txn([op for op in attempt.txn.ops if op not in letters]))\n"
        "            from msgspec.structs import replace\n"
        "            attempt.txn = Txn([replace(op, id=None) for op in letters])\n"
        "        self._store.post(attempt.txn, attempt)",
        f"{OUTCOMES}failed_attempts_leave_a_run_record_in_the_same_commit",
    ),
    "the_response_before_the_commit": _mutant(
        "a request is answered while its effects are on their way to the disk",
        "iii.web.exchange:Exchange._commit",
        "await self._ctx.settle(\n            *([op]",
        "(lambda *ops, **rest: asyncio.ensure_future(self._ctx.settle(*ops, **rest)))(\n            *([op]",
        "tests/web/test_endpoint.py::test_what_is_returned_commits_whatever_the_status",
    ),
    "the_response_before_the_commit_in_the_lane": _mutant(
        "the lane answers a request while its effects are on their way to the disk",
        "iii.web.exchange:Exchange._post",
        "    return None",
        "    self.set_result = lambda _: None\n    return self._closed(sent)",
        "tests/web/test_lane_commits.py::test_an_answer_leaves_when_its_effects_are_on_disk",
    ),
    "a_change_passes_before_its_messages": _mutant(
        "the mark of a trigger moves in one Txn, its messages follow in the next",
        "iii.sources.changes:ChangeSource._commit",
        "Txn([*self._mark_ops(reached), *messages])",
        "Txn(self._mark_ops(reached))); await self._store.commit(Txn(messages)",
        "tests/engine/test_state_triggers.py::test_the_messages_of_a_change_and_their_marks_are_one_commit",
    ),
    "a_tick_passes_before_its_message": _mutant(
        "the mark of a schedule moves in one Txn, the tick follows in the next",
        "iii.sources.cron:CronSource._commit",
        "Txn(ops)",
        "Txn(ops[:1])); await self._store.commit(Txn(ops[1:])",
        "tests/engine/test_cron_source.py::test_a_ticks_message_and_its_mark_are_one_commit",
    ),
    "an_answer_is_kept_after_its_effects": Mutant(
        "the answer for an Idempotency-Key is stored in a Txn of its own",
        (
            Edit("iii.web.exchange:Exchange._commit", "    op = self", "    op, later = None, self"),
            Edit(
                "iii.web.exchange:Exchange._commit",
                "    return sent\n",
                "    from iii.model import Txn\n"
                "    await self._means.runner._store.commit(Txn([later] if later else []))\n"
                "    return sent\n",
            ),
        ),
        ("tests/web/test_idempotency.py::test_of_two_instances_one_commits_and_the_other_replays_it",),
    ),
    # -- leases
    "the_token_is_not_compared": _mutant(
        "an old attempt settles a later one",
        f"{LMDB}.moves:Moves.find_lease",
        "held is None or held[0] != token",
        "held is None",
        f"{COMMITS}05_a_lost_lease_refuses_the_whole_txn[lmdb]",
    ),
    "a_flush_does_not_hold_its_lease": _mutant(
        "a flush lands although its message runs elsewhere by now",
        f"{LMDB}.apply:Applier._hold",
        "self.find_lease(op.lease)",
        "pass",
        f"{COMMITS}05_a_lost_lease_refuses_the_whole_txn[lmdb]",
    ),
    "a_buried_session_settles_on": _mutant(
        "who wakes up after its session was buried does not hear of it",
        f"{LMDB}.applying:Applying._see_others",
        "if applier.session and applier.session not in applier.catalog.sessions:",
        "if False:",
        "tests/lmdb/test_lmdb_processes.py::test_a_session_buried_alive_goes_on_as_a_new_one",
    ),
    "a_settled_lease_is_given_back": _mutant(
        "a session that closes gives back what was settled in the same commit",
        f"{LMDB}.applying:Applying._run",
        "self._delete_settled(group)",
        "pass",
        f"{SESSIONS}04_what_was_settled_just_before_a_session_closes_is_not_given_back[lmdb]",
    ),
    "the_slot_is_freed_early": _mutant(
        "a slot is free when the handler returns, whatever its commit does",
        "iii.running.settler:Settler.settle",
        "self._store.post(attempt.txn, attempt)",
        "attempt.end(); self._store.post(attempt.txn, attempt)",
        "tests/engine/test_queue_source.py::test_a_slot_is_free_when_the_commit_that_settled_returned",
    ),
    # -- crashes
    "the_board_is_not_consulted": _mutant(
        "no death counts against the messages that ran",
        f"{LMDB}.membership:Membership._recover",
        "started = started_by(host.path, session)",
        "started = ()",
        f"{SESSIONS}10_all_started_ones_become_suspects_where_none_was_and_the_others_stay_unmarked[lmdb]",
    ),
    "all_that_ran_are_blamed": _mutant(
        "a death counts against everything that ran, although one is known to kill",
        f"{LMDB}.sessions:recover",
        "suspects or running",
        "running",
        f"{SESSIONS}10_a_suspect_among_the_started_takes_the_blame_alone[lmdb]",
    ),
    "suspects_run_together": _mutant(
        "several suspects run in one session",
        f"{LMDB}.grant:Granting._may_suspect",
        "if self._suspect:",
        "if False:",
        f"{SESSIONS}17_a_session_runs_at_most_one_suspect_beside_normal_work[lmdb]",
    ),
    "a_settled_start_is_blamed": _mutant(
        "what was settled stays on the running board",
        f"{LMDB}.liveness:OwnSession.end",
        "slot = self._slot_of.pop(message_id, None)",
        "return",
        f"{SESSIONS}10_a_settled_start_is_no_blame[lmdb]",
    ),
    "a_release_counts_an_attempt": _mutant(
        "a snoozed message has one try less",
        f"{LMDB}.apply:Applier._release",
        "_again(row)",
        "(setattr(row, 'attempts', row.attempts + 1), _again(row))[1]",
        f"{MESSAGES}11_the_store_gives_up_on_no_message[lmdb]",
    ),
    # -- order and limits
    "the_head_of_a_group_is_released_early": _mutant(
        "the next of a group comes forward while its head waits for a retry",
        f"{LMDB}.apply:Applier._retry",
        "self.rest(lane, op.lease.id, priority, again, self.now_ms + op.delay_ms)",
        "self.rest(lane, op.lease.id, priority, again, self.now_ms + op.delay_ms)\n"
        "    if row.group: self._come_forward(lane, hash16(row.group))",
        f"{CLAIMS}08_retry_delay_and_release_of_the_head_hold_its_group[lmdb]",
    ),
    "max_in_flight_counted_per_instance": _mutant(
        "the cap is compared with this session's leases alone",
        f"{LMDB}.grant:Granting.grant",
        "wanted = room(lane, count) if lane is not None else 0",
        "wanted = room(lane, count) if lane is not None else 0\n"
        "        if lane is not None and lane.max_in_flight is not None:\n"
        "            mine = sum(held[1] is lane for held in self._applier.live.values())\n"
        "            wanted = max(0, min(count, lane.ready, lane.max_in_flight - mine))",
        f"{MESSAGES}13_max_in_flight_caps_live_leases_over_all_sessions[lmdb]",
    ),
    "a_paused_lane_is_granted": _mutant(
        "a pause is kept and not looked at",
        f"{LMDB}.grant:room",
        "lane.paused or not lane.ready",
        "not lane.ready",
        f"{MESSAGES}15_a_paused_lane_grants_nothing_and_keeps_its_messages[lmdb]",
    ),
    "a_delay_is_ignored": _mutant(
        "a delayed message is ready at once",
        f"{LMDB}.moves:Moves.rest",
        "due_ms > self.now_ms",
        "False",
        f"{CLAIMS}07_nothing_is_claimed_before_it_is_due[lmdb]",
    ),
    "a_counter_is_kept_apart": _mutant(
        "a count goes on although the move it counts was taken back",
        f"{LMDB}.moves:Moves._restore_lane",
        "lane.set_counts(counts)",
        "pass",
        f"{COMMITS}01_a_refused_txn_wrote_nothing",
    ),
    # -- once
    "a_mark_is_not_compared": _mutant(
        "two instances move one cursor",
        f"{LMDB}.state:StateWrites.mark",
        "found != op.expected",
        "False",
        f"{COMMITS}09_a_mark_is_compare_and_set[lmdb]",
        "tests/engine/test_cron_source.py::test_two_instances_make_one_message_of_a_tick",
    ),
    "a_unique_key_is_looked_up_before_the_writer": Mutant(
        "two Txns of one group each find the key unknown",
        (
            Edit(
                f"{LMDB}.apply:Applier.begin",
                "self.histories.begin()",
                "self.histories.begin(); self.known = dict(txn.cursor(self.tables.unique))",
            ),
            Edit(
                f"{LMDB}.apply:Applier._known_id",
                "self.txn.get(UNIQUE.pack(lane.number, hash16(op.unique.key)), db=self.tables.unique)",
                "self.known.get(UNIQUE.pack(lane.number, hash16(op.unique.key)))",
            ),
        ),
        (f"{MESSAGES}14_of_two_txns_in_one_commit_the_second_knows_the_key_of_the_first[lmdb]",),
    ),
    "an_exclusive_key_is_not": _mutant(
        "two requests with one Idempotency-Key both commit",
        f"{LMDB}.apply:Applier._known_id",
        "if op.unique.exclusive:",
        "if False:",
        "tests/web/test_idempotency.py::test_of_two_instances_one_commits_and_the_other_replays_it",
        f"{MESSAGES}14_an_exclusive_key_refuses_the_whole_txn[lmdb]",
    ),
    "a_write_that_changes_nothing_is_a_change": _mutant(
        "equal bytes fire triggers",
        f"{LMDB}.state:StateWrites.land",
        "if old == new:",
        "if False:",
        f"{COMMITS}18_equal_bytes_are_no_change_but_the_version_is_still_compared[lmdb]",
    ),
    "the_changes_of_others_are_missed": _mutant(
        "who follows gets its own process's changes alone where another committed in between",
        f"{LMDB}.recent:Recent.since",
        "run[-1].end != version or ",
        "",
        "tests/lmdb/test_recent_changes.py::test_a_change_of_another_process_in_between_is_not_missed",
    ),
    # -- what messages are called
    "a_copy_goes_on_in_its_epoch": _mutant(
        "whoever finds an epoch gives ids in it: a restored backup gives them again",
        f"{LMDB}.epochs:Epochs.settle",
        "if self._holder.is_shared(self._shared(newest.epoch)) or self._holder.beside_older():",
        "if newest.epoch:",
        f"{EPOCHS}a_backup_that_is_restored_in_place_gives_no_id_again",
        f"{EPOCHS}a_backup_that_is_used_while_the_original_runs_gives_no_id_again",
    ),
    "who_only_looks_counts": _mutant(
        "a command that lists queues keeps the epoch of a restored backup from beginning",
        f"{LMDB}.holder:Holder.beside_older",
        "and not is_locked(fd, KNOWING + slot)",
        "",
        f"{EPOCHS}who_only_looks_at_a_restored_store_hides_nothing_from_the_one_that_writes",
    ),
    # -- the proof itself
    "verify_sees_nothing": _mutant(
        "verify finds every table in order",
        f"{LMDB}.verify:verify",
        "return rows.findings",
        "return []",
        "tests/lmdb/test_lmdb_verify.py::test_verify_finds[a ready row lost]",
    ),
}
