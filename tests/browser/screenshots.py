"""Screenshots of each page of a running console, dark and light, wide and narrow.

    python tests/browser/screenshots.py http://127.0.0.1:3113 docs/console

Wants playwright and Debian's chromium. What the pages show is whatever the engine has: send it some work
first. Says what was logged as an error, and which page scrolls sideways, and exits 1 where there was any.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from chromium import CHROMIUM, FLAGS
from playwright.sync_api import Browser, Page, sync_playwright

SIZES = {1280: 800, 400: 820}
SCHEMES = ("dark", "light")
SETTLE_MS = 700


def ask(base: str, path: str) -> Any:
    with urlopen(f"{base}/api/{path}", timeout=10) as answer:
        return json.load(answer)


def pages(base: str) -> Iterator[tuple[str, str]]:
    """(name, hash) of each page; of those that show one thing, the first there is."""
    for name in ("flow", "traces", "runs", "queues", "dead", "state", "cron", "http", "steps"):
        yield name, f"/{name}"
    yield from (("overview", "/"), ("logs", "/logs"), ("instances", "/instances"), ("config", "/config"))
    yield "audit", "/audit"
    for trace in ask(base, "traces?limit=1")["traces"]:
        yield "trace", f"/traces/{trace['trace_id']}"
    for trace in ask(base, "traces?limit=1&outcome=dead")["traces"]:
        yield "trace-dead", f"/traces/{trace['trace_id']}"
    for queue in ask(base, "queues")["queues"][:1]:
        yield "messages", f"/queues/{quote(queue['topic'], safe='')}"
    for group in ask(base, "dead?by=error")["groups"][:1]:
        yield "dead-topic", f"/queues/{quote(group['topic'], safe='')}"
        yield "message", f"/messages/{group['sample_id']}"
    for step in ask(base, "steps")["steps"][:1]:
        yield "step", f"/steps/{quote(step['name'], safe='')}"
    for namespace in ask(base, "state")["namespaces"][:1]:
        path = quote(namespace["name"], safe="")
        yield "keys", f"/state/{path}"
        for entry in ask(base, f"state/{path}?limit=1")["entries"]:
            yield "value", f"/state/{path}/{quote(entry['key'], safe='')}"


def take(browser: Browser, base: str, folder: Path, scheme: Any, width: int) -> list[str]:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": SIZES[width]}, reduced_motion="reduce"
    )
    page = context.new_page()
    found: list[str] = []
    where = f"{scheme} {width}"
    page.on("pageerror", lambda error: found.append(f"{where}: {error.message}"))
    page.on("console", lambda line: found.append(f"{where}: {line.text}") if line.type == "error" else None)
    page.goto(f"{base}/")
    for name, hash in pages(base):
        found += [f"{where} {name}: {fault}" for fault in show(page, f"{base}/#{hash}")]
        page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")
    context.close()
    return found


def show(page: Page, address: str) -> Iterator[str]:
    page.goto(address)
    page.wait_for_selector("main h1, main .callout")
    page.wait_for_timeout(SETTLE_MS)
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if over > 0:
        yield f"scrolls sideways by {over} px"


def main(base: str, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        found = [
            fault
            for scheme in SCHEMES
            for width in SIZES
            for fault in take(browser, base, folder, scheme, width)
        ]
        browser.close()
    sys.stdout.write("".join(f"{fault}\n" for fault in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/"), Path(sys.argv[2])))
