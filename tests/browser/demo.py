"""What the pictures show: the example and two steps more, two instances, and somebody who keeps them busy."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from pathlib import Path

import httpx
from browser_project import Project

PER_S = 8
CONFIG = """
store: {path: data}
instances: 2
queues:
  message.sent: {concurrency: 5, retry_delay: 5000, dead_letter_queue: message.failed}
  message.processed: {retention: 1h}
"""
STEPS = {
    "ship_order_step.py": '''"""POST /orders/{number}/ship: its invoice is due."""

from iii import http

config = {
    "name": "ShipOrder",
    "description": "Ships an order, so that its invoice is due",
    "triggers": [http("POST", "/orders/{number}/ship")],
    "enqueues": ["invoice.due"],
}


async def handler(request, ctx):
    await ctx.enqueue("invoice.due", {"number": int(request.path_params["number"]), **request.body})
    return {"status": "shipped"}
''',
    "send_invoice_step.py": '''"""invoice.due: mail an invoice; the mail server does not always answer."""

from iii import queue

config = {
    "name": "SendInvoice",
    "description": "Mails an invoice to its customer",
    "triggers": [queue("invoice.due", config={"max_retries": 1, "retry_delay": 500, "concurrency": 4})],
    "enqueues": ["invoice.sent"],
}


async def handler(invoice, ctx):
    ctx.logger.info("Sending invoice", {"number": invoice["number"], "to": invoice["to"]})
    if invoice["to"].endswith(".invalid"):
        raise ConnectionError("mail server mx.example.invalid:25 refused the connection")
    if invoice["total"] < 0:
        raise ValueError("an invoice's total is never below 0")
    sent = {"to": invoice["to"], "total": invoice["total"], "status": "sent"}
    await ctx.state.set("invoices", str(invoice["number"]), sent)
    await ctx.enqueue("invoice.sent", {"number": invoice["number"]})
''',
    "book_invoice_step.py": '''"""invoice.sent: book it, one at a time."""

from iii import cron, queue

config = {
    "name": "BookInvoice",
    "description": "Books invoices that were sent; sums them up each quarter of an hour",
    "triggers": [queue("invoice.sent"), cron("*/15 * * * *", timezone="Europe/Berlin")],
}


async def handler(input, ctx):
    ctx.logger.info("Booked")
    if ctx.trigger.type == "queue":
        await ctx.state.update("books", "2026", [{"type": "increment", "path": "invoices", "by": 1}])
''',
}


class Demo(Project):
    """Is busy from the start, as long as it runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CONFIG, STEPS)
        self._ended = threading.Event()
        self._busy = threading.Thread(target=self._keep_busy, daemon=True)
        self._prepare()
        self._busy.start()

    def go_on(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def end(self) -> None:
        self._ended.set()
        self._busy.join()
        super().end()

    def _prepare(self) -> None:
        """What waits, and for what."""
        for number in range(3):
            self.enqueue("newsletter.send", {"issue": number}, delay="2h", group="subscribers")
        self.write("settings", "invoices", {"from": "billing@example.com"})
        which = {"topic": "invoice.due"}
        for path, body in (
            ("cron/CleanupMessages/run", {}),
            ("cron/BookInvoice/run", {}),
            ("queues/pause", which),
            ("queues/resume", which),
        ):
            self.console.post(f"/api/{path}", json=body).raise_for_status()

    def _keep_busy(self) -> None:
        dice = random.Random(7)
        number = 7_000
        while not self._ended.wait(dice.expovariate(PER_S)):
            with suppress(httpx.HTTPError):
                self._one(dice, number)
            number += 1

    def _one(self, dice: random.Random, number: int) -> None:
        message = {
            "text": f"Order {number} has shipped",
            "priority": dice.choice(("high", "high", "high", "normal", "low")),
            "metadata": {"source": "shop"},
        }
        self.http.post("/messages", json=message)
        to = dice.choices(("ann@example.com", "bob@example.org", "cy@mx.example.invalid"), (9, 9, 1))[0]
        total = -1 if dice.random() < 0.01 else round(dice.uniform(5, 900), 2)
        self.http.post(f"/orders/{number}/ship", json={"to": to, "total": total})
