"""What the writer may still grant: with claims and grants on their way past each other, never too much."""

from __future__ import annotations

from collections import deque

from claims_kit import A, B, grant, message
from hypothesis import given
from hypothesis import strategies as st

from iii.model import Lane, Message
from iii.store.lmdb.group import Claim
from iii.store.lmdb.parked import Parked

CAPACITY = {A: 5, B: 2}


class Worker:
    """The loop's side, that has room for CAPACITY, and both ways between it and the writer."""

    def __init__(self, standing: list[Lane]) -> None:
        self.standing, self.parked = standing, Parked()
        self.held = dict.fromkeys(CAPACITY, 0)
        self.seen = self.commit = 0
        self.to_writer: deque[Claim] = deque()
        self.to_loop: deque[list[Message]] = deque()

    def ask(self) -> None:
        free = {lane: CAPACITY[lane] - held for lane, held in self.held.items() if held < CAPACITY[lane]}
        self.to_writer.append(Claim(free, None, standing=self.standing, seen=self.seen))  # type: ignore[arg-type]

    def arrive(self) -> None:
        """The writer takes the claims that are there."""
        while self.to_writer:
            self.parked.park(self.to_writer.popleft())

    def grant(self, wanted: dict[Lane, int]) -> None:
        """A group with so many messages of each lane."""
        self.commit += 1
        if granted := grant(self.parked, self.commit, wanted):
            self.to_loop.append(granted)

    def hear(self) -> None:
        if self.to_loop:
            for each in self.to_loop.popleft():
                self.held[Lane(each.topic, each.step)] += 1
                self.seen = each.lease.token

    def finish(self, lane: Lane) -> None:
        self.held[lane] = max(0, self.held[lane] - 1)


counts = st.fixed_dictionaries({A: st.integers(0, 6), B: st.integers(0, 3)})
moves = st.one_of(
    st.sampled_from(["ask", "arrive", "hear"]).map(lambda name: (name,)),
    counts.map(lambda wanted: ("grant", wanted)),
    st.sampled_from([A, B]).map(lambda lane: ("finish", lane)),
)


@given(st.lists(moves, max_size=60), st.sampled_from([[], [A], [A, B]]))
def test_no_more_is_held_than_there_is_room_for(done: list[tuple], standing: list[Lane]) -> None:
    worker = Worker(standing)
    for name, *arguments in done:
        getattr(worker, name)(*arguments)
        on_the_way = dict.fromkeys(CAPACITY, 0)
        for each in (each for granted in worker.to_loop for each in granted):
            on_the_way[Lane(each.topic, each.step)] += 1
        assert all(worker.held[lane] + on_the_way[lane] <= CAPACITY[lane] for lane in CAPACITY)


def test_a_claim_that_stands_grants_on_and_one_that_does_not_ends() -> None:
    parked = Parked()
    parked.park(Claim({A: 3, B: 3}, None, standing=[A]))  # type: ignore[arg-type]
    parked.granted(1, [message(A, 1), message(B, 1)])
    assert parked.left == {A: 2}
    parked.granted(2, [message(A, 2), message(A, 2)])
    assert parked.claim is None
    parked.park(Claim({A: 3}, None, seen=1))  # type: ignore[arg-type]
    assert parked.left == {A: 1}, "what commit 2 granted is on its way"
    parked.granted(3, [message(A, 3)])
    assert parked.claim is None
