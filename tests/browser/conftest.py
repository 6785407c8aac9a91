"""One chromium and one engine for all tests here; where there is no chromium they are left out, and named."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from browser_project import CONFIG, TOKEN, Figures, Open, Project, fill
from chromium import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page

WAIT_MS = 30_000
HERE = Path(__file__).parent
TESTS = [
    name
    for path in sorted(HERE.glob("test_*.py"))
    for name in re.findall(r"def (test_\w+)", path.read_text())
]
MISSING = [
    *([] if CHROMIUM.exists() else [f"no {CHROMIUM} (apt-get install chromium)"]),
    *([] if find_spec("playwright") else ["no playwright (pip install --group test)"]),
]
collect_ignore_glob = ["test_*.py"] if MISSING else []
FIGURES: Figures = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for figure in FIGURES:
        terminalreporter.write_line(figure)
    if MISSING:
        reason = " and ".join(MISSING)
        terminalreporter.write_line(f"left out, {reason}: the browser tests {', '.join(TESTS)}")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    running = Project(tmp_path_factory.mktemp("browser"))
    yield running
    running.end()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        await chromium.close()


@pytest.fixture(scope="session")
def large_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose store holds a namespace of KEYS keys when it starts."""
    folder = tmp_path_factory.mktemp("large")
    fill(folder / "data")
    running = Project(folder)
    yield running
    running.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def locked_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose console asks for TOKEN."""
    running = Project(tmp_path_factory.mktemp("locked"), f"{CONFIG}console: {{token: {TOKEN}}}\n")
    yield running
    running.end()


@pytest.fixture
def figures() -> Figures:
    """What is measured without being asserted on: told when all tests have run."""
    return FIGURES


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, project: Project) -> AsyncIterator[Open]:
    async with opening(browser, project) as open_page:
        yield open_page


@pytest_asyncio.fixture(loop_scope="session")
async def open_large(browser: Browser, large_project: Project) -> AsyncIterator[Open]:
    async with opening(browser, large_project) as open_page:
        yield open_page


@asynccontextmanager
async def opening(browser: Browser, project: Project) -> AsyncIterator[Open]:
    """Opens a page of the console by its hash, each in a session of its own; at the end none has a fault."""
    from playwright.async_api import expect

    expect.set_options(timeout=WAIT_MS)
    faults: list[str] = []
    contexts = []

    async def open_page(hash: str, script: str = "") -> Page:
        context = await browser.new_context(
            viewport={"width": 1280, "height": 800}, base_url=project.console_address, reduced_motion="reduce"
        )
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = await context.new_page()
        if script:
            await page.add_init_script(script)
        page.on("pageerror", lambda error: faults.append(f"uncaught: {error.message}"))
        page.on("console", lambda line: faults.append(line.text) if _is_fault(line) else None)
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        # The stream of events never ends, so a page is loaded when its first events are on their way.
        async with page.expect_response(lambda response: "/api/events" in response.url):
            await page.goto(f"/#{hash}")
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert faults == []


def _is_fault(line: ConsoleMessage) -> bool:
    """That something is not there, or has changed, is an answer of the API."""
    is_answer = re.search(r"status of 40[49]", line.text) and "/api/" in line.location["url"]
    return line.type in ("error", "warning") and not is_answer
