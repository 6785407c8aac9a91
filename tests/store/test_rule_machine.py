"""Any sequence of operations leads a store and the model to the same answers, refusals and tables.

Hypothesis drives a store under test and the memory store side by side, on clocks turned together: three
workers that open, claim, settle, close and are killed, and a tool without a session. After each step all
that can be read is compared, and both verify their tables. Over memory it checks the machine itself.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from intents import LANES, Rest, Settle, demands, intents, policies, workers
from readable import readable, seen
from store_kit import MemoryKit, StoreKit, until
from store_kits import KITS

from iii.errors import Refusal
from iii.model import (
    ARCHIVE,
    Ack,
    DeadLetter,
    Discard,
    Enqueue,
    Hold,
    Lane,
    LanePolicy,
    Lease,
    Mark,
    Message,
    Op,
    Release,
    Retry,
    Txn,
)
from iii.store.contract import Store

T = TypeVar("T")
SETTINGS = settings(
    max_examples=30,
    stateful_step_count=30,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Held(NamedTuple):
    """A lease in both worlds, live or lost."""

    message: Message
    leases: tuple[Lease, Lease]


class World:
    """One side: a kit, a tool that stays open, and the workers that are open now."""

    def __init__(self, kit: StoreKit) -> None:
        self.kit = kit
        self.workers: dict[int, Store] = {}
        self.tool: Store
        self.parked: asyncio.Task[list[Message]] | None = None

    async def open(self) -> None:
        self.tool = await self.kit.make()

    def store(self, worker: int) -> Store:
        return self.workers.get(worker, self.tool)


class StoreMachine(RuleBasedStateMachine):
    kit: Callable[[Path], StoreKit] = MemoryKit

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="iii-machine-"))
        self.loop = asyncio.new_event_loop()
        (self.folder / "store").mkdir()
        self.model = World(MemoryKit(self.folder))
        self.real = World(type(self).kit(self.folder / "store"))
        self.held: list[Held] = []
        self.sessions: dict[int, int] = {}  # of the workers that are open
        self.parked_by: int | None = None
        self.run(self.model.open())
        self.run(self.real.open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def both(self, act: Callable[[World], Coroutine[Any, Any, T]]) -> tuple[Any, Any]:
        """The outcome in the model and in the store under test: a result, or the type of the refusal."""
        return self.run(_outcome(act(self.model))), self.run(_outcome(act(self.real)))

    def same(self, act: Callable[[World], Coroutine[Any, Any, T]]) -> Any:
        expected, found = self.both(act)
        assert found == expected
        return expected

    # -- rules

    @rule(worker=workers, wanted=st.lists(intents, min_size=1, max_size=4))
    def commit(self, worker: int, wanted: list[Any]) -> None:
        txns = [Txn([op for each in wanted for op in self.ops(each, side)], {"h": "t"}) for side in (0, 1)]
        self.same(lambda world: world.store(worker).commit(txns[world is self.real]))
        self.answer_parked()

    @rule(worker=workers, lanes=policies)
    def open_session(self, worker: int, lanes: list[LanePolicy]) -> None:
        if worker in self.model.workers:
            return

        async def act(world: World) -> int:
            world.workers[worker] = await world.kit.make()
            return await world.workers[worker].open_session(lanes)

        self.sessions[self.same(act)] = worker
        self.answer_parked()

    @precondition(lambda self: self.model.workers)
    @rule(worker=workers, demand=demands)
    def claim(self, worker: int, demand: dict[Lane, int]) -> None:
        if worker not in self.model.workers or worker == self.parked_by:
            return
        self.hold(*self.both(lambda world: world.workers[worker].claim(demand, 0)))

    @precondition(lambda self: self.model.workers and self.parked_by is None)
    @rule(worker=workers, demand=demands)
    def park(self, worker: int, demand: dict[Lane, int]) -> None:
        if worker not in self.model.workers:
            return
        self.parked_by = worker
        for world in (self.model, self.real):
            world.parked = self.loop.create_task(world.workers[worker].claim(demand, None))
            self.run(asyncio.sleep(0))
        self.answer_parked()

    @rule(worker=workers, lane=st.sampled_from(LANES), begun=st.lists(st.booleans(), min_size=1, max_size=4))
    def work(self, worker: int, lane: Lane, begun: list[bool]) -> None:
        """A worker is handed messages and begins some of them: there is something to lose when it dies."""
        if worker == self.parked_by:
            return
        self.open_session(worker, [LanePolicy(*lane)])
        enqueue = Txn([Enqueue(lane.topic, b"work", step=lane.step) for _ in begun])
        self.same(lambda world: world.tool.commit(enqueue))
        self.answer_parked()
        held = len(self.held)
        self.claim(worker, {lane: len(begun)})
        for number, begins in zip(range(held, len(self.held)), begun, strict=False):
            if begins:
                self.start(number)

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 9))
    def start(self, number: int) -> None:
        held = self.held[number % len(self.held)]
        worker = self.sessions.get(held.message.lease.session)
        if worker is not None:
            self.model.workers[worker].start(held.leases[0])
            self.real.workers[worker].start(held.leases[1])

    @precondition(lambda self: self.model.workers)
    @rule(worker=workers)
    def close(self, worker: int) -> None:
        if worker not in self.model.workers:
            return

        async def act(world: World) -> None:
            await world.kit.close(world.workers.pop(worker))

        self.same(act)
        self.forget(worker)

    @precondition(lambda self: self.model.workers)
    @rule(worker=workers)
    def kill(self, worker: int) -> None:
        if worker not in self.model.workers:
            return

        async def act(world: World) -> None:
            await world.kit.kill(world.workers.pop(worker))

        self.same(act)
        self.forget(worker)

    @precondition(lambda self: self.model.workers)
    @rule(worker=workers, wanted=st.lists(intents, min_size=1, max_size=3), hears=st.booleans())
    def kill_committing(self, worker: int, wanted: list[Any], hears: bool) -> None:
        """Killed before its commit landed, or right after: what the store says of it the model does too."""
        if worker not in self.model.workers:
            return
        for_model, txn = (Txn([op for each in wanted for op in self.ops(each, side)]) for side in (0, 1))
        real = self.real.workers.pop(worker)
        if hears:
            self.run(_outcome(real.commit(txn)))
            self.run(self.real.kit.kill(real))
        landed = hears or self.run(self.real.kit.kill_committing(real, txn))
        model = self.model.workers.pop(worker)
        if landed:
            self.run(self.model.kit.kill_committing(model, for_model))
        else:
            self.run(self.model.kit.kill(model))
        self.forget(worker)

    @precondition(lambda self: len(self.model.workers) > 1)
    @rule(worker=workers)
    def bury(self, worker: int) -> None:
        """A worker that stood still is taken for dead; with its next commit it goes on as a new session."""
        if worker not in self.model.workers:
            return
        peer = min(self.model.workers.keys() - {worker})
        tick = self.model.tool.mark("tick")

        async def act(world: World) -> int:
            store = world.workers[worker]
            session = store.session
            await world.kit.bury(store, world.workers[peer])
            await store.commit(Txn((Mark("tick", (tick or 0) + 1, tick),)))
            await until(lambda: store.session not in (0, session), "the buried goes on")
            await until(lambda: len(world.tool.sessions()) == len(world.workers), "it is on record")
            return store.session

        self.sessions = {session: at for session, at in self.sessions.items() if at != worker}
        self.sessions[self.same(act)] = worker
        self.answer_parked()

    @rule()
    def stop_the_machine(self) -> None:
        """Everybody is killed at once, and the store opened anew."""

        async def act(world: World) -> None:
            await world.kit.kill_all()
            world.workers.clear()
            await world.open()

        self.same(act)
        for worker in set(self.sessions.values()):
            self.end_parked(worker)
        self.sessions.clear()

    @rule(ms=st.sampled_from([1, 10, 50, 100, 200, 1000, 8 * 24 * 3600 * 1000, 31 * 24 * 3600 * 1000]))
    def advance(self, ms: int) -> None:
        """A commit by each store afterwards: what is due by now has been moved when it returns."""
        for world in (self.model, self.real):
            world.kit.clock.advance(ms)
        tick = self.model.tool.mark("tick")
        self.same(lambda world: world.tool.commit(Txn((Mark("tick", (tick or 0) + 1, tick),))))
        self.answer_parked()

    # -- what the rules are made of

    def forget(self, worker: int) -> None:
        """The worker is gone; whoever is left takes back what it held."""
        for world in (self.model, self.real):
            if world.workers:
                self.run(_recovered(world))
        self.sessions = {session: at for session, at in self.sessions.items() if at != worker}
        self.end_parked(worker)
        self.answer_parked()

    def ops(self, wanted: Any, side: int) -> list[Op]:
        """The ops an intent stands for in the model (0) or the store under test (1)."""
        if isinstance(wanted, Settle):
            return self.settlement(wanted, side)
        if isinstance(wanted, Rest):
            return self.rearranged(wanted)
        return [wanted]

    def settlement(self, wanted: Settle, side: int) -> list[Op]:
        if not self.held:
            return []
        message, leases = self.held[-1 - wanted.held % len(self.held)]
        lease = leases[side]
        match wanted.kind:
            case "ack" | "fail":
                return [Ack(lease, failed=wanted.kind == "fail")]
            case "retry":
                return [Retry(lease, wanted.delay_ms, "error")]
            case "release":
                return [Release(lease, wanted.delay_ms)]
            case "hold":
                return [Hold(lease)]
        dead = DeadLetter(message.topic, message.step, "died", message.attempt, 1, message.enqueued_ms)
        topic = message.topic if message.dead else f"{message.topic}.failed"
        letter = Enqueue(topic, message.payload, message.priority, step=ARCHIVE, id=lease.id, dead=dead)
        return [Ack(lease, failed=True), letter]

    def rearranged(self, wanted: Rest) -> list[Op]:
        resting = [one for one in self.model.tool.waiting(wanted.topic) if one.state != "leased"]
        letters = [one for one in resting if one.dead and one.step == ARCHIVE]
        chosen = letters if wanted.kind == "redrive" else resting
        if not chosen:
            return []
        one = chosen[wanted.number % len(chosen)]
        discard = Discard(one.topic, one.step, one.state, one.priority, one.id, one.due_ms or 0)
        if wanted.kind == "discard" or one.dead is None:
            return [discard]
        return [discard, Enqueue(one.dead.topic, one.payload, step=one.dead.step, id=one.id)]

    def hold(self, expected: list[Message], found: list[Message]) -> None:
        assert list(map(seen, found)) == list(map(seen, expected))
        for model, real in zip(expected, found, strict=True):
            self.held.append(Held(model, (model.lease, real.lease)))

    def answer_parked(self) -> None:
        """Where the model answered the parked claim, the store under test does the same in a moment."""
        expected, found = self.model.parked, self.real.parked
        if expected is None or found is None:
            return
        self.run(asyncio.sleep(0))
        if expected.done():
            self.run(until(found.done, "the parked claim is answered"))
            self.hold(expected.result(), found.result())
            self.model.parked = self.real.parked = self.parked_by = None

    def end_parked(self, worker: int) -> None:
        if self.parked_by == worker:
            for world in (self.model, self.real):
                assert world.parked is not None
                world.parked.cancel()
                self.run(_ended(world.parked))
                world.parked = None
            self.parked_by = None

    @invariant()
    def both_show_the_same(self) -> None:
        assert self.run(readable(self.real.tool)) == self.run(readable(self.model.tool))
        if self.real.parked is not None:
            assert not self.real.parked.done()

    @invariant()
    def every_table_is_in_order(self) -> None:
        assert self.model.tool.verify() == []
        assert self.real.tool.verify() == []

    def teardown(self) -> None:
        for world in (self.model, self.real):
            if world.parked is not None:
                world.parked.cancel()
                self.run(_ended(world.parked))
            self.run(world.kit.close_all())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)


async def _outcome(work: Coroutine[Any, Any, T]) -> T | type[Refusal]:
    try:
        return await work
    except Refusal as refusal:
        return type(refusal)


async def _recovered(world: World) -> None:
    await until(lambda: len(world.tool.sessions()) == len(world.workers), "the dead are recovered")


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("name", KITS)
def test_a_store_does_what_the_model_does(name: str) -> None:
    machine = type("Machine", (StoreMachine,), {"kit": KITS[name]})
    run_state_machine_as_test(machine, settings=SETTINGS)
