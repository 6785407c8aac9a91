"""Queues and messages as the console shows and changes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from console_kit import Console, serving, step, until

from iii import Snooze, queue
from iii.clock import FakeClock
from iii.config import QueueConfig
from iii.model import Discard, Enqueue, Txn
from iii.store import bulk, search
from iii.store.audit import Actor, audits
from iii.store.memory import MemoryStore
from iii.store.search import Wanted

QUEUES = {"mail": QueueConfig(max_retries=0), "again": QueueConfig(retry_delay_ms=3_600_000, max_retries=2)}


class Post:
    """Steps that do as the message says: fail, run until `gate` opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.mended = False
        self.seen: list[Any] = []

    async def handle(self, mail: Any) -> object:
        if isinstance(mail, dict) and mail.get("wait"):
            self.started.set()
            await self.gate.wait()
        if isinstance(mail, dict) and mail.get("fail") and not self.mended:
            raise ValueError(mail["fail"])
        if mail == "snooze":
            return Snooze(3_600_000)
        self.seen.append(mail)
        return None


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
async def console(tmp_path: Path, post: Post) -> AsyncIterator[Console]:
    one = QueueConfig(concurrency=1)
    steps = [
        step(post.handle, queue("mail"), name="Mail"),
        step(post.handle, queue("again"), name="Again"),
        step(post.handle, queue("single", config=one), name="Single"),
        step(post.handle, queue("capped", config=QueueConfig(max_in_flight=1)), name="Capped"),
    ]
    async with serving(tmp_path, *steps, queues=QUEUES) as console:
        yield console
        post.gate.set()


async def send(console: Console, topic: str, data: object = None, **more: Any) -> str:
    ids = (await console.post("/api/enqueue", {"topic": topic, "data": data, **more}))["ids"]
    return str(ids[0])


async def settle(console: Console) -> None:
    await console.engine.idle(20, due_only=True)


async def why(console: Console, id: str) -> tuple[str, str]:
    reason = (await console.get(f"/api/messages/{id}"))["why"]
    return reason["code"], reason["text"]


async def row(console: Console, topic: str) -> dict[str, Any]:
    """Of the lane with a step, or the only one."""
    rows = (await console.get("/api/queues"))["queues"]
    found = [row for row in rows if row["topic"] == topic]
    assert len(found) == 1, rows
    return dict(found[0])


# --------------------------------------------------------------------------------------- why it waits


async def test_why_a_message_waits_is_exact(console: Console, post: Post) -> None:
    await send(console, "single", {"wait": True}, group="g")
    await post.started.wait()
    behind = await send(console, "single", 2, group="g")
    busy = await send(console, "single", 3)
    delayed = await send(console, "single", 4, delay="1h")
    [running] = (await console.get("/api/queues/single/messages", state="leased"))["messages"]
    assert (await why(console, running["id"]))[0] == "running"
    assert "running on instance pid" in (await why(console, running["id"]))[1]
    code, text = await why(console, behind)
    assert code == "group" and f"message {running['id']} is before it" in text and "running" in text
    code, text = await why(console, busy)
    assert code == "busy" and "1 of 1" in text
    code, text = await why(console, delayed)
    assert code == "delay" and "due in 59m" in text
    await console.post("/api/queues/pause", {"topic": "single"})
    assert (await why(console, busy))[0] == "paused"
    assert "its queue is paused" in (await why(console, delayed))[1]


async def test_a_retry_a_limit_no_step_and_a_death_are_told_apart(console: Console, post: Post) -> None:
    retried = await send(console, "again", {"fail": "no such host"})
    await until(lambda: _is_later(console, retried))
    code, text = await why(console, retried)
    assert code == "retry" and text.startswith("1 attempt failed, the next one is due in")
    await send(console, "capped", {"wait": True})
    await post.started.wait()
    code, text = await why(console, await send(console, "capped", 2))
    assert (code, text) == ("limit", "max_in_flight is 1, and as many are running")
    code, text = await why(console, await send(console, "nobody", 1))
    assert code == "no_step" and "queue trigger on nobody" in text
    dead = await send(console, "mail", {"fail": "broke"})
    await until(lambda: _is_dead(console, dead))
    code, text = await why(console, dead)
    assert code == "dead" and "it died in mail of Mail after 1 attempt" in text


async def test_a_dead_letter_tells_when_it_was_enqueued_and_when_it_died(tmp_path: Path) -> None:
    clock = FakeClock()
    post = Post()
    rules = {"mail": QueueConfig(max_retries=0)}
    async with serving(
        tmp_path, step(post.handle, queue("mail"), name="Mail"), queues=rules, clock=clock
    ) as console:
        enqueued_ms = clock.wall_ms()
        id = await send(console, "mail", {"fail": "broke"}, delay="1h")
        clock.advance(3_600_000)
        await until(lambda: _is_dead(console, id))
        letter = await console.get(f"/api/messages/{id}")
        assert (letter["enqueued_ms"], letter["dead"]["at_ms"]) == (enqueued_ms, clock.wall_ms())


async def _is_later(console: Console, id: str) -> bool:
    return (await console.get(f"/api/messages/{id}"))["state"] == "later"


async def _is_dead(console: Console, id: str) -> bool:
    answer = await console.http.get(f"/api/messages/{id}")
    return answer.status_code == 200 and answer.json()["state"] == "dead"


async def test_a_snoozed_message_was_delayed_and_did_not_fail(console: Console) -> None:
    id = await send(console, "mail", "snooze")
    await until(lambda: _is_later(console, id))
    assert (await why(console, id))[0] == "delay"


# ------------------------------------------------------------------------------------ browse and search


async def test_pages_go_on_where_the_last_one_ended(console: Console) -> None:
    await console.post("/api/queues/pause", {"topic": "mail"})
    ids = [await send(console, "mail", {"n": n}) for n in range(7)]
    seen: list[str] = []
    after = ""
    while True:
        page = await console.get("/api/queues/mail/messages", limit=3, after=after)
        assert len(page["messages"]) <= 3 and page["total"] == 7
        seen += [message["id"] for message in page["messages"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == ids
    error = await console.refused(400, "GET", "/api/queues/mail/messages?after=nonsense")
    assert "cursor" in error["message"]


async def test_messages_are_found_by_text_and_by_field(console: Console) -> None:
    await console.post("/api/queues/pause", {"topic": "mail"})
    ann = await send(console, "mail", {"to": {"name": "Änn"}, "n": 5, "tags": ["a", "b"]})
    bob = await send(console, "mail", {"to": {"name": "bob"}, "n": "5"})

    async def found(**query: Any) -> list[str]:
        answer = await console.get("/api/queues/mail/messages", **query)
        assert answer["total"] is None and answer["scanned"] == 2
        return [message["id"] for message in answer["messages"]]

    assert await found(q="BOB") == [bob] and await found(q="änn") == [ann]
    assert await found(q=ann) == [ann] and await found(q="nothing") == []
    assert await found(field="to.name", value="bob") == [bob]
    assert await found(field="n", value="5") == [ann, bob] and await found(field="n", value="6") == []
    assert await found(field="tags.1", value="b") == [ann] and await found(field="to") == [ann, bob]


async def test_a_search_looks_at_a_bounded_number_of_messages_and_says_so() -> None:
    store = MemoryStore()
    await store.open()
    await store.commit(Txn([Enqueue("jobs", b'{"n":%d}' % n) for n in range(300)]))
    where = search.places(store, "jobs")
    first = await search.search(store, where, Wanted(field="n", value="250"), scan_max=200)
    assert (first.messages, first.scanned) == ([], 200) and first.next is not None
    rest = await search.search(store, where, Wanted(field="n", value="250"), after=first.next, scan_max=200)
    assert [message.payload for message in rest.messages] == [b'{"n":250}'] and rest.next is None
    await store.close()


async def test_a_search_lets_others_go_on() -> None:
    store = MemoryStore()
    await store.open()
    await store.commit(Txn([Enqueue("jobs", b"1") for _ in range(1_000)]))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await search.search(store, search.places(store, "jobs"), Wanted(q="nothing"))
    other.cancel()
    assert turns >= 1_000 // search.PAGE
    await store.close()


async def test_numbers_keep_their_digits_and_integers_beyond_64_bits_are_refused(console: Console) -> None:
    await console.post("/api/queues/pause", {"topic": "mail"})
    digits = "9007199254740993"
    answer = await console.http.post(
        "/api/enqueue",
        content=f'{{"topic": "mail", "data": {{"n": {digits}, "x": 0.1000}}}}',
        headers={"content-type": "application/json"},
    )
    [id] = answer.json()["ids"]
    text = (await console.http.get(f"/api/messages/{id}")).text
    assert f'"payload":{{"n":{digits},"x":0.1000}}' in text
    too_big = {"topic": "mail", "data": {"n": [2**64]}}
    assert (await console.refused(400, "POST", "/api/enqueue", too_big))["field"] == "data.n.0"


async def test_a_message_that_is_done_is_not_in_the_store(console: Console) -> None:
    id = await send(console, "mail", 1)
    await settle(console)
    assert "done ones leave it" in (await console.refused(404, "GET", f"/api/messages/{id}"))["message"]
    await console.refused(404, "GET", "/api/messages/x")


# ------------------------------------------------------------------------------------------------ acts


async def test_a_paused_queue_waits_until_it_is_resumed(console: Console, post: Post) -> None:
    assert await console.post("/api/queues/pause", {"topic": "mail", "step": "Mail"}) == {"changed": 1}
    await send(console, "mail", "hello")
    paused = await row(console, "mail")
    assert (paused["paused"], paused["ready"]) == (True, 1) and post.seen == []
    await console.post("/api/queues/resume", {"topic": "mail"})
    await settle(console)
    assert post.seen == ["hello"]
    assert [what for what, _ in await console.audit()] == ["pause", "enqueue", "resume"]
    await console.refused(400, "POST", "/api/queues/pause", {"topic": "nothing"})


async def test_dead_letters_are_grouped_by_error_and_redriven_by_it(console: Console, post: Post) -> None:
    ids = [await send(console, "mail", {"fail": error}) for error in ("a", "b", "a")]
    await until(lambda: _is_dead(console, ids[-1]))
    groups = (await console.get("/api/dead"))["groups"]
    assert [(each["topic"], each["step"], each["error"], each["count"]) for each in groups] == [
        ("mail.failed", "Mail", "ValueError: a", 2),
        ("mail.failed", "Mail", "ValueError: b", 1),
    ]
    assert groups[0]["sample_id"] in (ids[0], ids[2])
    which = {"topic": "mail.failed", "step": "Mail", "filter": {"error": "ValueError: a"}}
    post.mended = True
    assert await console.post("/api/queues/redrive", {**which, "dry_run": True}) == {"count": 2}
    assert post.seen == []
    assert await console.post("/api/queues/redrive", which) == {"count": 2}
    await settle(console)
    assert post.seen == [{"fail": "a"}, {"fail": "a"}]
    assert await console.post("/api/queues/discard", {**which, "dry_run": True}) == {"count": 0}
    rest = {"topic": "mail.failed", "step": "Mail", "filter": {"error": "ValueError: b"}}
    assert await console.post("/api/queues/discard", rest) == {"count": 1}
    assert (await console.get("/api/dead"))["groups"] == []
    told = [(what, detail) for what, detail in await console.audit() if what != "enqueue"]
    assert [(what, detail["count"]) for what, detail in told] == [("redrive", 2), ("discard", 1)]
    assert told[0][1]["filter"] == {"error": "ValueError: a"}


async def test_messages_are_discarded_by_id_by_filter_or_all(console: Console) -> None:
    await console.post("/api/queues/pause", {"topic": "mail"})
    ids = [await send(console, "mail", {"n": n % 2}, group="g") for n in range(6)]
    assert await console.post("/api/queues/discard", {"topic": "mail", "ids": [ids[1], "999999"]}) == {
        "count": 1
    }
    odd = {"topic": "mail", "filter": {"field": "n", "value": "1"}}
    assert await console.post("/api/queues/discard", {**odd, "dry_run": True}) == {"count": 2}
    assert await console.post("/api/queues/discard", odd) == {"count": 2}
    assert await console.post("/api/queues/purge", {"topic": "mail", "dry_run": True}) == {"count": 3}
    assert await console.post("/api/queues/purge", {"topic": "mail"}) == {"count": 3}
    assert (await row(console, "mail"))["ready"] == 0


async def test_a_message_is_edited_and_sent_again_in_one_commit(console: Console, post: Post) -> None:
    id = await send(console, "mail", {"fail": "typo"})
    await until(lambda: _is_dead(console, id))
    trace = (await console.get(f"/api/messages/{id}"))["trace_id"]
    sent = await console.post(f"/api/messages/{id}/resend", {"payload": "mended", "priority": "high"})
    await settle(console)
    assert post.seen == ["mended"] and sent["id"] != id
    assert (await console.get("/api/dead"))["groups"] == []
    runs = (await console.get("/api/runs", trace=trace))["runs"]
    assert {run["message_id"] for run in runs} == {id, sent["id"]}
    await console.refused(404, "POST", f"/api/messages/{id}/resend", {"payload": 1})


async def test_what_runs_is_not_sent_again(console: Console, post: Post) -> None:
    id = await send(console, "mail", {"wait": True})
    await post.started.wait()
    await console.refused(409, "POST", f"/api/messages/{id}/resend", {"payload": 1})
    assert await console.post("/api/queues/discard", {"topic": "mail", "ids": [id]}) == {"count": 0}


async def test_a_change_and_its_audit_row_are_one_commit() -> None:
    """Where the row cannot be written, nothing is."""
    store = MemoryStore()
    await store.open()
    await store.commit(Txn([Enqueue("jobs", b"1") for _ in range(3)]))
    txns: list[Txn] = []
    submit = store.submit
    store.submit = lambda txn: (txns.append(txn), submit(txn))[1]  # type: ignore[method-assign]
    await bulk.discard(store, bulk.select(store, "jobs"), Actor("console 1"), topic="jobs")
    await bulk.set_paused(store, "jobs", True, Actor("cli ann"))
    kinds = [[type(op).__name__ for op in txn.ops] for txn in txns]
    assert kinds == [["Discard", "Discard", "Discard", "Record"], ["Pause", "Record"]]
    assert [(row.entry.who, row.entry.what) for row in audits(store)] == [
        ("cli ann", "pause"),
        ("console 1", "discard"),
    ]
    await store.close()


async def test_a_bulk_act_leaves_what_moved_meanwhile() -> None:

    store = MemoryStore()
    await store.open()
    ids = (await store.commit(Txn([Enqueue("jobs", b"1") for _ in range(5)]))).ids
    gone = store.waiting("jobs")[2]
    submit, calls = store.submit, 0

    def submit_late(txn: Txn) -> Any:
        """Another process takes a message just before the first Txn lands."""
        nonlocal calls
        calls += 1
        if calls == 1:
            submit(Txn((Discard("jobs", "", "ready", gone.priority, gone.id),)))
        return submit(txn)

    store.submit = submit_late  # type: ignore[method-assign]
    assert await bulk.discard(store, bulk.select(store, "jobs"), Actor(), topic="jobs") == 4
    assert sum(row.entry.detail["count"] for row in audits(store)) == 4
    assert len(ids) == 5 and store.waiting("jobs") == []
    await store.close()


async def test_a_purge_is_ahead_of_what_comes_due_meanwhile() -> None:
    """2,000 messages due one after the other, four of them with each commit: the others go with few."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.open()
    await store.commit(Txn([Enqueue("jobs", b"1", delay_ms=ms) for ms in range(1, 2_001)]))
    submit, commits = store.submit, 0

    def submit_late(txn: Txn) -> Any:
        nonlocal commits
        commits += 1
        clock.advance(4)
        return submit(txn)

    store.submit = submit_late  # type: ignore[method-assign]
    assert await bulk.discard(store, bulk.select(store, "jobs"), Actor(), topic="jobs") == 2_000
    assert commits < 50
    await store.close()
