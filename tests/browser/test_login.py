"""A console that asks for a token."""

from __future__ import annotations

import pytest
from browser_project import TOKEN, Project
from playwright.async_api import Browser, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_signing_out_ends_the_session_in_every_window(
    browser: Browser, locked_project: Project
) -> None:
    context = await browser.new_context(base_url=locked_project.console_address)
    one, other = await context.new_page(), await context.new_page()
    await one.goto("/#/queues")
    await one.get_by_label("Token").fill(TOKEN)
    await one.get_by_role("button", name="Sign in").click()
    await other.goto("/#/queues")
    await expect(other.get_by_role("heading", name="Queues")).to_be_visible()
    [cookie] = await context.cookies()
    kept = {"cookie": f"{cookie['name']}={cookie['value']}"}

    await one.get_by_role("button", name="Sign out").click()
    await expect(one.get_by_label("Token")).to_be_visible()
    assert await context.cookies() == []
    assert locked_project.console.get("/api/overview", headers=kept).status_code == 401
    await other.reload()
    await expect(other.get_by_label("Token")).to_be_visible()
    await context.close()


async def test_the_token_opens_the_console_and_who_guesses_is_told_to_wait(
    browser: Browser, locked_project: Project
) -> None:
    guesser, owner = [await browser.new_context(base_url=locked_project.console_address) for _ in range(2)]
    page, other = await owner.new_page(), await guesser.new_page()
    await page.goto("/#/queues")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Queues")).to_be_visible()

    await other.goto("/#/queues")
    for number in range(4):
        await other.get_by_label("Token").fill(f"guess {number}")
        await other.get_by_role("button", name="Sign in").click()
        await expect(other.get_by_role("alert")).to_have_text("This is not the token.")
    async with other.expect_response(lambda response: response.status == 429):
        for number in range(4, 8):
            await other.get_by_label("Token").fill(f"guess {number}")
            await other.get_by_label("Token").press("Enter")
    await expect(other.get_by_role("alert")).to_contain_text(
        "Too many wrong tokens from this address; try again in"
    )

    await page.reload()
    await expect(page.get_by_role("heading", name="Queues")).to_be_visible()
    for context in (guesser, owner):
        await context.close()
