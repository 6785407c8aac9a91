"""Names that every object of a browser knows are names like others, in addresses and in what is shown."""

from __future__ import annotations

import pytest
from browser_project import Open, Project
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "__defineGetter__"]


async def test_an_address_of_such_a_name_is_no_page_and_breaks_none(open_page: Open) -> None:
    page = await open_page(f"/{NAMES[0]}")
    for name in NAMES:
        await page.evaluate("(hash) => { location.hash = hash; }", f"#/{name}")
        await expect(page.get_by_text(f'There is no page "{name}"')).to_be_visible()
    await page.get_by_role("link", name="Queues").first.click()
    await expect(page.get_by_role("heading", name="Queues")).to_be_visible()
    for name in NAMES:
        page = await open_page(f"/{name}")
        await expect(page.get_by_text(f'There is no page "{name}"')).to_be_visible()


async def test_a_parameter_of_such_a_name_changes_nothing(project: Project, open_page: Open) -> None:
    project.enqueue("echo", {})
    for name in NAMES:
        page = await open_page(f"/queues?show={name}&{name}=1&__proto__=2")
        await expect(page.get_by_role("row").filter(has_text="Echo")).to_be_visible()


async def test_steps_topics_namespaces_and_keys_may_be_called_so(project: Project, open_page: Open) -> None:
    id = project.enqueue("__proto__", {"__proto__": {"a": 1}, "constructor": [1], "toString": None})
    pages = {
        "/steps/constructor": "constructor",
        "/queues/__proto__": "__proto__",
        "/queues/__proto__.failed": "__proto__",
        "/queues/constructor": "constructor",
        f"/messages/{id}": "__proto__",
        "/dead": "__proto__",
        "/flow": "constructor",
        "/state/__proto__": "constructor",
        "/state/__proto__/__proto__": '"toString"',
        "/state/__proto__/constructor": '"constructor"',
        "/http?at=POST /names/{constructor}": "/names/{constructor}",
        "/runs?step=constructor": "constructor",
        "/logs?q=toString": "toString",
    }
    page = await open_page("/dead")
    await expect(page.get_by_role("listitem").filter(has_text="ValueError: __proto__").first).to_be_visible()
    for hash, text in pages.items():
        page = await open_page(hash)
        await expect(page.get_by_role("main")).to_contain_text(text)
