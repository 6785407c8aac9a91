"""The console in a real browser: what the pages show of real work, and what is done from them."""

from __future__ import annotations

import re

import pytest
from browser_project import Open, Project
from playwright.async_api import Locator, Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


async def confirm(page: Page, verb: str) -> None:
    await page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()


async def test_a_request_of_the_example_is_one_trace_of_five_steps(project: Project, open_page: Open) -> None:
    project.post("/messages", {"text": "hi", "priority": "high", "metadata": {"source": "a browser"}})
    page = await open_page("/traces")
    await page.get_by_role("link", name="POST /messages").first.click()
    told = page.get_by_role("list", name="What happened, in order").get_by_role("listitem")
    steps = [
        r"Received\s*POST /messages",
        r"Enqueued\s*message\.sent",
        r"Processed\s*ProcessMessage",
        r"State updated\s*messages",
        r"Reacted\s*NotifyCompletion\s*Notification sent",
    ]
    await expect(told.filter(has_text=re.compile("|".join(steps)))).to_have_text(
        [re.compile(step) for step in steps]
    )
    waterfall = page.get_by_role("region", name="Waterfall")
    for name in ("SendMessage", "ProcessMessage", "NotifyCompletion", "Notification sent"):
        await expect(waterfall.get_by_text(name, exact=True).first).to_be_visible()


async def test_what_failed_is_grouped_by_its_error_and_redriven_from_the_page(
    project: Project, open_page: Open
) -> None:
    for to in ("ann", "bob"):
        project.enqueue("mail", {"to": to})
    page = await open_page("/dead")
    group = page.get_by_role("listitem").filter(has_text="the mailbox is full")
    await expect(group.locator(".dead-count")).to_have_text("2")
    project.write("switches", "mail", True)

    await group.get_by_role("button", name="Redrive").click()
    await confirm(page, "Redrive 2")
    await expect(page.get_by_role("status").filter(has_text="2 messages redriven")).to_be_visible()
    await expect(group).to_have_count(0)
    await page.goto("/#/queues")
    await expect(row(page, "SendMail").locator("[data-label=Done]")).to_have_text("2")


async def test_a_queue_is_paused_and_resumed_from_the_page(project: Project, open_page: Open) -> None:
    page = await open_page("/queues")
    echo = row(page, "Echo")
    await echo.get_by_role("button", name="Pause echo Echo").click()
    await confirm(page, "Pause")
    await expect(echo.locator("[data-label=State]")).to_have_text("paused")

    id = project.enqueue("echo", {"text": "waits"})
    await expect(echo.locator("[data-label=Ready]")).to_have_text("1")
    await page.goto(f"/#/messages/{id}")
    await expect(page.locator("[data-why=paused]")).to_contain_text("Why it waits")

    await page.goto("/#/queues")
    await echo.get_by_role("button", name="Resume echo Echo").click()
    await confirm(page, "Resume")
    await expect(echo.locator("[data-label=Done]")).to_have_text("1")
    await expect(echo.locator("[data-label=Ready]")).to_have_text("0")


async def test_a_value_edited_on_the_page_starts_the_step_that_watches_it(
    project: Project, open_page: Open
) -> None:
    project.write("orders", "order-1", {"status": "new"})
    page = await open_page("/state/orders/order-1")
    await page.get_by_role("button", name="Edit", exact=True).click()
    field = page.get_by_role("textbox", name=re.compile("^Value, over version"))
    await field.fill('{"status": "sent"')
    await expect(page.get_by_role("button", name="Save")).to_be_disabled()
    await field.fill('{"status": "sent from the page"}')
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status").filter(has_text="orders/order-1 written")).to_be_visible()

    await page.get_by_role("button", name="History").click()
    await expect(page.locator(".diff-new")).to_contain_text("sent from the page")
    await page.goto("/#/logs?step=WatchOrder")
    await expect(page.get_by_text('{"status":"sent from the page"}')).to_be_visible()


async def test_hostile_texts_are_shown_as_text_on_every_page(project: Project, open_page: Open) -> None:
    project.enqueue("hostile", {"text": HOSTILE, HOSTILE: [HOSTILE]})
    page = await open_page("/dead")
    shown = page.locator("#main").get_by_text(HOSTILE)

    async def inert() -> None:
        await expect(shown.first).to_be_visible()
        assert await page.locator("img, #app script, [onerror]").count() == 0

    await inert()
    await (
        page.get_by_role("listitem").filter(has_text=HOSTILE).get_by_role("link", name="Look at one").click()
    )
    await expect(page.get_by_role("heading", name="Payload")).to_be_visible()
    await inert()
    for hash in ("/runs", "/logs", "/queues/hostile.failed", "/state/hostile", "/steps/Hostile"):
        await page.goto(f"/#{hash}")
        await inert()
    await page.goto("/#/state/hostile")
    await page.get_by_role("link").filter(has_text=HOSTILE).click()
    await expect(page.get_by_role("group", name="value")).to_contain_text(HOSTILE.replace('"', r"\""))
    await inert()
    await page.goto("/#/traces?outcome=dead")
    await page.get_by_role("link", name="hostile").first.click()
    await expect(page.get_by_role("region", name="Waterfall")).to_contain_text(HOSTILE)
    await inert()


async def test_two_browsers_see_the_same_run_as_it_ends(project: Project, open_page: Open) -> None:
    pages = [await open_page("/runs?step=Echo&outcome=done"), await open_page("/runs?step=Echo")]
    for page in pages:
        await expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    posted = [row(page, "POST /echo") for page in pages]
    for rows in posted:
        await expect(rows).to_have_count(0)
    project.post("/echo", {"text": "heard twice"})
    addresses = set()
    for rows in posted:
        await expect(rows).to_have_count(1)
        addresses.add(await rows.get_attribute("data-href"))
    assert len(addresses) == 1


async def test_what_one_browser_does_the_other_sees(project: Project, open_page: Open) -> None:
    mine, theirs = [await open_page("/queues") for _ in range(2)]
    await row(mine, "WatchOrder").get_by_role("button", name="Pause").click()
    await confirm(mine, "Pause")
    await expect(row(theirs, "WatchOrder").locator("[data-label=State]")).to_have_text("paused")
    await row(theirs, "WatchOrder").get_by_role("button", name="Resume").click()
    await confirm(theirs, "Resume")
    await expect(row(mine, "WatchOrder").locator("[data-label=State]")).to_have_text("idle")


async def test_of_two_edits_of_a_value_the_second_is_shown_the_first(
    project: Project, open_page: Open
) -> None:
    project.write("shared", "plan", {"of": "nobody"})
    mine, theirs = [await open_page("/state/shared/plan") for _ in range(2)]
    for page, whose in ((mine, "me"), (theirs, "them")):
        await page.get_by_role("button", name="Edit", exact=True).click()
        await page.get_by_role("textbox", name=re.compile("^Value, over version")).fill(
            f'{{"of": "{whose}"}}'
        )
    await mine.get_by_role("button", name="Save").click()
    await expect(theirs.get_by_text("while you were writing")).to_be_visible()
    await theirs.get_by_role("button", name="Save").click()
    asked = theirs.get_by_role("dialog", name="Somebody else was quicker")
    await expect(asked.get_by_role("group", name="their value")).to_contain_text("me")
    await asked.get_by_role("button", name="Write mine over it").click()
    await expect(mine.get_by_role("group", name="value")).to_contain_text("them")
