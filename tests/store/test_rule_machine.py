"""Any sequence of operations leads a store and the model to the same answers, refusals and tables.

Hypothesis drives a store under test and the memory store side by side, on clocks turned together: three
workers that open, take, settle, close and are killed, and a tool without a session. One worker at a time
keeps levels above 0: who of two gets a message is a race between processes, what one gets is not. After each
step what was delivered and all that can be read is compared, and both verify their tables. Over memory it
checks the machine itself.
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
from intents import LANES, Rest, Settle, demands, granted, intents, levels, policies, settlements, workers
from readable import readable, seen
from store_kit import MemoryKit, StoreKit, until
from store_kits import KITS
from worker import Inbox, inbox, take_now

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
    Return,
    Suspects,
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
        self.credited: int | None = None  # the worker with levels
        self.levels: dict[Lane, int] = {}  # of its lanes, those above 0
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
        txns = [
            Txn([op for each in wanted for op in self.ops(each, side, worker)], {"h": "t"}) for side in (0, 1)
        ]
        self.same(lambda world: world.store(worker).commit(txns[world is self.real]))
        self.hold_delivered()

    @rule(worker=workers, lanes=policies, suspects=granted)
    def open_session(self, worker: int, lanes: list[LanePolicy], suspects: Suspects = "one") -> None:
        if worker in self.model.workers:
            return

        async def act(world: World) -> int:
            store = world.workers[worker] = await world.kit.make()
            inbox(store)
            return await store.open_session(lanes, suspects)

        self.sessions[self.same(act)] = worker
        self.hold_delivered()

    @precondition(lambda self: self.model.workers)
    @rule(worker=workers, demand=demands)
    def take(self, worker: int, demand: dict[Lane, int]) -> None:
        worker = self.open_one(worker)
        self.hold(*self.both(lambda world: take_now(world.workers[worker], demand)))
        if worker == self.credited:
            self.note_levels(dict.fromkeys(demand, 0))

    @precondition(lambda self: self.model.workers)
    @rule(worker=workers, levels=levels)
    def credit(self, worker: int, levels: dict[Lane, int]) -> None:
        """Levels that stay, until others are set, the worker ends, or another one has levels."""
        worker = self.open_one(worker)
        if worker != self.credited:
            self.set_levels(dict.fromkeys(self.levels, 0))
        self.credited = worker
        self.set_levels(levels)

    @rule(worker=workers, lane=st.sampled_from(LANES), begun=st.lists(st.booleans(), min_size=1, max_size=4))
    def work(self, worker: int, lane: Lane, begun: list[bool]) -> None:
        """A worker is handed messages and begins some of them: there is something to lose when it dies."""
        self.open_session(worker, [LanePolicy(*lane)])
        enqueue = Txn([Enqueue(lane.topic, b"work", step=lane.step) for _ in begun])
        self.same(lambda world: world.tool.commit(enqueue))
        self.hold_delivered()
        held = len(self.held)
        self.take(worker, {lane: len(begun)})
        for number, begins in zip(range(held, len(self.held)), begun, strict=False):
            if begins:
                self.start(number)

    @rule(
        worker=workers,
        lane=st.sampled_from(LANES),
        level=st.integers(1, 3),
        endings=st.lists(settlements, min_size=1, max_size=5),
    )
    def serve(self, worker: int, lane: Lane, level: int, endings: list[Settle]) -> None:
        """A worker has a level and is brought one message after the other, as they end."""
        self.open_session(worker, [LanePolicy(*lane)])
        self.credit(worker, {lane: level})
        enqueue = Txn([Enqueue(lane.topic, b"serve", step=lane.step) for _ in endings])
        self.same(lambda world: world.tool.commit(enqueue))
        self.hold_delivered()
        for ending in endings:
            self.commit(worker, [ending])

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 9))
    def start(self, number: int) -> None:
        """A handler begins while its lease is live."""
        held = self.held[number % len(self.held)]
        worker = self.sessions.get(held.message.lease.session)
        if worker is not None and self.is_live(held):
            self.model.workers[worker].start(held.leases[0])
            self.real.workers[worker].start(held.leases[1])

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 9))
    def end(self, number: int) -> None:
        """A handler ends; what settles it comes later, or never."""
        held = self.held[number % len(self.held)]
        worker = self.sessions.get(held.message.lease.session)
        if worker is not None:
            self.model.workers[worker].end(held.leases[0])
            self.real.workers[worker].end(held.leases[1])

    @rule(
        lane=st.sampled_from(LANES),
        deaths=st.lists(granted, min_size=1, max_size=4),
        suspects=granted,
    )
    def die(self, lane: Lane, deaths: list[Suspects], suspects: Suspects) -> None:
        """One after the other a worker takes what there is, runs it, and dies; what follows is granted what a
        message with so many crashes may be."""
        enqueue = Txn([Enqueue(lane.topic, b"die", step=lane.step)])
        for death, kind in enumerate((*deaths, suspects)):
            for worker in tuple(self.model.workers):
                self.close(worker)
            self.open_session(0, [LanePolicy(*lane)], kind)
            self.same(lambda world: world.tool.commit(enqueue))
            held = len(self.held)
            self.take(0, {lane: 3})
            for number in range(held, len(self.held)):
                self.start(number)
            if death < len(deaths):
                self.kill(0)

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
        resting = {} if worker == self.credited else self.levels  # else what it commits and loses would race
        self.set_levels(dict.fromkeys(resting, 0))
        for_model, txn = (
            Txn([op for each in wanted for op in self.ops(each, side, worker)]) for side in (0, 1)
        )
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
        self.set_levels(resting)

    @precondition(lambda self: len(self.model.workers) > 1)
    @rule(worker=workers)
    def bury(self, worker: int) -> None:
        """A worker that stood still is taken for dead; with its next commit it goes on as a new session."""
        worker = self.open_one(worker)
        resting = {} if worker == self.credited else self.levels  # else what it loses and adopts would race
        self.set_levels(dict.fromkeys(resting, 0))
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
        self.hold_delivered()
        self.set_levels(resting)

    @rule()
    def stop_the_machine(self) -> None:
        """Everybody is killed at once, and the store opened anew."""

        async def act(world: World) -> None:
            await world.kit.kill_all()
            world.workers.clear()
            await world.open()

        self.same(act)
        self.credited, self.levels = None, {}
        self.sessions.clear()

    @rule(ms=st.sampled_from([1, 10, 50, 100, 200, 1000, 8 * 24 * 3600 * 1000, 31 * 24 * 3600 * 1000]))
    def advance(self, ms: int) -> None:
        """A commit by each store afterwards: what is due by now has been moved when it returns."""
        for world in (self.model, self.real):
            world.kit.clock.advance(ms)
        tick = self.model.tool.mark("tick")
        self.same(lambda world: world.tool.commit(Txn((Mark("tick", (tick or 0) + 1, tick),))))
        self.hold_delivered()

    # -- what the rules are made of

    def open_one(self, worker: int) -> int:
        """This worker where it is open, else another that is; there is one."""
        opened = sorted(self.model.workers)
        return worker if worker in opened else opened[worker % len(opened)]

    def forget(self, worker: int) -> None:
        """The worker is gone; whoever is left takes back what it held."""
        for world in (self.model, self.real):
            if world.workers:
                self.run(_recovered(world))
        self.sessions = {session: at for session, at in self.sessions.items() if at != worker}
        if worker == self.credited:
            self.credited, self.levels = None, {}
        self.hold_delivered()

    def is_live(self, held: Held) -> bool:
        """Whether the model knows this very lease: the last one on its message, and leased it is."""
        session, id, _ = held.message.lease
        last = [one for one in self.held if one.message.lease.id == id][-1]
        found, _ = self.model.tool.find(id)
        return last is held and found is not None and found.session == session

    def ops(self, wanted: Any, side: int, worker: int) -> list[Op]:
        """The ops an intent stands for in the model (0) or the store under test (1)."""
        if isinstance(wanted, Settle):
            return self.settlement(wanted, side, worker)
        if isinstance(wanted, Rest):
            return self.rearranged(wanted)
        return [wanted]

    def settlement(self, wanted: Settle, side: int, worker: int) -> list[Op]:
        """A process settles what its own session leases; what a session that is gone has leased is lost."""
        if not self.held:
            return []
        message, leases = self.held[-1 - wanted.held % len(self.held)]
        lease = leases[side]
        if self.sessions.get(lease.session, worker) != worker:
            return []
        match wanted.kind:
            case "ack" | "fail":
                return [Ack(lease, failed=wanted.kind == "fail")]
            case "retry":
                return [Retry(lease, wanted.delay_ms, "error")]
            case "release":
                return [Release(lease, wanted.delay_ms)]
            case "return":
                return [Return(lease)]
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
        """Two lanes have no order among each other."""
        expected, found = sorted(expected, key=_lane), sorted(found, key=_lane)
        assert list(map(seen, found)) == list(map(seen, expected))
        for model, real in zip(expected, found, strict=True):
            self.held.append(Held(model, (model.lease, real.lease)))

    def set_levels(self, levels: dict[Lane, int]) -> None:
        """Of the worker that has some. What they let come is there when both stores have said so."""
        worker = self.credited
        if worker is None:
            return
        self.same(lambda world: _credited(world.workers[worker], levels))
        self.note_levels(levels)
        model, real = self.inboxes(worker)
        self.hold(model.take(), real.take())

    def note_levels(self, levels: dict[Lane, int]) -> None:
        self.levels = {lane: level for lane, level in {**self.levels, **levels}.items() if level}

    def hold_delivered(self) -> None:
        """What the model delivered, the store under test delivers in a moment, and no more."""
        worker = self.credited
        if worker is None:
            return
        model, real = self.inboxes(worker)
        self.run(_credited(self.model.workers[worker], {}))
        expected = model.take()
        self.run(until(lambda: len(real) >= len(expected), "what is granted is delivered"))
        self.run(_credited(self.real.workers[worker], {}))
        self.hold(expected, real.take())

    def inboxes(self, worker: int) -> tuple[Inbox, Inbox]:
        return inbox(self.model.workers[worker]), inbox(self.real.workers[worker])

    @invariant()
    def both_show_the_same(self) -> None:
        assert self.run(readable(self.real.tool)) == self.run(readable(self.model.tool))
        assert not any(inbox(store) for world in (self.model, self.real) for store in world.workers.values())

    @invariant()
    def every_table_is_in_order(self) -> None:
        assert self.model.tool.verify() == []
        assert self.real.tool.verify() == []

    def teardown(self) -> None:
        for world in (self.model, self.real):
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


async def _credited(store: Store, levels: dict[Lane, int]) -> None:
    await store.credit(levels)


def _lane(message: Message) -> Lane:
    return Lane(message.topic, message.step)


@pytest.mark.parametrize("name", KITS)
def test_a_store_does_what_the_model_does(name: str) -> None:
    machine = type("Machine", (StoreMachine,), {"kit": KITS[name]})
    run_state_machine_as_test(machine, settings=SETTINGS)
