"""Engines on a simulated machine: whatever befalls them, every promise holds, and a seed is one run for ever.

SIMULATION_SEED=17 runs that seed alone; run.py beside this file has the long form. What the checks are worth
shows in the second half: bugs put in by hand, each of which some seed must find.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sim_store import SimStore
from sim_world import simulate

from iii.errors import LeaseLost
from iii.handling.context import Context
from iii.handling.draft import Draft
from iii.model import Ack, Committed, Enqueue, Mark, Return, Txn
from iii.running import retry
from iii.sources.cron import CronSource
from iii.store.memory import moves, sessions
from iii.store.memory.tables import MemoryTables
from iii.store.memory.transaction import Transaction

HERE = Path(__file__).parent

SEEDS = [int(os.environ["SIMULATION_SEED"])] if "SIMULATION_SEED" in os.environ else range(30)
MUTANT_SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_befalls_the_engines_every_promise_holds(seed: int) -> None:
    outcome = simulate(seed)
    assert not outcome.findings, outcome.report()


def test_a_seed_is_the_same_run_again_in_another_process_too() -> None:
    code = "import sys; from sim_world import simulate; sys.stdout.write(simulate(3).trace)"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(HERE)}
    again = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert again.stdout == simulate(3).trace == simulate(3).trace, again.stderr
    assert simulate(4).trace != simulate(3).trace


# ------------------------------------------------------------------------------------ bugs put in by hand

Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Patch] = {}


def mutant(patch: Patch) -> Patch:
    MUTANTS[patch.__name__] = patch
    return patch


@mutant
def a_lost_lease_lets_the_effects_land(patch: pytest.MonkeyPatch) -> None:
    settle = Transaction._settle

    def forgiving(self: Transaction, op: Any) -> None:
        try:
            settle(self, op)
        except LeaseLost:
            return

    patch.setattr(Transaction, "_settle", forgiving)


@mutant
def accepted_is_said_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    submit = SimStore.submit

    def hasty(self: SimStore, txn: Txn) -> Any:
        future = submit(self, txn)
        if len(txn.ops) == 1 and isinstance(txn.ops[0], Enqueue) and not future.done():
            future.set_result(Committed(0, [[0]]))
        return future

    patch.setattr(SimStore, "submit", hasty)


@mutant
def effects_and_settlement_are_two_commits(patch: pytest.MonkeyPatch) -> None:
    post = SimStore.post

    def apart(self: SimStore, txn: Txn, answer: Any) -> None:
        settling = [op for op in txn.ops if isinstance(op, Ack)]
        if settling and len(txn.ops) > 1 and not any(isinstance(op, Enqueue) and op.id for op in txn.ops):
            effects = asyncio.get_running_loop().create_future()
            post(self, replace(txn, ops=[op for op in txn.ops if op not in settling]), effects)
            txn = replace(txn, ops=settling)
        post(self, txn, answer)

    patch.setattr(SimStore, "post", apart)


@mutant
def a_group_runs_side_by_side(patch: pytest.MonkeyPatch) -> None:
    enter = moves.enter

    def alone(tables: MemoryTables, row: Any, now_ms: int) -> None:
        enter(tables, replace(row, group=None), now_ms)

    patch.setattr(moves, "enter", alone)


@mutant
def a_cap_holds_for_each_grant_alone(patch: pytest.MonkeyPatch) -> None:
    def room(tables: MemoryTables, lane: Any, wanted: int, chosen: int = 0) -> int:
        row = tables.lane.get(lane)
        most = row.policy.max_in_flight if row else None
        return 0 if row is None or row.paused else wanted if most is None else min(wanted, most)

    patch.setattr(sessions, "_room", room)


@mutant
def each_group_grants_a_level_anew(patch: pytest.MonkeyPatch) -> None:
    grant = sessions.grant

    def generous(tables: MemoryTables, session: int, levels: Any) -> Any:
        held = Counter(row.lane for _, row in tables.leased.under(session))
        return grant(tables, session, {lane: level + held[lane] for lane, level in levels.items()})

    patch.setattr(sessions, "grant", generous)


@mutant
def what_a_drain_returns_is_gone(patch: pytest.MonkeyPatch) -> None:
    settle = Transaction._settle

    def careless(self: Transaction, op: Any) -> None:
        settle(self, Ack(op.lease) if isinstance(op, Return) else op)

    patch.setattr(Transaction, "_settle", careless)


@mutant
def the_mark_of_a_schedule_is_a_commit_of_its_own(patch: pytest.MonkeyPatch) -> None:
    commit = CronSource._commit

    async def apart(self: CronSource, job: Any, ops: list[Any]) -> None:
        await commit(self, job, [op for op in ops if not isinstance(op, Mark)])
        await commit(self, job, [op for op in ops if isinstance(op, Mark)])

    patch.setattr(CronSource, "_commit", apart)


@mutant
def a_mark_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    def mark(self: Transaction, op: Mark) -> None:
        self._tables.mark.put(op.name, op.value)

    patch.setattr(Transaction, "_mark", mark)


@mutant
def the_dead_keep_their_leases(patch: pytest.MonkeyPatch) -> None:
    def forget(tables: MemoryTables, now: Any) -> None:
        for session in [id for id, _ in tables.session.scan() if id in tables.dead_sessions]:
            tables.session.pop(session)

    patch.setattr(sessions, "recover_dead", forget)


@mutant
def a_failed_attempt_sends_its_messages(patch: pytest.MonkeyPatch) -> None:
    take = Draft.take
    patch.setattr(Draft, "take", lambda self, *, enqueues=True: take(self))


@mutant
def a_counter_misses_the_retries(patch: pytest.MonkeyPatch) -> None:
    put_back = moves.put_back

    def forgetful(tables: MemoryTables, row: Any, event: str, *args: Any, **changes: Any) -> None:
        put_back(tables, row, event, *args, **changes)
        if event == "Retry":
            tables.add(row.lane, "failed", -1)

    patch.setattr(moves, "put_back", forgetful)


@mutant
def a_unique_key_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transaction, "_known", lambda self, op, lane: None)


@mutant
def a_suspect_is_a_dead_letter_unheard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retry, "_deadly", lambda message, rules: "twice")


@mutant
def nobody_hears_of_suspects(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimStore, "on_suspects", lambda self, call: None)


@mutant
def a_suspect_is_granted_to_nobody_once_it_ran_alone(patch: pytest.MonkeyPatch) -> None:
    is_suspect = sessions._is_suspect
    first = sessions._first_suspect
    patch.setattr(sessions, "_is_suspect", lambda row: is_suspect(row) or row.alone > 0)
    patch.setattr(sessions, "_first_suspect", lambda *given: [row for row in first(*given) if not row.alone])


@mutant
def a_request_is_answered_before_its_commit(patch: pytest.MonkeyPatch) -> None:
    settle = Context.settle

    async def hasty(self: Context, *ops: Any, **options: Any) -> Any:
        asyncio.ensure_future(settle(self, *ops, **options)).add_done_callback(lambda done: done.exception())
        return Committed(0, [])

    patch.setattr(Context, "settle", hasty)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_put_in_by_hand_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert any(simulate(seed).findings for seed in MUTANT_SEEDS)
