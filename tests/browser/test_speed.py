"""The console when there is much of everything. Counted, not timed: what was measured is told at the end."""

from __future__ import annotations

from typing import Any

import pytest
from browser_project import KEYS, Figures, Open, Project
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE_OF_KEYS = 200
REQUESTS_MAX, BYTES_MAX = 26, 200_000
PER_S = 1_000
FLOW, FLOW_PART = 60_000, 6_000
PAGES = {
    "/": ("Overview", 20),
    "/runs": ("Runs", 50),
    "/logs": ("Logs", 50),
    "/queues": ("Queues", 1),
    "/state/flow": ("flow", 300),
    "/traces": ("Traces", 1),
}
"""What its heading is, and how many events are waited for."""
ANSWERS = 10
DRAWINGS_AN_ANSWER = 2  # of the page itself: the dialog that is typed into comes and goes
NODES_MAX = 6_000

FIRST_PAINT = """
    new MutationObserver((_, watch) => {
      if (!document.querySelector("main h1")) return;
      watch.disconnect();
      performance.mark("drawn");
    }).observe(document, {childList: true, subtree: true});
"""
LOADED = """() => ({
    painted_ms: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
    drawn_ms: performance.getEntriesByName("drawn")[0].startTime,
    requests: performance.getEntriesByType("resource").map((entry) => ({
        path: new URL(entry.name).href.replace(location.origin, ""),
        blocks: entry.renderBlockingStatus === "blocking",
        by: entry.initiatorType,
        at_ms: entry.startTime,
        bytes: entry.encodedBodySize,
    })),
})"""
COUNTING = """
    window.counted = {events: 0, frames: 0, drawings: 0};
    const listen = EventSource.prototype.addEventListener;
    EventSource.prototype.addEventListener = function (name, take) {
      listen.call(this, name, (event) => { counted.events += 1; take(event); });
    };
    const frame = () => { counted.frames += 1; requestAnimationFrame(frame); };
    frame();
    const typed = ({target}) => (target.closest ? target : target.parentNode)?.closest?.("dialog");
    new MutationObserver((records) => { counted.drawings += !records.every(typed); })
        .observe(document, {attributes: true, characterData: true, childList: true, subtree: true});
"""
COUNTED = "() => ({...counted, nodes: document.getElementsByTagName('*').length})"


async def test_the_first_page_is_drawn_from_few_requests_that_it_names_itself(
    project: Project, open_page: Open, figures: Figures
) -> None:
    page = await open_page("/", FIRST_PAINT)
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    loaded = await page.evaluate(LOADED)
    before: list[Any] = [each for each in loaded["requests"] if each["at_ms"] < loaded["drawn_ms"]]
    assert all(each["path"].startswith("/") for each in before)
    blocking = {each["path"] for each in before if each["blocks"]}
    assert blocking == {"/static/all.css", "/static/scheme.js"}
    found_late = {each["path"] for each in before if each["by"] == "script" and not each["blocks"]}
    assert found_late == {"/static/app.js"}
    assert len(before) <= REQUESTS_MAX
    assert sum(each["bytes"] for each in before) <= BYTES_MAX
    figures.append(
        f"console: first paint after {loaded['painted_ms']:.0f} ms, "
        f"the page itself after {loaded['drawn_ms']:.0f} ms"
    )


async def test_a_thousand_runs_a_second_leave_the_page_to_its_reader(
    large_project: Project, open_large: Open, figures: Figures
) -> None:
    """Each of them a run, a log line and a change of state, on every page that shows them as they come: the
    page draws once a frame at most, however many came, and no more than what is in sight."""
    page = await open_large("/", COUNTING)
    for first in range(0, FLOW, FLOW_PART):
        large_project.post("/flow", {"first": first, "messages": FLOW_PART, "per_s": PER_S})
    told = []
    for hash, (name, events_min) in PAGES.items():
        await page.goto(f"/#{hash}")
        await expect(page.get_by_role("heading", name=name, exact=True).first).to_be_visible()
        before = after = await page.evaluate(COUNTED)
        answered = 0
        while answered < ANSWERS or after["events"] < before["events"] + events_min:
            await answers(page)
            answered += 1
            after = await page.evaluate(COUNTED)
        events, frames, drawings = (after[each] - before[each] for each in ("events", "frames", "drawings"))
        assert drawings <= frames + DRAWINGS_AN_ANSWER * answered
        assert after["nodes"] <= NODES_MAX
        told.append(f"{name} {answered} answers, {events} events, {frames} frames")
    assert large_project.waiting("flow") > 0, "it flowed until the end"
    large_project.purge("flow")
    figures.append(f"console: at {PER_S} runs a second: {'; '.join(told)}")


async def answers(page: Page) -> None:
    """What is typed is taken and shown."""
    await page.keyboard.press("Control+k")
    found = page.get_by_role("dialog").get_by_role("combobox")
    await expect(found).to_be_focused()
    await page.keyboard.type("dead")
    await expect(page.get_by_role("option", name="Dead letters")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(found).to_have_count(0)


async def test_a_million_keys_are_paged_and_only_what_is_in_sight_is_drawn(
    large_project: Project, open_large: Open
) -> None:
    page = await open_large("/state")
    await expect(page.get_by_role("link", name="million")).to_contain_text("1M")
    await page.goto("/#/state/million")
    keys = page.get_by_role("list", name="Keys")
    foot = page.locator(".pane-foot")
    for loaded in range(PAGE_OF_KEYS, 11 * PAGE_OF_KEYS, PAGE_OF_KEYS):
        await expect(foot).to_have_text(f"{loaded:,} keys loaded, more below")
        await keys.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    await expect(foot).to_have_text(f"{11 * PAGE_OF_KEYS:,} keys loaded, more below")
    assert await keys.get_by_text("key-002000").count() == 1
    assert await keys.get_by_role("listitem").count() < PAGE_OF_KEYS

    search = page.get_by_role("searchbox", name="Keys that begin with")
    await search.fill("key-99999")
    await expect(foot).to_have_text("10 keys")
    await expect(keys.get_by_text(f"key-{KEYS - 1:06}")).to_be_visible()
    await search.fill("key-5")
    await expect(foot).to_have_text(f"{PAGE_OF_KEYS} keys loaded, more below")
    await expect(keys.get_by_text("key-500000")).to_be_visible()
    await search.fill("nobody")
    await expect(page.get_by_text("No key begins so")).to_be_visible()
