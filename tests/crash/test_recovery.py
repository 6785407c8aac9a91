"""What a death does to the messages of the dead: who runs again, who is blamed, who takes over.

Handlers stand at gates of the test's own (gated_steps), so that each death finds exactly what the test says.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import httpx
import orjson
import pytest
from crash_kit import EngineProcess, Project, until, values

from iii.model import ARCHIVE, Enqueue, Txn, Waiting
from iii.store.contract import Store
from iii.store.lmdb.roster import roster

CONFIG = """
http: {port: 0}
console: {port: 0}
log: {level: info}
shutdown_timeout: 60s
"""

IMPATIENT = CONFIG.replace("60s", "100ms")

MakeProject = Callable[[str, str], Project]


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    return make_project("gated_steps", CONFIG)


async def post(engine: EngineProcess, *names: str) -> None:
    """Accepted, all in one commit. The killer kills its process when its gate opens."""
    async with httpx.AsyncClient(base_url=await engine.address(), timeout=60, trust_env=False) as http:
        body = b"[%s]" % b",".join(map(payload, names))
        answer = await http.post("/gated", content=body, headers={"Content-Type": "application/json"})
        assert answer.is_success, answer.text


def payload(name: str) -> bytes:
    return orjson.dumps({"name": name, "kills": name == "killer"})


def named(message: Waiting) -> str:
    return str(orjson.loads(message.payload)["name"])


def crashes(store: Store) -> dict[str, int]:
    """Of every message that is not settled, by its name."""
    return {named(message): message.crashes for message in store.waiting("gated")}


async def settled(store: Store, engine: EngineProcess) -> None:
    await until(lambda: store.unsettled() == 0, "everything settled", lambda: (engine.text, store.stats()))


async def test_a_message_whose_engine_was_killed_runs_again_and_the_crash_is_no_attempt(
    project: Project,
) -> None:
    first = project.start()
    await post(first, "a")
    await project.started(first, "a")
    first.kill()
    second = project.start()
    await project.started(second, "a")
    async with project.store() as store:
        (again,) = store.waiting("gated")
        assert (again.state, again.attempts, again.crashes, again.error) == ("leased", 0, 1, None)
        project.open_gate("a")
        await settled(store, second)
        assert values(store, "effects") == {"a": 1}
        assert [start.attempt for start in project.starts()] == [1, 1]
        (lane,) = [lane for lane in store.stats() if lane.topic == "gated"]
        assert (lane.done, lane.failed, lane.dead) == (1, 0, 0)
        assert store.verify() == []


async def test_a_message_that_kills_its_worker_runs_four_times_and_the_ones_beside_it_do_not_die(
    project: Project,
) -> None:
    """Three slots. a and b run beside the killer's first two runs, and alone afterwards, as it does."""
    engine = project.start()
    await post(engine, "a", "b", "killer")
    await project.started(engine, "a", "b", "killer")
    project.open_gate("killer.1")
    assert await engine.died() == -signal.SIGKILL

    engine = project.start()
    await project.started(engine, "a", "b", "killer")  # all of them, at once and together
    await post(engine, "c", "d")
    async with project.store() as store:
        assert crashes(store) == {"a": 1, "b": 1, "killer": 1, "c": 0, "d": 0}
    project.open_gate("killer.2")
    assert await engine.died() == -signal.SIGKILL

    engine = project.start()
    await project.started(engine, "c", "d")
    await until(lambda: alone(project) == ["a"], "the first suspect runs alone", lambda: engine.text)
    async with project.store() as store:
        assert crashes(store) == {"a": 2, "b": 2, "killer": 2, "c": 0, "d": 0}
    listed = {row.pid: row.quarantine for row in roster(project.folder / "data")}
    assert listed.pop(engine.pid) is False and list(listed.values()) == [True]
    project.open_gate("a")
    await until(lambda: alone(project) == ["a", "b"], "the next one runs alone", lambda: engine.text)
    project.open_gate("b")
    project.open_gate("killer.3")
    project.open_gate("killer.4")
    project.open_gate("c")
    project.open_gate("d")
    async with project.store() as store:
        await settled(store, engine)
        assert alone(project) == ["a", "b", "killer", "killer"]
        assert values(store, "effects") == {"a": 1, "b": 1, "c": 1, "d": 1}
        (letter,) = store.waiting("gated.failed")
        assert (letter.step, named(letter)) == (ARCHIVE, "killer")
        assert letter.dead is not None
        assert letter.dead.error == "worker died: 4 times, 2 of them alone, while this message ran"
        assert letter.dead.attempts == 1
        (lane,) = [lane for lane in store.stats() if lane.topic == "gated"]
        assert (lane.done, lane.failed, lane.dead) == (4, 1, 1)
        assert store.verify() == []
    assert engine.runs, "its quarantine died in its place"
    engine.ask_to_stop()
    assert await engine.died() == 0, engine.text
    assert roster(project.folder / "data") == [], "the quarantine ends with it"


def alone(project: Project) -> list[str]:
    """What ran in a quarantine, in order."""
    engines = {engine.pid for engine in project.engines}
    return [start.name for start in project.starts() if start.pid not in engines]


async def test_a_message_that_was_leased_but_had_not_started_is_not_blamed(project: Project) -> None:
    """The handler granted first ends the process before the loop gets to the others."""
    project.open_gate("killer")
    engine = project.start()
    await engine.address()
    async with project.store() as store:
        await store.commit(Txn([Enqueue("gated", payload(name)) for name in ("killer", "a", "b")]))
        assert await engine.died() == -signal.SIGKILL
        assert [start.name for start in project.starts()] == ["killer"]
        left = {named(message): message.state for message in store.waiting("gated")}
        assert left == {"killer": "leased", "a": "leased", "b": "leased"}
    assert await project.start().died() == -signal.SIGKILL
    engine = project.start()
    await project.started(engine, "a", "b")
    async with project.store() as store:
        await until(lambda: store.waiting("gated.failed"), "a dead letter", lambda: engine.text)
        assert crashes(store) == {"a": 0, "b": 0}


async def test_the_messages_of_a_killed_engine_run_in_the_one_that_survives(project: Project) -> None:
    names = ("a", "b", "c")
    victim = project.start()
    await post(victim, *names)
    await project.started(victim, *names)
    heir = project.start()
    await heir.address()
    async with project.store() as store:
        assert len(store.sessions()) == 2
        for name in names:
            project.open_gate(f"{name}.2")
        killed_ns = time.monotonic_ns()
        victim.kill()
        await project.started(heir, *names)
        await settled(store, heir)
        after_ms = [(start.at_ns - killed_ns) / 1e6 for start in project.starts() if start.pid == heir.pid]
        print(f"taken over after {min(after_ms):.1f} ms, the last after {max(after_ms):.1f} ms")
        assert values(store, "effects") == {"a": 1, "b": 1, "c": 1}
        assert {start.attempt for start in project.starts()} == {1}
        assert len(store.sessions()) == 1
        assert store.verify() == []
    assert heir.runs


async def test_an_engine_without_http_takes_over_too(project: Project) -> None:
    victim, heir = project.start(), project.start("--no-http")
    address = await victim.address()
    await until(lambda: "no HTTP" in heir.text, "an engine without HTTP", lambda: heir.text)
    assert address not in heir.text
    async with project.store() as store:
        await until(lambda: len(store.sessions()) == 2, "two sessions")
        await post(victim, "a", "b", "c", "d", "e", "f")
        await until(lambda: len(project.starts()) == 6, "six starts in two engines", project.starts)
        assert {start.pid for start in project.starts()} == {victim.pid, heir.pid}
        for name in "abcdef":
            project.open_gate(name)
        victim.kill()
        await settled(store, heir)
        assert values(store, "effects") == dict.fromkeys("abcdef", 1)
        assert store.verify() == []


async def test_sigterm_lets_what_runs_finish_and_claims_nothing_more(project: Project) -> None:
    engine = project.start()
    await post(engine, "a", "b", "c", "d")
    await project.started(engine, "a", "b", "c")
    engine.ask_to_stop()
    await until(lambda: "Stopping" in engine.text, "the start of the drain", lambda: engine.text)
    for name in "abcd":
        project.open_gate(name)
    assert await engine.died() == 0, engine.text
    async with project.store() as store:
        assert values(store, "effects") == {"a": 1, "b": 1, "c": 1}
        assert [(named(left), left.state) for left in store.waiting("gated")] == [("d", "ready")]
        assert store.sessions() == []
        assert store.verify() == []


async def test_sigterm_gives_back_what_does_not_finish_without_counting_it(make_project: MakeProject) -> None:
    project = make_project("gated_steps", IMPATIENT)
    engine = project.start()
    await post(engine, "a", "b")
    await project.started(engine, "a", "b")
    engine.ask_to_stop()
    assert await engine.died() == 0, engine.text
    async with project.store() as store:
        left = {named(each): (each.state, each.attempts, each.crashes) for each in store.waiting("gated")}
        assert left == {"a": ("ready", 0, 0), "b": ("ready", 0, 0)}
        assert values(store, "effects") == {}
        assert store.verify() == []
        project.open_gate("a")
        project.open_gate("b")
        engine = project.start()
        await engine.address()
        await settled(store, engine)
        assert values(store, "effects") == {"a": 1, "b": 1}
    assert {start.attempt for start in project.starts()} == {1}
