"""Chains of work: what may go on for ever, what is told of, and what ends as a loop."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from engine_kit import Running, running, step

from iii import Context, InputError, Request, Snooze, StateChange, cron, http, queue, state
from iii.config import QueueConfig
from iii.model import Enqueue, Txn
from iii.store import bulk
from iii.store.audit import Actor

TRACE = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
MINUTE_MS = 60_000


class Spinner:
    """A step that a change of ("spin", "n") starts, and that changes it: at once, or `via` another way."""

    def __init__(self, rounds_max: int = 1_000) -> None:
        self.runs = 0
        self.rounds_max = rounds_max

    async def write(self, ctx: Context) -> None:
        if self.runs < self.rounds_max:
            await ctx.state.update("spin", "n", [{"type": "increment", "path": "", "by": 1}])

    async def fired(self, change: StateChange, ctx: Context) -> None:
        self.runs += 1
        await self.write(ctx)

    async def relays(self, change: StateChange, ctx: Context) -> None:
        self.runs += 1
        await ctx.enqueue("relay", None)

    async def relayed(self, data: Any, ctx: Context) -> None:
        await self.write(ctx)

    async def waits(self, change: StateChange, ctx: Context) -> None:
        self.runs += 1
        await ctx.enqueue("relay", None, delay=MINUTE_MS)


SPIN = state(namespace="spin")


def died(app: Running, topic: str = "$state/Spin.failed") -> list[str]:
    return [letter.dead.error for letter in app.letters(topic) if letter.dead is not None]


# ------------------------------------------------------------------------------------- chains of messages


@pytest.mark.parametrize("chunks", [101, 5_000])
async def test_an_import_whose_chunks_each_send_the_next_runs_through(chunks: int) -> None:
    done: list[int] = []

    async def imports(chunk: int, ctx: Context) -> None:
        done.append(chunk)
        if chunk < chunks:
            await ctx.enqueue("chunk", chunk + 1)

    async with running(step(imports, queue("chunk"))) as app:
        await app.send("chunk", 1)
        await app.settle()
        assert done == list(range(1, chunks + 1)) and died(app, "chunk.failed") == []


async def test_a_long_chain_is_told_of_once_and_shown_and_a_short_one_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left: list[int] = [999]

    async def ping(data: Any, ctx: Context) -> None:
        if left[0]:
            left[0] -= 1
            await ctx.enqueue("pong", None)

    async def pong(data: Any, ctx: Context) -> None:
        if left[0]:
            left[0] -= 1
            await ctx.enqueue("ping", None)

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if "without delay" in each.getMessage()]

    caplog.set_level(logging.WARNING)
    async with running(step(ping, queue("ping"), name="Ping"), step(pong, queue("pong"), name="Pong")) as app:
        await app.send("ping")
        await app.settle()
        assert told() == [] and app.engine.metering.overview().troubles == ()
        left[0] = 3_000
        await app.send("ping")
        await app.settle()
        assert len(told()) == 2, "once for each of the two steps"
        troubles = {each.step: each for each in app.engine.metering.overview().troubles}
        assert {each.reasons for each in troubles.values()} == {("chain",)}
        assert {name: each.generation for name, each in troubles.items()} == {"Ping": 2_999, "Pong": 3_000}
        app.clock.advance(10 * MINUTE_MS)
        assert app.engine.metering.overview().troubles == (), "it is over"
        left[0] = 1_000
        await app.send("ping")
        await app.settle()
        assert len(told()) == 4 - 1, "only one of them went so far again"


@pytest.mark.parametrize("delay", [1, "1s"])
async def test_a_delay_ends_a_chain(delay: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def ticks(left: int, ctx: Context) -> None:
        if left:
            await ctx.enqueue("tick", left - 1, delay=delay)
        assert "iii-generation" not in ctx.headers

    async with running(step(ticks, queue("tick"))) as app:
        await app.send("tick", 20)
        for _ in range(21):
            await app.pass_time(1_000)
        assert died(app, "tick.failed") == []


async def test_what_a_request_a_tick_or_a_caller_starts_begins_at_0() -> None:
    seen: dict[str, Any] = {}

    async def sends(data: Any, ctx: Context) -> None:
        await ctx.enqueue("work", ctx.trigger.type)

    async def works(by: str, ctx: Context) -> None:
        seen[by] = (ctx.headers.get("iii-hops"), ctx.headers.get("iii-generation"))

    steps = (
        step(sends, http("POST", "/"), cron("0 0 * * *"), queue("in"), name="Sends"),
        step(works, queue("work")),
    )
    async with running(*steps) as app:
        sent = [(b"iii-hops", b"99:1"), (b"iii-generation", b"99")]
        await app.engine.endpoint.answer(Request("POST", "/", b"", sent, b""))
        await app.engine.run_cron("Sends")
        await app.send("in")
        await app.send("work", "caller", headers=TRACE)
        await app.settle()
        assert seen == {
            "http": (None, None),
            "caller": (None, None),
            "cron": (None, "1"),
            "queue": (None, "1"),
        }


# ------------------------------------------------------------------------------- state triggers that loop


async def test_a_trigger_that_writes_what_starts_it_dies_as_a_loop_after_100_quick_hops() -> None:
    spinner = Spinner()
    async with running(step(spinner.fired, SPIN, name="Spin")) as app:
        await app.engine.state.set("spin", "n", 0)
        await app.settle()
        assert spinner.runs == 100
        (error,) = died(app)
        assert error.startswith("loop: 101")


async def test_a_loop_over_state_and_a_queue_dies_at_its_100th_state_hop() -> None:
    spinner = Spinner()
    relay = step(spinner.relayed, queue("relay"), name="Relay")
    async with running(step(spinner.relays, SPIN, name="Spin"), relay) as app:
        await app.engine.state.set("spin", "n", 0)
        await app.settle()
        assert spinner.runs == 100 and len(died(app)) == 1


@pytest.mark.parametrize("ms", [MINUTE_MS, MINUTE_MS - 1])
async def test_a_workflow_that_hops_once_a_minute_lives_and_a_quicker_one_does_not(ms: int) -> None:
    spinner = Spinner()

    async def waits(change: StateChange, ctx: Context) -> None:
        spinner.runs += 1
        await ctx.enqueue("relay", None, delay=ms)

    relay = step(spinner.relayed, queue("relay"), name="Relay")
    async with running(step(waits, SPIN, name="Spin"), relay) as app:
        await app.engine.state.set("spin", "n", 0)
        await app.settle()
        for _ in range(250):
            await app.pass_time(ms)
        if ms == MINUTE_MS:
            assert spinner.runs == 251 and died(app) == []
        else:
            assert spinner.runs == 100 and len(died(app)) == 1


async def test_a_snoozed_trigger_waits_its_minute_too() -> None:
    spinner = Spinner()
    snoozed: set[str] = set()

    async def snoozes(change: StateChange, ctx: Context) -> Any:
        if ctx.message_id not in snoozed:
            snoozed.add(ctx.message_id)
            return Snooze(MINUTE_MS)
        return await spinner.fired(change, ctx)

    async with running(step(snoozes, SPIN, name="Spin")) as app:
        await app.engine.state.set("spin", "n", 0)
        await app.settle()
        for _ in range(120):
            await app.pass_time(MINUTE_MS)
        assert spinner.runs == 120 and died(app) == []


@pytest.mark.parametrize("name", ["iii-hops", "iii-generation", "iii-depth", "traceparent"])
async def test_nobody_sets_the_counts_himself(name: str) -> None:
    refused: list[str] = []

    async def sends(data: Any, ctx: Context) -> None:
        for message in ({"topic": "work", "headers": {name: "100:1"}}, "work"):
            with pytest.raises(InputError, match=name) as error:
                await ctx.enqueue(message, headers=None if isinstance(message, dict) else {name: "100:1"})
            refused.append(str(error.value))

    async with running(step(sends, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert len(refused) == 2 and app.waiting("work") == []
        if name != "traceparent":
            with pytest.raises(InputError, match=name):
                await app.send("in", headers={name: "100:1"})


async def test_each_chain_counts_its_own_hops() -> None:
    seen: list[str] = []

    async def copies(change: StateChange, ctx: Context) -> None:
        seen.append(ctx.headers["iii-hops"].partition(":")[0])
        if change.namespace == "a":
            await ctx.state.set("b", change.key, change.value)

    async with running(step(copies, state())) as app:
        for number in range(300):
            await app.engine.state.set("a", "k", number)
        await app.settle()
        assert sorted(seen) == ["1"] * 300 + ["2"] * 300


# --------------------------------------------------------------------------------- redrive and dead letters


async def test_a_loop_that_is_redriven_runs_again_from_0() -> None:
    spinner = Spinner()
    async with running(step(spinner.fired, SPIN, name="Spin")) as app:
        await app.engine.state.set("spin", "n", 0)
        await app.settle()
        assert await app.engine.redrive("$state/Spin.failed") == 1
        await app.settle()
        assert spinner.runs == 201, "its own run, and a hundred hops"
        assert len(died(app)) == 1


async def test_a_letter_of_an_older_version_that_died_at_its_depth_runs_when_it_is_redriven() -> None:
    seen: list[Any] = []

    async def work(data: Any, ctx: Context) -> None:
        seen.append(dict(ctx.headers))
        if len(seen) == 1:
            raise ValueError("once")

    old = {**TRACE, "iii-depth": "101"}
    async with running(step(work, queue("in", config={"max_retries": 0}))) as app:
        await app.store.commit(Txn((Enqueue("in", b"1", headers=old),)))
        await app.settle()
        assert seen == [old], "what an older instance counts is not ours"
        await app.engine.redrive("in.failed")
        await app.settle()
        assert seen == [old, TRACE], "and one that runs it does not bury it again"


async def test_a_resent_message_begins_at_0() -> None:
    async def work(data: Any) -> None: ...

    async with running(step(work, queue("in"))) as app:
        await bulk.set_paused(app.store, "in", True)
        far = {**TRACE, "iii-hops": "50:1", "iii-generation": "500", "mine": "1"}
        await app.store.commit(Txn((Enqueue("in", b"1", headers=far),)))
        (message,) = app.waiting("in")
        await bulk.resend(app.store, message, b"2", Actor(), priority=None, delay_ms=0)
        (again,) = app.waiting("in")
        assert again.headers == {**TRACE, "mine": "1"}


async def test_who_hears_of_dead_letters_hears_of_a_loop_and_cannot_carry_it_on() -> None:
    spinner = Spinner()
    heard: list[str] = []

    async def alert(data: Any, ctx: Context) -> None:
        heard.append(ctx.headers["iii-hops"].partition(":")[0])
        await spinner.write(ctx)

    steps = step(spinner.fired, SPIN, name="Spin"), step(alert, queue("loops"), name="Alert")
    async with running(*steps, queues={"$state/Spin": QueueConfig(dead_letter_queue="loops")}) as app:
        await app.engine.state.set("spin", "n", 0)
        await app.settle()
        assert spinner.runs == 100 and heard == ["101"]
        assert [error.partition(",")[0] for error in died(app, "loops")] == [
            "loop: 101 state triggers fired each other",
            "loop: 102 state triggers fired each other",
            "loop: 102 state triggers fired each other",
        ]
