"""Both halves of a claim that stands, claims and grants passing each other: whoever waits is granted."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping

from claims_kit import A, B, grant
from hypothesis import given, settings
from hypothesis import strategies as st

from iii.clock import FakeClock
from iii.model import Lane, Lease, Message
from iii.store.lmdb.claims import Claims
from iii.store.lmdb.group import Claim
from iii.store.lmdb.parked import Parked

LANES = (A, B)


class World:
    """A worker that asks for anything at any time, and the writer."""

    def __init__(self) -> None:
        self.to_writer: deque[Claim] = deque()
        self.to_loop: deque[tuple[Claim, list[Message]]] = deque()
        self.back = 0
        self.claims = Claims(FakeClock(), self.to_writer.append, self.given_back)
        self.parked, self.commit = Parked(), 0
        self.asked: list[tuple[dict[Lane, int], asyncio.Future[list[Message]]]] = []

    def given_back(self, leases: list[Lease]) -> None:
        self.back += len(leases)

    def ask(self, demand: Mapping[Lane, int], standing: tuple[Lane, ...]) -> None:
        self.asked.append((dict(demand), self.claims.ask(demand, standing)))

    def arrive(self) -> None:
        while self.to_writer:
            claim = self.to_writer.popleft()
            if not claim.dropped:
                self.parked.park(claim)

    def grant(self, wanted: Mapping[Lane, int]) -> None:
        claim = self.parked.claim
        if claim is None or claim.dropped:
            return
        self.commit += 1
        if granted := grant(self.parked, self.commit, wanted):
            self.to_loop.append((claim, granted))

    def hear(self) -> None:
        if self.to_loop:
            self.claims.answer(*self.to_loop.popleft())

    async def settle(self) -> None:
        self.arrive()
        while self.to_loop:
            self.hear()
            await asyncio.sleep(0)


demands = st.dictionaries(st.sampled_from(LANES), st.integers(1, 5))
moves = st.one_of(
    st.tuples(st.just("ask"), demands, st.sampled_from([(), (A,), LANES])),
    st.tuples(st.just("arrive")),
    st.tuples(st.just("hear")),
    st.tuples(st.just("grant"), st.fixed_dictionaries({A: st.integers(0, 6), B: st.integers(0, 6)})),
)


@settings(max_examples=600)
@given(st.lists(moves, min_size=8, max_size=40))
def test_whoever_still_waits_is_granted_what_comes_and_nobody_gets_more_than_he_asked_for(
    done: list[tuple],
) -> None:
    async def run() -> None:
        world = World()
        for name, *arguments in done:
            getattr(world, name)(*arguments)
            await asyncio.sleep(0)
        await world.settle()
        for demand, answered in world.asked:
            if answered.done():
                got = Counter(Lane(each.topic, each.step) for each in answered.result())
                assert got <= Counter(demand)
        if world.asked and not world.asked[-1][1].done():
            demand, waiting = world.asked[-1]
            world.grant(dict.fromkeys(LANES, 9))
            await world.settle()
            assert waiting.done() and demand, "a claim that is never answered"
            assert len(waiting.result()) == sum(demand.values())

    asyncio.run(run())
