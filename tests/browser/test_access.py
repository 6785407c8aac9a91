"""The console by keyboard alone, on small screens, and for who hears it instead of seeing it."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from browser_project import Open, Project
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLACES = {
    "o": "Overview",
    "f": "Flow",
    "t": "Traces",
    "r": "Runs",
    "q": "Queues",
    "d": "Dead letters",
    "s": "State",
    "c": "Cron",
    "h": "HTTP",
    "p": "Steps",
    "l": "Logs",
    "i": "Instances",
    "k": "Config",
    "a": "Audit",
}
WITHOUT_SEARCH = {"Overview", "Flow", "State", "Cron", "Instances", "Audit"}


async def test_every_page_is_a_letter_away_and_its_search_a_slash(open_page: Open) -> None:
    page = await open_page("/config")
    for letter, name in PLACES.items():
        await page.keyboard.press("g")
        await page.keyboard.press(letter)
        await expect(page.get_by_role("heading", name=name, exact=True, level=1)).to_be_visible()
        if name not in WITHOUT_SEARCH:
            await page.keyboard.press("/")
            await expect(page.get_by_role("searchbox").first).to_be_focused()
            await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("Search this page")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_rows_are_walked_chosen_and_opened_by_keys(project: Project, open_page: Open) -> None:
    ids = [project.enqueue("nobody.takes.it", {"number": number}) for number in range(3)]
    page = await open_page("/queues/nobody.takes.it")
    await expect(page.get_by_role("row", name=ids[2])).to_be_visible()
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await expect(page.get_by_text("2 messages chosen")).to_be_visible()
    await page.keyboard.press("k")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=f"Message {ids[1]}")).to_be_visible()


async def test_a_dialog_holds_the_focus_and_gives_it_back(open_page: Open) -> None:
    page = await open_page("/queues")
    pause = page.get_by_role("button", name="Pause echo Echo")
    await pause.focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    for _ in range(6):
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.closest('main') === null")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(pause).to_be_focused()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 400), ("light", 1280)])
async def test_pages_are_legible_labelled_and_fit_the_screen(
    project: Project, open_page: Open, scheme: Literal["dark", "light"], width: int
) -> None:
    """What axe-core finds: contrast, names of controls, order of headings, roles; and nothing hangs out."""
    project.post("/messages", {"text": "to be looked at", "priority": "high"})
    id = project.enqueue("nobody.takes.it", {"number": 1})
    letter = project.enqueue("hostile", {"text": "a letter to look at"})
    project.write("access", scheme, {"value": 1})
    page = await open_page("/")
    await page.emulate_media(color_scheme=scheme)
    await page.set_viewport_size({"width": width, "height": 800})
    pages = [f"/{name}" for name in (
        "", "flow", "traces", "runs", "queues", "dead", "state", "cron", "http", "steps", "logs", "instances",
        "config", "audit", "queues/nobody.takes.it", f"messages/{id}", "queues/hostile.failed",
        f"messages/{letter}", "state/access", f"state/access/{scheme}", "steps/ProcessMessage",
        f"traces/{project.newest_trace()}",
    )]  # fmt: skip
    found: list[str] = []
    for hash in pages:
        await page.goto(f"/#{hash}")
        await expect(page.locator("main h1")).to_be_visible()
        await expect(page.locator(".skeleton")).to_have_count(0)
        found += [f"{hash}: {fault}" for fault in await faults(page)]
    assert found == []


async def faults(page: Page) -> list[str]:
    over = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    results = await Axe().run(page)
    return [
        *([f"hangs out by {over} px"] if over > 0 else []),
        *(
            f"{violation['id']}: {node['html'][:120]}"
            for violation in results.response["violations"]
            for node in violation["nodes"]
        ),
    ]
