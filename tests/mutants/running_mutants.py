"""Above the waist: what is committed together, and when it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from mutant import Wrap, around, instead, mutant

from iii.model import Ack, Enqueue, Mark, Op, Txn

OUTCOMES = "tests/engine/test_outcomes.py::test_"


class Unheard:
    """The answer to a Txn that nobody waits for."""

    def done(self) -> bool:
        return False

    def set_result(self, _: object) -> None:
        pass

    def set_exception(self, _: Exception) -> None:
        pass


def stores() -> tuple[type, ...]:
    from iii.store.lmdb import LmdbStore
    from iii.store.memory import MemoryStore

    return LmdbStore, MemoryStore


def split(first: Callable[[Sequence[Op]], list[Op]], *, named: Sequence[str] = ("commit", "post")) -> None:
    """Each store commits `first(ops)` in a Txn of its own, before the others of the same Txn."""

    def in_two(original: Callable[..., Any]) -> Callable[..., Any]:
        def called(self: Any, txn: Txn, *answer: Any) -> Any:
            ahead = first(txn.ops)
            if ahead and len(ahead) < len(txn.ops):
                self.submit(Txn(ahead, txn.headers))
                txn = Txn([op for op in txn.ops if op not in ahead], txn.headers)
            return original(self, txn, *answer)

        return called

    for store in stores():
        for name in named:
            around(store, name, in_two)


def _settlements(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if hasattr(op, "lease")]


def _marks(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if isinstance(op, Mark)]


@mutant(
    "a message is acknowledged when it starts, not with its effects",
    f"{OUTCOMES}effects_and_settlement_are_one_commit",
)
def acknowledged_before_the_handler() -> None:
    for store in stores():
        instead(store, "start", lambda self, lease: self.submit(Txn((Ack(lease),))))


@mutant(
    "what a handler wrote and its settlement are two Txns",
    f"{OUTCOMES}effects_and_settlement_are_one_commit",
)
def effects_apart_from_the_settlement() -> None:
    split(lambda ops: [op for op in ops if op not in settled] if (settled := _settlements(ops)) else [])


@mutant(
    "the message is acknowledged in one Txn and buried in the next",
    f"{OUTCOMES}failed_attempts_leave_a_run_record_in_the_same_commit",
)
def a_dead_letter_in_two_txns() -> None:
    def without_the_letter(ops: Sequence[Op]) -> list[Op]:
        return [op for op in ops if not (isinstance(op, Enqueue) and op.dead)]

    split(without_the_letter)


def _end_with(**given: bool) -> Wrap:
    """A context that ends as if it were asked so."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, **asked: original(self, **(asked | given))

    return wrap


@mutant(
    "a failed attempt's state writes are dropped with its enqueues",
    f"{OUTCOMES}what_a_raising_attempt_keeps",
)
def a_retry_drops_the_state() -> None:
    from iii.handling.context import Context
    from iii.model import NO_EFFECTS

    def drops(original: Callable[..., Any]) -> Callable[..., Any]:
        def end(self: Context, **asked: bool) -> Txn:
            kept: Txn = original(self, **asked)
            return kept if asked.get("enqueues", True) else NO_EFFECTS

        return end

    around(Context, "end", drops)


@mutant(
    "a failed attempt's enqueues are sent, and the retry sends them again",
    f"{OUTCOMES}what_a_raising_attempt_keeps",
)
def a_retry_keeps_the_enqueues() -> None:
    from iii.handling.context import Context

    around(Context, "end", _end_with(enqueues=True))


@mutant(
    "what a handler cleared before it raised goes with the retry",
    "tests/engine/test_clear.py::test_a_handler_that_raises_after_a_clear_leaves_everything",
)
def a_failed_attempt_clears() -> None:
    from iii.handling.context import Context

    around(Context, "end", _end_with(clears=True))


@mutant(
    "a state trigger adds 2 to the hops of its chain",
    "tests/engine/test_hops.py::test_a_loop_over_state_and_a_queue_dies_at_its_100th_state_hop",
)
def a_hop_counts_twice() -> None:
    from iii import trace

    def twice(original: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
        return lambda headers, wall_ms: original(original(headers, wall_ms), wall_ms)

    around(trace, "hopped", twice)


@mutant(
    "a slot is free when the handler returns, whatever its commit does",
    "tests/engine/test_queue_source.py::test_a_slot_is_free_when_the_commit_that_settled_returned",
)
def one_more_is_in_flight_than_there_are_slots() -> None:
    from iii.sources import queue

    around(queue._Lane, "level", lambda original: property(lambda self: original.fget(self) + 1))


@mutant(
    "the level follows the slots that threads keep only after their messages are settled",
    "tests/engine/test_queue_levels.py::test_a_thread_that_runs_on_takes_its_slot_out_of_the_level",
)
def a_detached_slot_is_granted_once_more() -> None:
    from iii.sources import queue

    instead(queue._Lane, "detach", lambda self: None)
    instead(queue._Lane, "attach", lambda self: None)


@mutant(
    "a request is answered while its effects are on their way to the disk",
    "tests/web/test_endpoint.py::test_what_is_returned_commits_whatever_the_status",
)
def the_response_before_the_commit() -> None:
    from iii.handling.context import Context
    from iii.model import Committed

    under_way: set[asyncio.Task[object]] = set()

    def too_soon(original: Callable[..., Any]) -> Callable[..., Any]:
        async def settle(self: Context, *ops: Op, **asked: Any) -> Committed:
            under_way.add(asyncio.ensure_future(original(self, *ops, **asked)))
            return Committed(0, [])

        return settle

    around(Context, "settle", too_soon)


@mutant(
    "the lane answers a request while its effects are on their way to the disk",
    "tests/web/test_lane_commits.py::test_an_answer_leaves_when_its_effects_are_on_disk",
)
def the_response_before_the_commit_in_the_lane() -> None:
    from iii.model import Committed

    def too_soon(original: Callable[..., None]) -> Callable[..., None]:
        def post(self: Any, txn: Txn, answer: Any) -> None:
            original(self, txn, Unheard())
            asyncio.get_running_loop().call_soon(answer.set_result, Committed(0, []))

        return post

    for store in stores():
        around(store, "post", too_soon)


@mutant(
    "the mark of a trigger moves in one Txn, its messages follow in the next",
    "tests/engine/test_state_triggers.py::test_the_messages_of_a_change_and_their_marks_are_one_commit",
)
def a_change_passes_before_its_messages() -> None:
    split(_marks)


@mutant(
    "the mark of a schedule moves in one Txn, the tick follows in the next",
    "tests/engine/test_cron_source.py::test_a_ticks_message_and_its_mark_are_one_commit",
)
def a_tick_passes_before_its_message() -> None:
    split(_marks)


@mutant(
    "the answer for an Idempotency-Key is stored in a Txn of its own",
    "tests/web/test_idempotency.py::test_of_two_instances_one_commits_and_the_other_replays_it",
)
def an_answer_is_kept_after_its_effects() -> None:
    from iii.handling.context import Context
    from iii.model import Committed

    def later(original: Callable[..., Any]) -> Callable[..., Any]:
        async def settle(self: Context, *ops: Op, **asked: Any) -> Committed:
            committed: Committed = await original(self, **asked)
            if ops:
                await self._runtime.store.commit(Txn(ops))
            return committed

        return settle

    around(Context, "settle", later)
