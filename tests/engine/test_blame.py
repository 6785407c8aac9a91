"""A handler's own fault is not blamed on a client whose request happens to hold what is in it; and what is
blamed on a client is told to the operator too. test_doors.py has what is the client's."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from iii import Context, http
from iii.definitions.loader import make_step
from iii.observe.runs import runs
from iii.step import Step
from iii.testing import harness

LONG = "k" * 381
NAN = float("nan")

FAULTS = {
    "a topic with a blank": ("bad topic", lambda ctx, name: ctx.enqueue(name, 1)),
    "a topic with a slash": ("a/b/c/d", lambda ctx, name: ctx.enqueue(name, 1)),
    "a key over 380 bytes": (LONG, lambda ctx, name: ctx.state.set("n", name, 1)),
    "a key over 380 bytes, of umlauts": ("ü" * 191, lambda ctx, name: ctx.state.set("n", name, 1)),
    "a group over 380 bytes": ("g" * 381, lambda ctx, name: ctx.enqueue("in", 1, group=name)),
}
STRAY = (" ", "/", "d ", "a", "kk", "k" * 24, "k" * 150, "ü" * 3, "ggg", "topic")


def step(handler: Any) -> Step:
    return make_step({"name": "Use", "triggers": [http("POST", "/use/{id}")]}, handler)


@pytest.mark.parametrize(("name", "use"), FAULTS.values(), ids=FAULTS)
async def test_a_handlers_own_name_is_not_blamed_on_a_scrap_of_it_in_the_request(name: str, use: Any) -> None:
    async def handler(request: Any, ctx: Context) -> None:
        await use(ctx, name)

    async with harness([step(handler)]) as app:
        for text in STRAY:
            assert (await app.post(f"/use/7?q={quote(text)}")).status == 500, text
            assert (await app.post("/use/7", json={"q": text})).status == 500, text
            if text.isascii():
                assert (await app.post("/use/7", headers={"x": text})).status == 500, text


@pytest.mark.parametrize("own", [NAN, 1 << 64])
async def test_a_handlers_own_number_is_not_blamed_on_a_header(own: Any) -> None:
    async def handler(request: Any, ctx: Context) -> None:
        await ctx.state.set("n", "k", {"own": own})

    async with harness([step(handler)]) as app:
        assert (await app.post("/use/7", headers={"x": str(own), "cookie": f"x={own}"})).status == 500
        assert (await app.post(f"/use/7?q={own}")).status == 400


@pytest.mark.parametrize("where", ["x-tenant", "cookie"])
async def test_a_header_that_is_the_name_or_most_of_it_is_400(where: str) -> None:
    async def handler(request: Any, ctx: Context) -> None:
        text = request.headers["x-tenant"] if where == "x-tenant" else request.cookies["t"]
        await ctx.state.set("n", text if request.path_params["id"] == "7" else f"tenant-{text}", 1)

    async with harness([step(handler)]) as app:
        for path in ("/use/7", "/use/8"):
            value = LONG if where == "x-tenant" else f"t={LONG}"
            reply = await app.post(path, headers={where: value})
            field = "t" if where == "cookie" else "x-tenant"
            assert (reply.status, reply.json()["details"][0]["path"]) == (400, field)


async def test_what_is_blamed_on_a_client_is_logged_below_a_warning_and_leaves_the_record_of_a_failure() -> (
    None
):
    async def handler(request: Any, ctx: Context) -> None:
        await ctx.enqueue("bad topic", 1)

    async with harness([step(handler)]) as app:
        assert (await app.post("/use/7?q=bad+topic")).status == 400
        [line] = [each for each in app.logs if each.message.startswith("Request refused")]
        assert line.level == "info" and "bad topic" in line.message and line.fields["field"] == "q"
        await app.advance("2s")
        [run] = [each.run for each in runs(app.engine.store)]
        assert (run.outcome, run.status) == ("failed", 400)
        assert "bad topic" in run.error and "ctx.enqueue" in run.traceback
