"""settle(): which ops follow from an outcome. And the same seen from outside: tries, delays, dead letters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import running, step
from hypothesis import given
from hypothesis import strategies as st

from iii import Context, queue
from iii.config import QueueConfig, QueueRules
from iii.errors import Conflict, LeaseLost, StoreError
from iii.model import ARCHIVE, Ack, DeadLetter, Enqueue, Lease, Message, Release, Retry
from iii.running.retry import Cancelled, Done, Failed, Outcome, Snoozed, archive_of, doom, settle

LEASE = Lease(1, 7, 3)


def message(attempt: int = 1, **changes: Any) -> Message:
    fields: dict[str, Any] = {
        "lease": LEASE,
        "topic": "orders",
        "step": "Ship",
        "payload": b"{}",
        "priority": 200,
        "attempt": attempt,
        "crashes": 0,
        "group": None,
        "headers": {"traceparent": "t"},
        "enqueued_ms": 1,
        "error": None,
        "dead": None,
    }
    return Message(**(fields | changes))


def rules(**changes: Any) -> QueueRules:
    return QueueRules(**({"dead_letter_queue": "orders.failed"} | changes))


def settled(outcome: Outcome, on: Message, by: QueueRules, random: float = 0.5) -> Any:
    return settle(outcome, on, by, wall_ms=lambda: 99, random=lambda: random)


def test_what_ends_and_what_comes_back() -> None:
    assert settled(Done(), message(), rules()) == (Ack(LEASE),)
    assert settled(Cancelled("no"), message(), rules()) == (Ack(LEASE),)
    assert settled(Snoozed(5), message(), rules()) == (Release(LEASE, 5),)
    assert settled(Failed("e"), message(), rules()) == (Retry(LEASE, 1000, "e"),)


def test_three_retries_follow_the_first_try() -> None:
    assert isinstance(settled(Failed("e"), message(3), rules())[0], Retry)
    letter = Enqueue(
        "orders.failed",
        b"{}",
        200,
        headers={"traceparent": "t"},
        step=ARCHIVE,
        id=7,
        dead=DeadLetter("orders", "Ship", "e", 4, 99, 1),
    )
    assert settled(Failed("e"), message(4), rules()) == (Ack(LEASE, failed=True), letter)
    assert isinstance(settled(Failed("e"), message(1), rules(max_retries=0))[0], Ack)


def test_a_final_failure_is_not_retried() -> None:
    assert isinstance(settled(Failed("bad input", final=True), message(1), rules())[0], Ack)


@pytest.mark.parametrize(
    ("attempt", "changes", "delay_ms"),
    [
        (3, {}, 1000),
        (1, {"backoff": "exponential"}, 1000),
        (3, {"backoff": "exponential"}, 4000),
        (3, {"backoff": "exponential", "retry_delay_max_ms": 3000}, 3000),
        (10_000, {"backoff": "exponential", "max_retries": 10_000}, 3_600_000),
        (1, {"jitter": 0.5}, 1000),
    ],
)
def test_the_delay_before_the_next_try(attempt: int, changes: dict[str, Any], delay_ms: int) -> None:
    (retry,) = settled(Failed("e"), message(attempt), rules(**changes))
    assert retry.delay_ms == delay_ms


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10_000), st.integers(1, 50))
def test_jitter_stays_within_its_share_and_the_cap(
    jitter: float, draw: float, delay_ms: int, attempt: int
) -> None:
    by = rules(
        jitter=jitter,
        retry_delay_ms=delay_ms,
        retry_delay_max_ms=20_000,
        backoff="exponential",
        max_retries=99,
    )
    base = min(delay_ms * 2 ** (attempt - 1), 20_000)
    (retry,) = settled(Failed("e"), message(attempt), by, draw)
    assert base * (1 - jitter) - 1 <= retry.delay_ms <= min(base * (1 + jitter) + 1, 20_000)


def test_a_dead_letters_copy_goes_back_to_its_archive_and_stays_there_after_a_redrive() -> None:
    copy = message(
        topic="orders.failed", step="Alert", dead=DeadLetter("orders", "Ship", "e", 4, 1), attempt=9
    )
    by = rules(dead_letter_queue="orders.failed.failed")
    _, letter = settled(Failed("e"), copy, by)
    assert (letter.topic, letter.dead.topic, letter.dead.step) == ("orders.failed", "orders.failed", "Alert")
    redriven = message(topic="orders.failed", step="Alert", headers=letter.headers)
    assert archive_of(redriven, by) == "orders.failed"


def test_what_must_not_run_at_all() -> None:
    fired = {"topic": "$state/Work", "step": "Work"}
    assert doom(message(**fired, crashes=2, headers={"iii-hops": "100:1"}), rules()) is None
    loop = doom(message(**fired, headers={"iii-hops": "101:1"}), rules())
    assert loop is not None and loop.final and "loop" in loop.error
    assert doom(message(**fired, headers={"iii-hops": "x101"}), rules()) is None
    assert doom(message(**fired, headers={"iii-depth": "101"}), rules()) is None
    inherited = message(headers={"iii-hops": "101:1"})
    assert doom(inherited, rules()) is None, "a step that hears of dead letters hears of it"
    assert doom(message(headers={"iii-hops": "102:1"}), rules()) is not None, "and cannot go on with it"


@pytest.mark.parametrize(
    ("max_crashes", "crashes", "alone", "dies"),
    [
        (1, 4, 2, True),  # two deaths among others, and two alone, whatever is written
        (1, 3, 1, False),
        (4, 4, 1, False),  # once alone may have been anybody's doing
        (4, 4, 2, True),
        (10, 9, 7, False),
        (10, 10, 8, True),
        (4, 7, 0, False),  # where nothing runs alone, twice as many
        (4, 8, 0, True),
        (10, 19, 1, False),
        (10, 20, 0, True),
    ],
)
def test_a_worker_that_died_is_a_dead_letter_when_it_died_alone_twice_or_twice_as_often(
    max_crashes: int, crashes: int, alone: int, dies: bool
) -> None:
    doomed = doom(message(crashes=crashes, alone=alone), rules(max_crashes=max_crashes))
    assert (doomed is not None) is dies
    assert doomed is None or (doomed.final and doomed.error.startswith(f"worker died: {crashes} times"))


# ----------------------------------------------------------------------------------------- from outside


async def test_four_attempts_then_one_dead_letter_and_redrive_runs_it_again() -> None:
    attempts: list[int] = []
    broken = True

    async def handler(data: Any, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        await ctx.state.update("jobs", "1", [{"type": "increment", "path": "tries"}])
        if broken:
            raise ValueError(f"try {ctx.attempt}")

    async with running(step(handler, queue("orders"))) as app:
        id = await app.send("orders", {"n": 1}, priority="high", group="g")
        await app.settle()
        for _ in range(3):
            await app.pass_time(999)
            await app.pass_time(1)
        assert attempts == [1, 2, 3, 4]
        assert await app.value("jobs", "1") == {"tries": 4}
        (letter,) = app.letters("orders.failed")
        assert letter.dead is not None
        assert (letter.dead.error, letter.dead.attempts) == ("ValueError: try 4", 4)
        assert (app.store.message_id(letter.id), letter.payload, letter.priority) == (id, b'{"n":1}', 192)
        assert app.store.unsettled() == 0

        broken = False
        assert await app.engine.redrive("orders.failed") == 1
        await app.settle()
        assert attempts == [1, 2, 3, 4, 1]
        assert app.letters("orders.failed") == []


async def test_a_step_subscribed_to_the_dead_letter_topic_gets_a_copy_and_its_failure_stays_there() -> None:
    async def broken(data: Any) -> None:
        raise ValueError("no")

    heard: list[Any] = []

    async def listener(data: Any, ctx: Context) -> None:
        heard.append(data)
        raise ValueError("me neither")

    steps = (
        step(broken, queue("orders", config={"max_retries": 0})),
        step(listener, queue("orders.failed", config={"max_retries": 0}), name="Listener"),
    )
    async with running(*steps) as app:
        await app.send("orders", 7)
        await app.settle()
        assert heard == [7]
        letters = app.letters("orders.failed")
        assert sorted(letter.dead.step for letter in letters if letter.dead) == ["Listener", "Work"]
        assert app.letters("orders.failed.failed") == []


async def test_stored_input_that_no_longer_fits_is_a_dead_letter_at_once() -> None:
    runs: list[Any] = []

    async def handler(data: dict[str, int]) -> None:
        runs.append(data)

    async with running(step(handler, queue("orders", input=dict[str, int]))) as app:
        from iii.model import Txn

        await app.store.commit(Txn((Enqueue("orders", b'{"n": "seven"}'), Enqueue("orders", b"{not json"))))
        await app.settle()
        assert runs == []
        errors = [letter.dead.error for letter in app.letters("orders.failed") if letter.dead]
        assert len(errors) == 2 and all("ValidationError" in error for error in errors)
        assert [letter.dead.attempts for letter in app.letters("orders.failed") if letter.dead] == [1, 1]


async def test_the_config_wins_over_the_triggers_own_knobs() -> None:
    async def handler(data: Any) -> None:
        raise ValueError("no")

    work = step(handler, queue("orders", config={"max_retries": 9, "dead_letter_queue": "mine"}))
    async with running(work, queues={"orders": QueueConfig(max_retries=0)}) as app:
        await app.send("orders")
        await app.settle()
        assert len(app.letters("mine")) == 1


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)])
async def test_whatever_a_handler_raises_fails_the_attempt_and_not_the_engine(raised: BaseException) -> None:
    async def handler(data: Any) -> None:
        if data == "bad":
            raise raised

    def blocking(data: Any) -> None:
        if data == "bad":
            raise raised

    topics = queue("in", config={"max_retries": 0}), queue("in", config={"max_retries": 0})
    steps = step(handler, topics[0]), step(blocking, topics[1], name="Blocking")
    async with running(*steps) as app:
        await app.send("in", "bad")
        await app.settle()
        await app.send("in", "good")
        await app.settle()
        letters = {letter.dead.step: letter.dead.error for letter in app.letters("in.failed") if letter.dead}
        assert set(letters) == {"Work", "Blocking"}
        assert all(type(raised).__name__ in error for error in letters.values())
        assert app.store.unsettled() == 0


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (None, ["ValueError: no"]),
        (LeaseLost("gone"), []),
        (Conflict("changed"), ["Conflict: changed"]),
        (StoreError("failed"), ["ValueError: no"]),
    ],
)
async def test_a_dead_letter_is_logged_once_and_when_it_has_landed(
    refusal: StoreError | None, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler() -> None:
        if refusal is not None:
            app.store.refuse = [refusal]
        raise ValueError("no")

    async with running(step(handler, queue("in", config={"max_retries": 0}))) as app:
        await app.send("in")
        for _ in range(50):
            await asyncio.sleep(0)
            app.clock.advance(10)
        given_up = [record for record in caplog.records if record.message.startswith("Given up")]
        assert [record.__dict__["iii_fields"]["error"] for record in given_up] == told
        assert len(app.letters("in.failed")) == len(told)
