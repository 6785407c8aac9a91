"""What else is done from the pages: act on what fits, edit and send again, run a cron, ask a route."""

from __future__ import annotations

import re

import pytest
from browser_project import Open, Project
from playwright.async_api import Locator, Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


async def confirm(page: Page, verb: str) -> None:
    await page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()


async def test_what_fits_a_field_of_the_payload_is_discarded_its_count_shown_first(
    project: Project, open_page: Open
) -> None:
    for name in ("ann", "bob", "ann"):
        project.enqueue("parcels", {"to": {"name": name}})
    page = await open_page("/queues/parcels")
    await expect(page.get_by_text("3 messages")).to_be_visible()
    await page.get_by_role("searchbox", name="Field of the payload").fill("to.name")
    await page.get_by_role("searchbox", name="Value of the field").fill("ann")
    await expect(page.get_by_text("2 found")).to_be_visible()
    await page.get_by_role("button", name="Discard all that fit").click()
    await expect(page.get_by_role("dialog")).to_contain_text("2 messages are removed for good")
    await confirm(page, "Discard 2")
    await expect(page.get_by_text("No message fits")).to_be_visible()
    await page.goto("/#/queues/parcels")
    await expect(page.get_by_text("1 message", exact=True)).to_be_visible()
    await expect(row(page, "bob")).to_be_visible()


async def test_a_dead_letter_is_edited_and_sent_again(project: Project, open_page: Open) -> None:
    id = project.enqueue("hostile", {"text": "edit me"})
    page = await open_page(f"/messages/{id}")
    why = page.locator("[data-why=dead]")
    await expect(why).to_contain_text("Why it died")
    await expect(why).to_contain_text("ValueError: edit me")
    await page.get_by_role("button", name="Edit and enqueue again").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("textbox", name="Payload").fill('{"text": "edited"}')
    await expect(dialog.get_by_role("button", name=re.compile(f"iii queue resend {id}"))).to_be_visible()
    await dialog.get_by_role("button", name="Replace and enqueue").click()
    await expect(page.get_by_text("the old message is gone")).to_be_visible()
    await expect(page.locator("[data-why=dead]")).to_contain_text("ValueError: edited")
    await page.goto(f"/#/messages/{id}")
    await expect(page.get_by_text("This message is not in the store")).to_be_visible()


async def test_a_message_behind_another_of_its_group_names_it(project: Project, open_page: Open) -> None:
    first, behind = (project.enqueue("nobody.groups", {"n": n}, group="g") for n in (1, 2))
    page = await open_page(f"/messages/{behind}")
    await expect(page.locator("[data-why=group]")).to_contain_text(
        f'Message {first} is before it in group "g"'
    )


async def test_a_cron_is_run_now_and_its_run_is_listed(open_page: Open) -> None:
    page = await open_page("/cron")
    await expect(page.get_by_text("every day at 02:00 UTC")).to_be_visible()
    times = page.get_by_role("list", name="After that").get_by_role("listitem")
    await expect(times).to_have_text([re.compile(r", 02:00 UTC$")] * 4)
    await page.get_by_role("button", name="Run now").click()
    await confirm(page, "Run now")
    runs = page.get_by_role("list", name="Last runs").get_by_role("listitem")
    await expect(runs).to_have_count(1)
    await runs.get_by_role("link").click()
    await expect(page.get_by_role("region", name="Waterfall")).to_contain_text("Cleanup completed")


async def test_a_route_is_asked_from_its_schema_and_its_trace_followed(open_page: Open) -> None:
    page = await open_page("/http?q=/messages")
    body = page.get_by_role("textbox", name="Body")
    await expect(body).to_have_value(re.compile('"priority"'))
    await body.fill('{"text": ""}')
    await page.get_by_role("button", name="Send").click()
    answer = page.get_by_role("status", name="Response")
    await expect(answer.locator(".status")).to_have_text("400")
    await body.fill('{"text": "from the builder", "priority": "high"}')
    await page.get_by_role("button", name="Send").click()
    await expect(answer.locator(".status")).to_have_text("200")
    await answer.get_by_role("link", name="See its trace").click()
    await expect(page.get_by_role("region", name="Waterfall")).to_contain_text("NotifyCompletion")


async def test_log_lines_come_as_they_are_written_and_are_filtered(project: Project, open_page: Open) -> None:
    page = await open_page("/logs?step=Hostile&level=error")
    await expect(page.get_by_text("Only step")).to_be_visible()
    line = page.get_by_role("list", name="Log lines").get_by_text("written just now", exact=True)
    await expect(line).to_have_count(0)
    project.enqueue("hostile", {"text": "written just now"})
    await line.first.click()
    await expect(page.get_by_role("complementary", name="The line")).to_contain_text("Hostile")
    await page.get_by_role("searchbox", name="Search logs").fill("nobody wrote this")
    await expect(page.get_by_text("No line fits")).to_be_visible()
