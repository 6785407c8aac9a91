"""The other pages' data: overview, flow, steps, traces, state, crons, routes, logs; and what is told live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from console_kit import Console, send_message, serving, step, until

from iii import Context, cron, http, queue, state
from iii.config import ConsoleConfig, LogConfig, QueueConfig, StoreConfig, TracesConfig
from iii.errors import ChangesHeld
from iii.model import Mark, Put, Txn
from iii.observe.log_file import LogFile
from iii.observe.logs import JsonFormatter, log
from iii.observe.runs import Run, record

STEPS = Path(__file__).parents[2] / "steps"
OTHER_RUN = record(Run("Other", "queue", "1", 1, 0, 1.0, "done", "f" * 32))


async def test_a_request_from_the_builder_runs_and_its_trace_is_whole(example: Console) -> None:
    answer = await send_message(example)
    assert answer["status"] == 200 and '"enqueued"' in answer["body"] and answer["ms"] > 0
    trace = await until(lambda: _trace(example, answer["trace_id"], 3), "three runs")
    ran = [span for span in trace["spans"] if not span["live"]]
    spans = {span["step"]: span for span in ran}
    assert [span["kind"] for span in ran] == ["http", "queue", "state"]
    [waits] = [span for span in trace["spans"] if span["live"]]
    assert (waits["topic"], waits["outcome"], waits["parent"]) == (
        "message.processed",
        "waiting",
        spans["ProcessMessage"]["id"],
    )
    sent, processed, notified = (spans[n] for n in ("SendMessage", "ProcessMessage", "NotifyCompletion"))
    assert (sent["parent"], sent["label"], sent["status"]) == (None, "POST /messages", 200)
    assert processed["parent"] == sent["id"] and notified["parent"] == processed["id"]
    assert [each["topic"] for each in sent["enqueued"]] == ["message.sent"]
    assert {each["namespace"] for each in processed["changes"]} == {"messages"}
    assert all(span["logs"] for span in ran)
    [listed] = (await example.get("/api/traces"))["traces"]
    assert (listed["root"], listed["runs"], listed["outcome"]) == ("POST /messages", 3, "done")
    assert listed["steps"] == ["SendMessage", "ProcessMessage", "NotifyCompletion"]
    assert ("request", "POST") in [(what, detail.get("method")) for what, detail in await example.audit()]


async def _trace(console: Console, id: str, runs: int) -> Any:
    trace = await console.get(f"/api/traces/{id}")
    return trace if len([span for span in trace["spans"] if not span["live"]]) >= runs else None


async def test_a_trace_shows_what_runs_and_waits(tmp_path: Path) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    async def work(mail: object) -> None:
        started.set()
        await gate.wait()

    one = QueueConfig(concurrency=1)
    async with serving(tmp_path, step(work, queue("mail", config=one), name="Mail")) as console:
        [first] = (await console.post("/api/enqueue", {"topic": "mail"}))["ids"]
        [second] = (await console.post("/api/enqueue", {"topic": "mail"}))["ids"]
        await started.wait()
        outcomes = []
        for id in (first, second):
            message = await console.get(f"/api/messages/{id}")
            [span] = (await console.get(f"/api/traces/{message['trace_id']}"))["spans"]
            assert span["live"] and span["duration_ms"] is None and span["message_id"] == id
            outcomes.append(span["outcome"])
        assert outcomes == ["running", "waiting"]
        gate.set()


async def test_traces_are_paged_and_found(tmp_path: Path) -> None:
    async def work(mail: int) -> None:
        if mail == 3:
            raise ValueError("three")

    queues = {"mail": QueueConfig(max_retries=0)}
    async with serving(tmp_path, step(work, queue("mail"), name="Mail"), queues=queues) as console:
        for n in range(5):
            await console.post("/api/enqueue", {"topic": "mail", "data": n})
        await console.engine.idle(20, due_only=True)
        seen: list[str] = []
        before = ""
        while True:
            page = await console.get("/api/traces", limit=2, before=before)
            seen += [trace["trace_id"] for trace in page["traces"]]
            if page["next"] is None:
                break
            before = page["next"]
        assert len(seen) == len(set(seen)) == 5
        [dead] = (await console.get("/api/traces", outcome="dead"))["traces"]
        assert (dead["failed"], dead["root"]) == (1, "mail")
        assert (await console.get("/api/traces", q="nothing"))["traces"] == []
        [run] = (await console.get("/api/runs", outcome="dead", q="three"))["runs"]
        assert run["error"] == "ValueError: three" and run["step"] == "Mail"
        kept = (await console.get("/api/runs", limit=1))["kept"]
        assert kept["failed"] == 1 and kept["others"] > 0
        await console.refused(400, "GET", "/api/traces?before=x")


async def test_a_trace_whose_runs_lie_far_apart_is_one_row(tmp_path: Path) -> None:
    async def first(n: int, ctx: Any) -> None:
        await ctx.enqueue("second", n)

    async def second(n: int) -> None: ...

    one = step(first, queue("first"), name="First")
    async with serving(tmp_path, one, step(second, queue("second"), name="Second")) as console:
        await console.post("/api/queues/pause", {"topic": "second"})
        for n in range(6):
            await console.post("/api/enqueue", {"topic": "first", "data": n})
        await console.engine.idle(20, due_only=True)
        await console.post("/api/queues/resume", {"topic": "second"})
        await console.engine.idle(20)
        seen: list[str] = []
        page = await console.get("/api/traces", limit=2)
        while page["traces"]:
            seen += [trace["trace_id"] for trace in page["traces"]]
            if page["next"] is None:
                break
            page = await console.get("/api/traces", limit=2, before=page["next"])
        assert len(seen) == len(set(seen)) == 6


async def test_the_overview_says_which_state_triggers_were_forgotten(tmp_path: Path) -> None:
    async def work(mail: object) -> None: ...

    async with serving(tmp_path, step(work, queue("mail"), name="Mail")) as console:
        store = console.engine.store
        marks = {"forgotten/Audit/0": store.clock.wall_ms(), "forgotten/Back/0": 0, "forgotten/Old/0": 1}
        await store.commit(Txn([Mark(name, at, None) for name, at in marks.items()]))
        problems = (await console.get("/api/overview"))["problems"]
        assert [each["title"] for each in problems] == ["The state trigger of Audit misses changes"]


async def test_the_overview_says_which_state_trigger_holds_the_change_log(tmp_path: Path) -> None:
    async def audit(change: object) -> None: ...

    watching = step(audit, state(namespace="ns"), name="Audit")
    store = StoreConfig(tmp_path / "data", changes_bytes_max=1 << 20)
    queues = {"$state/Audit": QueueConfig(max_depth=1)}
    async with serving(tmp_path, watching, store=store, queues=queues) as console:
        await console.post("/api/queues/pause", {"topic": "$state/Audit"})
        for severity in ("warning", "error"):
            with suppress(ChangesHeld):
                for number in range(32 if severity == "warning" else 100):
                    put = Put("ns", f"{severity}-{number}", bytes(64 << 10))
                    await console.engine.store.commit(Txn([put]))
            problems = (await console.get("/api/overview"))["problems"]
            assert [each["severity"] for each in problems if each["kind"] == "changes_held"] == [severity]


async def test_the_overview_says_how_it_is_and_what_is_wrong(tmp_path: Path) -> None:
    async def fail(mail: object) -> None:
        raise ValueError("broke")

    queues = {"mail": QueueConfig(max_retries=0)}
    async with serving(tmp_path, step(fail, queue("mail"), name="Mail"), queues=queues) as console:
        before = await console.get("/api/overview")
        assert before["problems"] == [] and before["store"]["file_bytes"] > 0
        assert 0 < before["store"]["map_used"] < 1 and before["history"]["step_ms"] == 5_000
        await console.post("/api/enqueue", {"topic": "mail"})
        await console.engine.idle(20, due_only=True)
        await console.post("/api/queues/pause", {"topic": "mail"})
        after = await until(lambda: _with_problems(console, 2), "two problems")
        assert [problem["kind"] for problem in after["problems"]] == ["dead", "paused"]
        assert after["problems"][0]["severity"] == "error" and after["problems"][0]["href"] == "#/dead"
        assert (after["totals"]["dead"], after["totals"]["paused_queues"]) == (1, 1)


async def test_a_chain_without_delays_is_shown_as_one_that_may_be_a_loop(tmp_path: Path) -> None:
    async def chunk(left: int, ctx: Context) -> None:
        if left:
            await ctx.enqueue("chunk", left - 1)

    async with serving(tmp_path, step(chunk, queue("chunk"), name="Chunk")) as console:
        await console.post("/api/enqueue", {"topic": "chunk", "data": 1_200})
        await console.engine.idle(60, due_only=True)
        overview = await console.get("/api/overview")
        (problem,) = overview["problems"]
        assert (problem["severity"], problem["kind"]) == ("warning", "chain")
        assert "1,200" in problem["detail"]
        rows = (await until(lambda: _far(console), "the badge"))["queues"]
        assert [row["generation"] for row in rows if row["topic"] == "chunk"] == [1_200]
        (shown,) = (await console.get("/api/steps"))["steps"]
        assert shown["stats"]["generation"] == 1_200


async def _far(console: Console) -> Any:
    queues = await console.get("/api/queues")
    return queues if any(row["generation"] == 1_200 for row in queues["queues"]) else None


async def _with_problems(console: Console, count: int) -> Any:
    overview = await console.get("/api/overview")
    return overview if len(overview["problems"]) == count and overview["totals"]["paused_queues"] else None


async def test_the_flow_leads_from_routes_to_state_triggers(example: Console) -> None:
    await send_message(example)
    await until(lambda: _fires(example), "a state trigger is led to")
    flow = await example.get("/api/flow")
    kinds = {node["kind"] for node in flow["nodes"]}
    assert kinds == {"route", "step", "topic", "state", "cron"}
    edges = {(edge["from"], edge["to"], edge["kind"]) for edge in flow["edges"]}
    assert {
        ("route:POST /messages", "step:SendMessage", "triggers"),
        ("step:SendMessage", "topic:message.sent", "enqueues"),
        ("topic:message.sent", "step:ProcessMessage", "triggers"),
        ("state:messages", "step:NotifyCompletion", "triggers"),
        ("step:ProcessMessage", "state:messages", "fires"),
    } <= edges
    nodes = {node["id"] for node in flow["nodes"]}
    assert {end for start, end, _ in edges} | {start for start, _, _ in edges} <= nodes


async def _fires(console: Console) -> bool:
    return any(edge["kind"] == "fires" for edge in (await console.get("/api/flow"))["edges"])


async def test_a_step_shows_its_source_and_its_runs(example: Console) -> None:
    await send_message(example)
    await until(lambda: _recent(example), "its run is recorded")
    shown = await example.get("/api/steps/ProcessMessage")
    assert "async def handler" in shown["source"]
    assert shown["triggers"] == [{"type": "queue", "text": "message.sent"}]
    assert shown["stats"]["done"] == 1 and shown["recent_runs"][0]["outcome"] == "done"
    assert shown["config"]["queues"]["message.sent"]["max_retries"] == 3
    names = [step["name"] for step in (await example.get("/api/steps"))["steps"]]
    assert "SendMessage" in names
    await example.refused(404, "GET", "/api/steps/Nobody")


async def _recent(console: Console) -> bool:
    return bool((await console.get("/api/steps/ProcessMessage"))["recent_runs"])


# ----------------------------------------------------------------------------------------------- state


async def test_a_state_value_is_edited_with_a_version_check_and_triggers_see_it(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def watch(change: Any) -> None:
        seen.append((change.type, change.value))

    async with serving(tmp_path, step(watch, state_trigger("a"), name="Watch")) as console:
        path = "/api/state/a/k%2Fhistory"
        first = told_put(await console.http.put(path, json={"value": {"n": 1}, "if_version": 0}))
        refused = await console.http.put(path, json={"value": 2, "if_version": 0})
        assert refused.status_code == 409
        assert refused.json()["current"]["value"] == {"n": 1}
        assert refused.json()["current"]["version"] == first["version"]
        told_put(await console.http.put(path, json={"value": 2, "if_version": first["version"]}))
        assert (await console.get(path))["value"] == 2
        [entry] = (await console.get("/api/state/a"))["entries"]
        assert (entry["key"], entry["preview"]) == ("k/history", "2")
        changes = (await console.get(f"{path}/history"))["changes"]
        assert [(each["type"], each["old"], each["new"]) for each in changes] == [
            ("updated", {"n": 1}, 2),
            ("created", None, {"n": 1}),
        ]
        assert (await console.http.delete(f"{path}?if_version=1")).status_code == 409
        assert (await console.http.delete(path)).json() == {"deleted": True}
        await console.engine.idle(20)
        assert seen == [("created", {"n": 1}), ("updated", 2), ("deleted", None)]
        told = [what for what, _ in await console.audit()]
        assert told == ["state set", "state set", "state delete"], "what was refused is not in it"
        await console.refused(404, "GET", path)
        await console.refused(400, "PUT", "/api/state/$own/k", {"value": 1})
        await console.refused(400, "PUT", "/api/state/a/k", {})


def state_trigger(namespace: str) -> dict[str, Any]:
    return state(namespace=namespace)


def told_put(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_state_digits_stay_as_they_were_typed(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        typed = '{"value": {"n": 9007199254740993, "x": 1.50}}'
        headers = {"content-type": "application/json"}
        answer = await console.http.put("/api/state/a/b", content=typed, headers=headers)
        assert answer.status_code == 200
        assert '"value":{"n":9007199254740993,"x":1.50}' in (await console.http.get("/api/state/a/b")).text


async def test_keys_are_paged_by_prefix(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        for n in range(5):
            await console.engine.state.set("a", f"k{n}", n)
        await console.engine.state.set("a", "other", 1)
        page = await console.get("/api/state/a", prefix="k", limit=3)
        assert [entry["key"] for entry in page["entries"]] == ["k0", "k1", "k2"] and page["next"] == "k2"
        rest = await console.get("/api/state/a", prefix="k", limit=3, after=page["next"])
        assert [entry["key"] for entry in rest["entries"]] == ["k3", "k4"] and rest["next"] is None
        assert (await console.get("/api/state"))["namespaces"] == [{"name": "a", "keys": 6}]


# --------------------------------------------------------------------- crons, routes, instances, config


async def test_a_cron_is_run_now_and_paused(tmp_path: Path) -> None:
    ran: list[bool] = []

    async def clean(tick: Any) -> None:
        ran.append(tick.manual)

    async with serving(tmp_path, step(clean, cron("0 0 2 * * * *"), name="Clean")) as console:
        [shown] = (await console.get("/api/cron"))["crons"]
        assert shown["words"] == "every day at 02:00 UTC" and len(shown["next_ms"]) == 5
        assert (await console.post("/api/cron/Clean/run"))["ids"]
        await console.engine.idle(20, due_only=True)
        assert ran == [True]
        for _ in range(3):  # since then much else ran
            await console.engine.store.commit(Txn([OTHER_RUN] * 1_000))
        [shown] = (await console.get("/api/cron"))["crons"]
        assert [run["outcome"] for run in shown["last_runs"]] == ["done"]
        assert await console.post("/api/cron/Clean/pause") == {"changed": 1}
        await until(lambda: _is_paused(console), "it is shown as paused")
        assert await console.post("/api/cron/Clean/resume") == {"changed": 1}
        assert "Clean" in (await console.refused(404, "POST", "/api/cron/Nobody/run"))["message"]
        assert [what for what, _ in await console.audit()] == ["cron run", "pause", "resume"]


async def _is_paused(console: Console) -> bool:
    return bool((await console.get("/api/cron"))["crons"][0]["paused"])


async def test_routes_come_with_schemas_and_an_example(example: Console) -> None:
    answer = await example.get("/api/routes")
    [route] = answer["routes"]
    assert (route["method"], route["path"], route["step"]) == ("POST", "/messages", "SendMessage")
    assert set(route["example"]["body"]) >= {"text", "priority"}
    assert answer["base_url"] == example.engine.report().address
    for asked in ({"method": "NO", "path": "/"}, {"method": "GET", "path": "http://x/"}, {"method": "GET"}):
        await example.refused(400, "POST", "/api/request", asked)


async def test_a_streamed_answer_is_shown_by_its_beginning(tmp_path: Path) -> None:
    async def endless(request: object) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65_536

        return {"status": 200, "body": chunks()}

    async with serving(tmp_path, step(endless, http("GET", "/endless"), name="Endless")) as console:
        answer = await console.post("/api/request", {"method": "GET", "path": "/endless"})
        assert answer["status"] == 200 and (1 << 20) < len(answer["body"]) < (2 << 20)


async def test_the_instances_and_the_configuration_without_its_secrets(tmp_path: Path) -> None:
    guarded = ConsoleConfig(port=0, token="a-long-random-text")
    traces = TracesConfig("http://127.0.0.1:1/v1/traces", {"x-team": "a-key-of-the-collector"})
    async with serving(tmp_path, console=guarded, token="a-long-random-text", traces=traces) as console:
        [instance] = (await console.get("/api/instances"))["instances"]
        assert instance["here"] and instance["health"] == "ready" and instance["rss"] > 0
        answer = await console.http.get("/api/config")
        assert "a-long-random-text" not in answer.text and "a-key-of-the-collector" not in answer.text
        effective = answer.json()["effective"]
        assert effective["console"]["token"] == "•••" and effective["http"]["port"] == 0
        assert effective["traces"]["headers"] == {"x-team": "•••"}
        assert effective["http"]["max_body"] == "1MiB" and effective["store"]["type"] == "lmdb"


async def test_log_lines_are_found_and_metrics_are_readable(tmp_path: Path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    (tmp_path / "data").mkdir(mode=0o700)
    handler = LogFile(tmp_path / "data", 1 << 20)
    handler.setFormatter(JsonFormatter())
    level = log.level
    log.addHandler(handler)
    log.setLevel("INFO")
    try:
        async with serving(tmp_path, log=LogConfig()) as console:
            log.warning("about %s", "<b>this</b>")
            log.info("and that")
            lines = (await console.get("/api/logs", level="warning"))["lines"]
            assert [line["message"] for line in lines] == ["about <b>this</b>"] and lines[0]["at_ms"] > 0
            assert [line["message"] for line in (await console.get("/api/logs", q="THAT"))["lines"]] == [
                "and that"
            ]
            text = (await console.http.get("/metrics")).text
            assert "iii_store_file_bytes" in {each.name for each in text_string_to_metric_families(text)}
            assert await console.get("/health") == {"status": "ok"}
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
