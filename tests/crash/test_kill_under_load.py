"""kill -9 at random moments under load: what was acknowledged is done, its effects in the store exactly once.

    POST /work -> first (a tenth fails once) -> second (a tenth delayed, in threads) -> state trigger
               -> ordered -> ordered.again    (one group per client)

III_KILLS: how often the engine is killed; III_SEED: the printed seed of a run that is to be repeated.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from crash_kit import Project, free_port, until, values

from iii.store.contract import Store

KILLS = int(os.environ.get("III_KILLS", "6"))
SEED = int(os.environ.get("III_SEED", random.randrange(1 << 32)))
CLIENTS = 8
LAST_ACCEPTED = 100

CONFIG = """
log: {level: error}
queues:
  first: {max_crashes: 1000, concurrency: 8}
  second: {max_crashes: 1000, concurrency: 4}
  ordered: {max_crashes: 1000}
  ordered.again: {max_crashes: 1000}
  $state/Notice: {max_crashes: 1000}
"""

LANES = [
    ("first", "First"),
    ("second", "Second"),
    ("ordered", "Order"),
    ("ordered.again", "Order"),
    ("$state/Notice", "Notice"),
]


class Ledger:
    """What became of each request, as its client knows it. Work is (client, number)."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.refused: dict[str, str] = {}
        self.unknown: list[str] = []


async def post_work(name: str, http: httpx.AsyncClient, ledger: Ledger, stop: asyncio.Event) -> None:
    """A client: its numbers in order, the next once the outcome of the last is known, or never will be."""
    number = 0
    while not stop.is_set():
        work = {"id": f"{name}-{number}", "client": name, "number": number}
        try:
            answer = await http.post("/work", json=work)
        except httpx.ConnectError:
            await asyncio.sleep(0.01)
            continue
        except httpx.HTTPError:
            ledger.unknown.append(f"{name}-{number}")
        else:
            if answer.is_success:
                ledger.accepted.append(f"{name}-{number}")
            else:
                ledger.refused[f"{name}-{number}"] = f"{answer.status_code} {answer.text}"
        number += 1


class Crew:
    """The engines of one project: the first serves HTTP, the hands beside it do not."""

    def __init__(self, project: Project, port: int, hands: int) -> None:
        self._project = project
        self._roles = [("--port", str(port)), *[("--no-http",)] * hands]
        self.engines = [project.start(*role) for role in self._roles]

    def kill(self, index: int) -> None:
        self.engines[index].kill()

    def replace(self, index: int) -> None:
        self.engines[index] = self._project.start(*self._roles[index])

    def check_alive(self) -> None:
        for engine in self.engines:
            assert engine.runs, f"an engine ended ({engine.process.returncode}) by itself:\n{engine.text}"

    async def accept(self, ledger: Ledger, more: int) -> None:
        """Until so many more requests are acknowledged."""
        goal = len(ledger.accepted) + more

        def reached() -> bool:
            self.check_alive()
            return len(ledger.accepted) >= goal

        await until(reached, f"{more} more requests acknowledged", lambda: self.engines[0].text)

    async def settle(self, store: Store) -> None:
        """Until nothing is left to run, and the state trigger has seen every record."""

        def settled() -> bool:
            self.check_alive()
            done = {lane.topic: lane.done for lane in store.stats()}
            work = dict(store.namespaces()).get("work", 0)
            return store.unsettled() == 0 and done.get("$state/Notice", 0) >= work

        await until(settled, "everything settled", lambda: (store.stats(), self.engines[0].text))

    async def stop(self) -> None:
        """SIGTERM: each drains and exits 0."""
        for engine in self.engines:
            engine.ask_to_stop()
        for engine in self.engines:
            assert await engine.died() == 0, engine.text


async def kill_again_and_again(project: Project, crew: Crew, ledger: Ledger, dice: random.Random) -> None:
    for kill in range(KILLS):
        more = (0, 1, dice.randint(2, 40), dice.randint(60, 250))[dice.randrange(4) if kill else 3]
        await crew.accept(ledger, more)
        await asyncio.sleep(dice.uniform(0, 0.02 if more else 0.6))  # the random moment; nothing is awaited
        crew.check_alive()
        victim = dice.randrange(len(crew.engines))
        crew.kill(victim)
        if kill % 2:
            async with project.store() as store:
                print(f"kill {kill} of engine {victim}: {store.unsettled()} messages not settled")
                assert store.verify() == []
        crew.replace(victim)


def effects_of(id: str) -> dict[str, int]:
    once = {"first": 1, "second": 1, "noticed": 1}
    return {"failed": 1, **once} if id.endswith("0") else once


def check_ledger(ledger: Ledger, work: dict[str, Any]) -> None:
    """Everything acknowledged is there, nothing refused is."""
    assert ledger.accepted, "nothing was acknowledged"
    assert set(ledger.accepted) - work.keys() == set()
    assert {id: why for id, why in ledger.refused.items() if id in work} == {}
    assert work.keys() - set(ledger.accepted) - set(ledger.unknown) == set()


def check_effects(store: Store) -> None:
    """What is there is there whole, and once; also what was never acknowledged."""
    work = values(store, "work")
    assert {id: record for id, record in work.items() if record != {"status": "done"}} == {}
    assert values(store, "effects") == {id: effects_of(id) for id in work}
    assert values(store, "totals") == {"first": len(work)}
    clients: dict[str, list[int]] = {}
    for client, number in (id.split("-") for id in work):
        clients.setdefault(client, []).append(int(number))
    in_order = {client: sorted(numbers) for client, numbers in clients.items()}
    assert values(store, "ordered") == in_order
    assert values(store, "ordered.again") == in_order
    lanes = {(lane.topic, lane.step): lane for lane in store.stats()}
    assert {name: lanes[name].done for name in LANES} == dict.fromkeys(LANES, len(work))
    failed = sum(id.endswith("0") for id in work)
    assert {name: lane.failed for name, lane in lanes.items() if lane.failed} == {("first", "First"): failed}
    assert [lane for lane in lanes.values() if lane.dead or lane.ready or lane.later or lane.leased] == []


@pytest.mark.parametrize("hands", [0, 2], ids=["one_engine", "three_engines"])
async def test_what_was_acknowledged_happens_once_however_often_engines_are_killed(
    make_project: Callable[[str, str], Project], hands: int
) -> None:
    print(f"III_SEED={SEED} III_KILLS={KILLS}")
    project, port, ledger, stop = make_project("load_steps", CONFIG), free_port(), Ledger(), asyncio.Event()
    crew = Crew(project, port, hands)
    limits = httpx.Limits(max_connections=CLIENTS)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as http:
        clients = [asyncio.create_task(post_work(f"c{n}", http, ledger, stop)) for n in range(CLIENTS)]
        try:
            await kill_again_and_again(project, crew, ledger, random.Random(SEED))
            await crew.accept(ledger, LAST_ACCEPTED)
        finally:
            stop.set()
            await asyncio.gather(*clients)
    crew.kill(0)  # once more, while it works off the rest
    crew.replace(0)
    await crew.engines[0].address()
    async with project.store() as store:
        await crew.settle(store)
        await crew.stop()
        work = values(store, "work")
        print(f"{len(work)} there: {len(ledger.accepted)} acknowledged, {len(ledger.unknown)} unknown")
        check_ledger(ledger, work)
        check_effects(store)
        assert store.verify() == []
    checked = project.check()
    assert checked.returncode == 0, checked.stderr
    assert {index: each.logged for index, each in enumerate(project.engines) if each.logged} == {}
