"""Notes how late each delayed message runs."""

from __future__ import annotations

import time
from typing import Any

from bench.ledger import of_this_process
from iii import queue

config = {"name": "Due", "triggers": [queue("due")]}

ledger = of_this_process()


async def handler(message: Any) -> None:
    ledger.took("late", (time.monotonic_ns() - message["due_ns"]) / 1e6)
    ledger.saw(message["n"])
