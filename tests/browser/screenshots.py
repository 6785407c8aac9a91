"""The pictures of docs/console.md, of a busy example: each page it shows, dark or light, wide or narrow.

    python tests/browser/screenshots.py                    # into docs/console, of two minutes of work
    python tests/browser/screenshots.py FOLDER ADDRESS     # all pages, of a console that runs there

Wants playwright and Debian's chromium. Says what was logged as an error, and which page scrolls sideways, and
exits 1 where there was any.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chromium import CHROMIUM, FLAGS
from demo import Demo
from playwright.sync_api import Browser, Page, sync_playwright

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "console.md"
DEMO = Path("/tmp/messages")  # shown on the pages
BUSY_S = 120
SIZES = {1280: 800, 400: 820}
SCHEMES = ("dark", "light")
SETTLE_MS, RATES_MS = 700, 4_000
CHOSEN_STEP, CHOSEN_NAMESPACE, LAST_STEP = "SendInvoice", "messages", "NotifyCompletion"
HEIGHTS = {"flow": 1000}


def ask(base: str, path: str) -> Any:
    with urlopen(f"{base}/api/{path}", timeout=10) as answer:
        return json.load(answer)


def pages(base: str) -> Iterator[tuple[str, str]]:
    """(name, hash) of each page; of those that show one thing, the demo's, or the first there is."""
    for name in ("flow", "traces", "runs", "queues", "dead", "state", "cron", "http", "steps"):
        yield name, f"/{name}"
    yield from (("overview", "/"), ("logs", "/logs"), ("instances", "/instances"), ("config", "/config"))
    yield "audit", "/audit"
    for trace in ask(base, f"traces?limit=1&outcome=done&step={LAST_STEP}")["traces"]:
        yield "trace", f"/traces/{trace['trace_id']}"
    for trace in ask(base, "traces?limit=1&outcome=dead")["traces"]:
        yield "trace-dead", f"/traces/{trace['trace_id']}"
    for queue in ask(base, "queues")["queues"][:1]:
        yield "messages", f"/queues/{quote(queue['topic'], safe='')}"
    for group in ask(base, "dead?by=error")["groups"][:1]:
        yield "dead-topic", f"/queues/{quote(group['topic'], safe='')}"
        yield "message", f"/messages/{group['sample_id']}"
    for behind in ask(base, "queues/newsletter.send/messages?state=behind")["messages"][:1]:
        yield "message-waits", f"/messages/{behind['id']}"
    steps = [step["name"] for step in ask(base, "steps")["steps"]]
    for name in sorted(steps, key=lambda name: name != CHOSEN_STEP)[:1]:
        yield "step", f"/steps/{quote(name, safe='')}"
    names = [each["name"] for each in ask(base, "state")["namespaces"]]
    for name in sorted(names, key=lambda name: name != CHOSEN_NAMESPACE)[:1]:
        path = quote(name, safe="")
        yield "keys", f"/state/{path}"
        for entry in ask(base, f"state/{path}?limit=1")["entries"]:
            yield "value", f"/state/{path}/{quote(entry['key'], safe='')}"


def take(browser: Browser, base: str, folder: Path, scheme: Any, width: int, wanted: set[str]) -> list[str]:
    """wanted: the names of the files to make; none: all."""
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": SIZES[width]}, reduced_motion="reduce"
    )
    page = context.new_page()
    found: list[str] = []
    where = f"{scheme} {width}"
    page.on("pageerror", lambda error: found.append(f"{where}: {error.message}"))
    page.on("console", lambda line: found.append(f"{where}: {line.text}") if line.type == "error" else None)
    page.goto(f"{base}/")
    page.wait_for_timeout(RATES_MS)
    for name, hash in pages(base):
        file = f"{name}-{width}-{scheme}.png"
        if not wanted or file in wanted:
            page.set_viewport_size({"width": width, "height": HEIGHTS.get(name, SIZES[width])})
            found += [f"{where} {name}: {fault}" for fault in show(page, f"{base}/#{hash}")]
            page.screenshot(path=folder / file)
    context.close()
    return found


def show(page: Page, address: str) -> Iterator[str]:
    page.goto(address)
    page.wait_for_selector("main h1, main .callout")
    page.wait_for_timeout(SETTLE_MS)
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if over > 0:
        yield f"scrolls sideways by {over} px"


@contextmanager
def busy_demo() -> Iterator[str]:
    DEMO.mkdir()
    demo = Demo(DEMO)
    try:
        demo.go_on(BUSY_S)
        yield demo.console_address
    finally:
        demo.end()
        shutil.rmtree(DEMO)


def main(folder: Path, base: str, wanted: set[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        found = [
            fault
            for scheme in SCHEMES
            for width in SIZES
            for fault in take(browser, base, folder, scheme, width, wanted)
        ]
        browser.close()
    sys.stderr.writelines(f"{fault}\n" for fault in found)
    missing = {name for name in wanted if not (folder / name).exists()}
    sys.stderr.writelines(f"not taken: {name}\n" for name in sorted(missing))
    return 1 if found or missing else 0


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2].rstrip("/"), set()))
    shown = set(re.findall(r"console/([\w-]+\.png)", DOCUMENT.read_text()))
    with busy_demo() as address:
        status = main(DOCUMENT.parent / "console", address, shown)
    sys.exit(status)
